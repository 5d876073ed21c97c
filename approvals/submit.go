package approvals

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the domain, in bytes unless said otherwise. Every free text on every verb
// has one.
const (
	MaxJustification = 4096
	MaxComment       = 1000
	MaxQuestion      = 1500
	MaxAnswer        = 4096
	MaxMetadataKeys  = 32
	MaxMetadataKey   = 64
	MaxMetadataValue = 512
	// MaxDetail bounds what a worker says went wrong; more is cut, not refused.
	MaxDetail      = 1000
	MaxName        = 320 // of a caller, an upstream, or whom the call is made for
	MaxRef         = 600 // of the key or token that a submission came with
	MaxMethod      = 32
	MaxPath        = 8192
	MaxQuery       = 16384
	MaxHeaders     = 100
	MaxHeaderName  = 256
	MaxHeaderValue = 8192
	MaxBody        = 16 << 20
	MaxCallbackURL = 2048
)

// Callback is where a caller wants to be told, and of what besides the end.
type Callback struct {
	URL    string      `json:"url"`
	Events []EventType `json:"events,omitempty"`
	// Payload says how much of a result its callbacks carry: [PayloadFull], [PayloadThin], or
	// "" for what is small.
	Payload string `json:"payload,omitempty"`
}

func (c *Callback) wants(typ EventType) bool {
	if c == nil || !slices.Contains(CallbackEvents(), typ) {
		return false // a delivery that asked for news of deliveries would never end
	}
	if typ.final() || typ == EventStalled {
		return true
	}
	return slices.Contains(c.Events, typ)
}

func (c *Callback) check() error {
	if c == nil {
		return nil
	}
	if err := checkText("callback.url", c.URL, MaxCallbackURL); err != nil {
		return err
	}
	if len(c.Events) > len(CallbackEvents()) {
		return refuse(CodeInvalid, "callback.events names %d events, there are %d", len(c.Events), len(CallbackEvents()))
	}
	for _, e := range c.Events {
		if !slices.Contains(CallbackEvents(), e) {
			return refuse(CodeInvalid, "callback.events names an event that is not sent to callbacks")
		}
	}
	return nil
}

// Submission is a call as a caller hands it in, already authenticated and parsed.
type Submission struct {
	ID     string
	Caller string
	// Ref says which of the caller's keys or tokens it came with, for the record. "": its only
	// key.
	Ref           string
	OnBehalfOf    string
	Call          Call
	Justification string
	Metadata      map[string]string
	Callback      *Callback
	// NotBefore is when the call may be made at the earliest. Zero: as soon as approved.
	NotBefore time.Time
	// Supersedes is the ticket of the same caller whose place this one takes. Whoever
	// commits this one closes that one, by [Ticket.Supersede], in the same transaction.
	Supersedes string
}

// MaxDelay is how far ahead a call can be scheduled.
const MaxDelay = 30 * 24 * time.Hour

// Submit opens a ticket under a plan. An allow rule leads straight to approved, a deny
// rule, or none, to denied; a plan that nobody can meet is refused with
// CodeUnsatisfiable, and anything over its limit with CodeInvalid. The owners of the
// caller and the person it acts for are frozen into the plan as excluded.
func Submit(s Submission, plan Plan, dir Directory, now time.Time) (Transition, error) {
	o, err := Accept(s, plan, dir.At(now))
	if err != nil {
		return Transition{}, err
	}
	return o.Open(now), nil
}

// Accepted is a submission that has passed every check and waits for its hour.
type Accepted struct {
	submission Submission
	plan       Plan
	dir        Directory
	// short is set when those who are asked first cannot complete the first stage.
	short bool
}

// Accept is the part of [Submit] that does not depend on the database's clock, so that a
// refusal costs no round trip and what is accepted is checked once. dir says by its
// [Directory.At] who is away.
func Accept(s Submission, plan Plan, dir Directory) (Accepted, error) {
	if err := s.check(); err != nil {
		return Accepted{}, err
	}
	if s.Callback != nil && len(s.Callback.Events) == 0 {
		s.Callback = &Callback{URL: s.Callback.URL, Payload: s.Callback.Payload} // one form of none, whatever it went through
	}
	if s.Supersedes != "" && !ValidTicketID(s.Supersedes) {
		return Accepted{}, refuse(CodeInvalid, "supersedes is not the id of a ticket")
	}
	s.NotBefore = instant(s.NotBefore)
	plan = plan.freeze(dir, dir.Owners[s.Caller], dir.known(s.OnBehalfOf))
	if err := plan.Check(dir); err != nil {
		return Accepted{}, err
	}
	if err := plan.checkTimes(); err != nil {
		return Accepted{}, err
	}
	return Accepted{submission: s, plan: plan, dir: dir, short: plan.short(dir)}, nil
}

// Open opens the ticket.
func (a Accepted) Open(now time.Time) Transition {
	s, plan := a.submission, a.plan
	now = instant(now)
	expires := instant(now.Add(max(plan.ExpiresIn, time.Microsecond)))
	actor := Actor{Kind: ActorCaller, Name: s.Caller, Via: "api", Ref: s.Ref}
	c := Ticket{Call: s.Call}.change(actor, now)
	c.ticket.ID = s.ID
	c.record(EventCreated, Pending, Data{Created: s.created(plan, expires)})
	c.begin(plan)
	if a.short {
		c.reassess(a.dir.At(now))
	}
	return c.done()
}

func (c *change) begin(plan Plan) {
	rule := Actor{Kind: ActorPolicy, Name: plan.Rule}
	switch plan.Action {
	case ActionAllow:
		c.actor = rule
		c.approve("allowed by rule")
	case ActionApprove:
		c.notify()
		c.arm()
	case ActionDeny:
		c.actor = rule
		c.record(EventDenied, Denied, Data{
			Reason:  plan.Reason,
			Problem: &Problem{Code: "denied_by_policy", Detail: plan.Reason},
		})
	}
}

func (s Submission) created(plan Plan, expires time.Time) *CreatedData {
	out := &CreatedData{
		Caller: s.Caller, OnBehalfOf: s.OnBehalfOf, Upstream: s.Call.Upstream,
		Method: s.Call.Method, Path: s.Call.Path, Query: s.Call.Query,
		BodyDigest: s.Call.BodyDigest(), BodyBytes: len(s.Call.Body),
		Digest:        s.binding(plan.UpstreamDigest, expires).Digest(),
		Justification: s.Justification, Metadata: s.Metadata, Callback: s.Callback,
		Plan: plan, ExpiresAt: expires, NotBefore: s.NotBefore, Supersedes: s.Supersedes,
	}
	for _, h := range s.Call.Headers {
		out.HeaderNames = append(out.HeaderNames, h.Name)
	}
	return out
}

func (s Submission) binding(upstreamDigest string, expires time.Time) Binding {
	b := Binding{
		Caller: s.Caller, OnBehalfOf: s.OnBehalfOf, Call: s.Call,
		UpstreamDigest: upstreamDigest, ExpiresAt: expires, NotBefore: s.NotBefore,
	}
	if s.Callback != nil {
		b.CallbackURL = s.Callback.URL
	}
	return b
}

// Binding returns what the ticket's approvals are bound to, with the upstream's
// configuration as it is now. Its digest must equal the ticket's when the call is made.
func (t Ticket) Binding(upstreamDigest string) Binding {
	s := Submission{Caller: t.Caller, OnBehalfOf: t.OnBehalfOf, Call: t.Call, Callback: t.Callback, NotBefore: t.NotBefore}
	return s.binding(upstreamDigest, t.ExpiresAt)
}

func (s Submission) check() error {
	for _, f := range []struct {
		what, text string
		limit      int
	}{
		{"caller", s.Caller, MaxName},
		{"ref", s.Ref, MaxRef},
		{"on_behalf_of", s.OnBehalfOf, MaxName},
		{"justification", s.Justification, MaxJustification},
	} {
		if err := checkText(f.what, f.text, f.limit); err != nil {
			return err
		}
	}
	if err := s.Call.check(); err != nil {
		return err
	}
	if err := s.Callback.check(); err != nil {
		return err
	}
	if len(s.Metadata) > MaxMetadataKeys {
		return refuse(CodeInvalid, "metadata has %d keys, at most %d are allowed", len(s.Metadata), MaxMetadataKeys)
	}
	for k, v := range s.Metadata {
		if err := checkText("a metadata key", k, MaxMetadataKey); err != nil {
			return err
		}
		if err := checkText("metadata."+k, v, MaxMetadataValue); err != nil {
			return err
		}
	}
	return nil
}

func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return refuse(CodeInvalid, "%s is %d bytes long, at most %d are allowed", what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return refuse(CodeInvalid, "%s is not valid UTF-8", what)
	}
	if strings.ContainsRune(s, 0) {
		return refuse(CodeInvalid, "%s holds a NUL character", what)
	}
	return nil
}

// clean makes the words of a machine fit for the audit trail. They are cut and mended
// rather than refused: the fact they come with must be recorded.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= MaxDetail {
		return s
	}
	return strings.ToValidUTF8(s[:MaxDetail], "")
}
