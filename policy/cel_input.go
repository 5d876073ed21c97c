package policy

import (
	"errors"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"countersign/approvals"
)

// question is one call as conditions see it. What they do not ask for is not worked out,
// and what they ask for only once. It is for one goroutine.
type question struct {
	config     *Config
	caller     Caller
	onBehalfOf string
	call       approvals.Call
	now        time.Time
	// route is the template of the rule whose condition is being evaluated, and segments the
	// path that it matched.
	route    *template
	segments []string
	// spent is what the conditions have cost so far.
	spent uint64
	// answers are what conditions have said, where that will be asked for again; else nil.
	answers map[asked]answer

	query, queryAll, headers, body, behalf any
}

// asked is the condition of a rule about a path of so many segments: one with a slash at its end is
// asked about with it and without.
type asked struct{ rule, segments int }

// answer is what a condition has said.
type answer struct {
	yes bool
	err error
}

// inputError is something about a call that makes a condition impossible to evaluate. Its
// text holds nothing of the call.
type inputError string

func (e inputError) Error() string { return string(e) }

const (
	errTwice    = inputError("it is given more than once, so that servers may read it in two ways")
	errQuery    = inputError("the query can be read in more than one way")
	errSpelling = inputError("it is given in another spelling, which servers may read as the same")
	errAlike    = inputError("names in the body differ in case only, so that servers may read it in two ways")
	errType     = inputError("the body is not said to be JSON in UTF-8, by one Content-Type at most")
	errJSON     = inputError("the body is not strict JSON")
	errLarge    = inputError("the body is too large for a condition")
	errTooDear  = inputError("it costs too much to evaluate")
	errNoAnswer = inputError("it is neither true nor false")
)

// holds reports whether the condition of a rule is true of a call, whose path has matched
// the rule's route.
// An error means that nothing can be said; it may quote the call, see [condition.why].
func (c *condition) holds(q *question, rule int, route *template, path []string) (bool, error) {
	key := asked{rule: rule, segments: len(path)}
	known, again := q.answers[key]
	if again {
		return known.yes, known.err
	}
	yes, err := c.evaluate(q, route, path)
	if q.answers != nil {
		q.answers[key] = answer{yes: yes, err: err}
	}
	return yes, err
}

func (c *condition) evaluate(q *question, route *template, path []string) (bool, error) {
	if q.spent >= maxCostOfCall {
		return false, errTooDear
	}
	q.route, q.segments = route, path
	out, details, err := c.program.Eval(q)
	if cost := details.ActualCost(); cost != nil {
		q.spent += *cost
	}
	switch {
	case err != nil:
		return false, err
	case out == types.True:
		return true, nil
	case out == types.False:
		return false, nil
	}
	return false, errNoAnswer
}

// Parent implements [cel.Activation]: there is none.
func (q *question) Parent() cel.Activation { return nil }

// ResolveName implements [cel.Activation].
func (q *question) ResolveName(name string) (any, bool) {
	switch name {
	case "method":
		return q.call.Method, true
	case "path":
		return "/" + spell(q.segments), true
	case "vars":
		return q.route.values(q.segments), true
	case "query":
		return once(&q.query, q.oneEach), true
	case "query_all":
		return once(&q.queryAll, q.all), true
	case "headers":
		return once(&q.headers, q.fields), true
	case "body":
		return once(&q.body, q.parsed), true
	case "caller.name":
		return q.caller.Name, true
	case "caller.owners":
		return q.caller.Owners, true
	case "on_behalf_of":
		return once(&q.behalf, q.person), true
	case "now":
		return types.Timestamp{Time: q.now.UTC()}, true
	}
	return nil, false
}

func once(known *any, find func() any) any {
	if *known == nil {
		*known = find()
	}
	return *known
}

// person is whom the caller acts for: the name of that person where there is exactly one,
// so that no alias gets round a condition.
func (q *question) person() any {
	if q.onBehalfOf == "" {
		return ""
	}
	if named := q.config.peopleNamed(q.onBehalfOf); len(named) == 1 {
		return named[0]
	}
	return q.onBehalfOf
}

// values reads the query as a form. What servers read in different ways is an error: a
// broken escape, a semicolon, bytes that are not UTF-8.
func (q *question) values() (*lookup, error) {
	out := newLookup()
	for piece := range strings.SplitSeq(q.call.Query, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		name, nameErr := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if errors.Join(nameErr, valueErr) != nil || strings.Contains(piece, ";") || strings.Count(name, "[") > maxBrackets || !utf8.ValidString(name+value) {
			return nil, errQuery
		}
		out.add(name, value)
	}
	return out, nil
}

func (q *question) oneEach() any {
	values, err := q.values()
	if err != nil {
		return types.WrapErr(err)
	}
	return values
}

func (q *question) all() any {
	values, err := q.values()
	if err != nil {
		return types.WrapErr(err)
	}
	return asMap(values.values, values.doubt)
}

func (q *question) fields() any {
	out := newLookup()
	for _, h := range q.call.Headers {
		out.add(strings.ToLower(h.Name), h.Value)
	}
	return out
}

// maxConditionBody bounds the bodies that conditions look into, in bytes.
const maxConditionBody = 1 << 20

// saysJSON reports whether the call says of its body that it is JSON in UTF-8, or says
// nothing: a server goes by what is said, and so must conditions.
func (q *question) saysJSON() bool {
	var said []string
	for _, h := range q.call.Headers {
		if strings.EqualFold(h.Name, "Content-Type") {
			said = append(said, h.Value)
		}
	}
	if len(said) != 1 {
		return len(said) == 0
	}
	media, params, err := mime.ParseMediaType(said[0])
	charset, named := params["charset"]
	return err == nil && !strings.Contains(said[0], ",") && (media == "application/json" || strings.HasSuffix(media, "+json")) &&
		(!named || strings.EqualFold(charset, "utf-8"))
}

func (q *question) parsed() any {
	switch {
	case len(q.call.Body) == 0:
		return types.NullValue
	case len(q.call.Body) > maxConditionBody:
		return types.WrapErr(errLarge)
	}
	if !q.saysJSON() {
		return types.WrapErr(errType)
	}
	v, err := parseJSON(string(q.call.Body))
	if err != nil {
		return types.WrapErr(err)
	}
	if v == nil {
		return types.NullValue
	}
	return v
}
