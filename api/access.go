package api

import (
	"slices"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/policy"
)

// role is what a person is to what an operation is about. One person can be several.
type role string

const (
	// anybody is every person whom the configuration knows.
	anybody role = "anybody"
	// requester is one of the own people of the caller that it belongs to.
	requester role = "requester"
	// approver is whom the plan of a ticket names, or who has decided on it.
	approver role = "approver"
	// auditor may see everything but what upstreams answered, and change nothing.
	auditor role = "auditor"
	// operator may see everything, and set right what went wrong.
	operator role = "operator"
)

// access says who may do an operation. Handlers find out what somebody is to the one ticket
// or endpoint that is meant. To whom it is nothing, it does not exist.
type access struct {
	// scope is what a caller's key has to be for, one of [policy.Scopes]. "": it is not for
	// callers.
	scope string
	// people are those it is for. None: it is not for people.
	people []role
	// class says which rate limit it counts against.
	class class
}

var (
	ofTheTicket = []role{requester, approver, auditor, operator}
	ofTheResult = []role{requester, operator}

	seeEndpoints  = []role{requester, auditor, operator}
	tendEndpoints = []role{requester, operator}
)

// accessTable is the one place that says who may do what. What is not in it cannot be
// registered. openapi.yaml says the same as x-access, and the tests compare the two and try
// every cell.
var accessTable = map[string]access{
	"submitTicket":     {scope: policy.ScopeSubmit, class: submits},
	"listTickets":      {scope: policy.ScopeRead, people: []role{anybody}},
	"getTicket":        {scope: policy.ScopeRead, people: ofTheTicket},
	"getTicketResult":  {scope: policy.ScopeRead, people: ofTheResult},
	"listTicketEvents": {scope: policy.ScopeRead, people: ofTheTicket},
	"listEvents":       {scope: policy.ScopeRead, people: []role{auditor, operator}},
	"cancelTicket":     {scope: policy.ScopeCancel},
	"decideTicket":     {people: []role{approver}},
	"askTicket":        {people: []role{approver}},
	"answerTicket":     {scope: policy.ScopeAnswer, people: []role{requester}},
	"resolveTicket":    {people: []role{operator}},
	"proxyGet":         {scope: policy.ScopeSubmit, class: submits},
	"proxyHead":        {scope: policy.ScopeSubmit, class: submits},
	"proxyPost":        {scope: policy.ScopeSubmit, class: submits},
	"proxyPut":         {scope: policy.ScopeSubmit, class: submits},
	"proxyPatch":       {scope: policy.ScopeSubmit, class: submits},
	"proxyDelete":      {scope: policy.ScopeSubmit, class: submits},
	"proxyOptions":     {scope: policy.ScopeSubmit, class: submits},
	"explainCall":      {scope: policy.ScopeSubmit, people: []role{requester, operator}},

	"listCallbackEndpoints":          {scope: policy.ScopeCallbacks, people: []role{anybody}},
	"getCallbackEndpoint":            {scope: policy.ScopeCallbacks, people: seeEndpoints},
	"verifyCallbackEndpoint":         {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"enableCallbackEndpoint":         {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"disableCallbackEndpoint":        {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"testCallbackEndpoint":           {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"recoverCallbackEndpoint":        {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"getCallbackEndpointStats":       {scope: policy.ScopeCallbacks, people: seeEndpoints},
	"listCallbackEndpointDeliveries": {scope: policy.ScopeCallbacks, people: seeEndpoints},
	"listDeliveries":                 {scope: policy.ScopeCallbacks, people: []role{anybody}},
	"getDelivery":                    {scope: policy.ScopeCallbacks, people: seeEndpoints},
	"redeliverDelivery":              {scope: policy.ScopeCallbacks, people: tendEndpoints},
	"redeliverDeliveries":            {scope: policy.ScopeCallbacks, people: []role{anybody}},
}

// accessOf is the row of an operation. One without a row is a mistake of ours that is to be
// found before anything is served.
func accessOf(operation string) access {
	a, listed := accessTable[operation]
	if !listed {
		panic("api: say in accessTable, and as x-access in openapi.yaml, who may do " + operation)
	}
	return a
}

// admit lets through whom an operation can be for at all: callers whose key is for it, or
// people.
func (a access) admit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := a.refusal(exchangeOf(c.Request().Context())); err != nil {
			return err
		}
		return next(c)
	}
}

func (a access) refusal(x *exchange) error {
	switch {
	case x.person.Name != "" && len(a.people) == 0:
		return fail(codeNotACaller, "this takes the key of a caller, csk_…; people approve calls and do not make them")
	case x.person.Name != "":
		return nil
	case a.scope == "":
		return fail(codeNotAPerson, "this takes the key or token of a person; callers do not decide on calls")
	case !x.apiKey.May(a.scope):
		return fail(codeScopeMissing, "this key lacks the scope %q", a.scope)
	}
	return nil
}

// operator reports whether a person who may resolve what is in doubt asks.
func (x *exchange) operator() bool {
	return x.person.Name != "" && x.config.Operator(x.person.Name)
}

// auditor reports whether a person who may read everything asks.
func (x *exchange) auditor() bool {
	return x.person.Name != "" && x.config.Auditor(x.person.Name)
}

// oversees reports whether every ticket is there for the person who asks.
func (x *exchange) oversees() bool { return x.operator() || x.auditor() }

// sees reports whether the person who asks may see a ticket: its plan names them, they have
// decided on it, they are of its requester's own people, or they oversee all. A caller sees
// nothing here: its tickets are found by its name.
func (x *exchange) sees(t approvals.Ticket) bool {
	if x.person.Name == "" {
		return false
	}
	return x.oversees() || x.requester(t) || x.enrolled(t) || x.decided(t)
}

// owns reports whether the person who asks is among the owners of a caller.
func (x *exchange) owns(caller string) bool {
	return x.person.Name != "" && slices.Contains(x.config.Directory().Owners[caller], x.person.Name)
}

// narrow takes from a caller the upstreams that its key is not for. Methods are for mayCall.
func narrow(caller policy.Caller, key policy.CallerKey) policy.Caller {
	if len(key.Upstreams) > 0 {
		caller.Upstreams = slices.DeleteFunc(slices.Clone(caller.Upstreams), func(name string) bool {
			return !slices.Contains(key.Upstreams, name)
		})
	}
	return caller
}

// mayCall refuses a call that the key of the caller is not for, though its caller may make
// it. Of a caller's tickets, those of other keys too may be seen: what is narrower is only
// what can be asked for.
func (x *exchange) mayCall(call approvals.Call) error {
	if x.apiKey.MayCall(call.Upstream, call.Method) {
		return nil
	}
	f := failItems(codeUpstreamMethod, []ProblemItem{{
		Pointer: "#/method", Detail: "this key is for: " + list(x.apiKey.Methods),
	}})
	f.allowed = x.apiKey.Methods
	return f
}

// maySupersede refuses to let a key take a call back by another one when it may not take it
// back otherwise.
func (x *exchange) maySupersede(ticket string) error {
	if ticket == "" || x.apiKey.May(policy.ScopeCancel) {
		return nil
	}
	return fail(codeScopeMissing, "this key lacks the scope %q: to supersede a ticket is to cancel it", policy.ScopeCancel)
}
