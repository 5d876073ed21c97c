package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"countersign/approvals"
	"countersign/policy"
)

// callback checks where the caller wants to be told, and that it is told gladly.
func (o operations) callback(ctx context.Context, x *exchange, c *CallbackRequest) (*approvals.Callback, error) {
	out, endpoint, err := o.callbackOf(x.caller, c)
	if out == nil || err != nil {
		return nil, err
	}
	return out, o.checkAgreed(ctx, x, endpoint, c.URL)
}

// callbackOf checks where a caller wants to be told of what, nil for nowhere. Origins are
// compared parsed, never as prefixes of strings.
func (o operations) callbackOf(caller policy.Caller, c *CallbackRequest) (*approvals.Callback, policy.Endpoint, error) {
	if c == nil {
		return nil, policy.Endpoint{}, nil
	}
	origin, err := o.checkCallback(c.URL)
	if err != nil {
		return nil, policy.Endpoint{}, failItems(codeCallbackRefused, []ProblemItem{item("#/callback/url", err)})
	}
	endpoint, listed := caller.Endpoint(origin)
	if !listed {
		return nil, policy.Endpoint{}, failItems(codeCallbackRefused, []ProblemItem{{
			Pointer: "#/callback/url", Detail: "the URL is not under a callback origin of this caller",
		}})
	}
	out := &approvals.Callback{URL: c.URL, Payload: endpoint.Payload}
	for i, e := range c.Events {
		if !slices.Contains(approvals.CallbackEvents(), e) {
			return nil, policy.Endpoint{}, failItems(codeValidationFailed, []ProblemItem{{
				Pointer: fmt.Sprintf("#/callback/events/%d", i), Detail: unknownEvent(e),
			}})
		}
		if !slices.Contains(out.Events, e) {
			out.Events = append(out.Events, e)
		}
	}
	return out, endpoint, nil
}

func unknownEvent(e approvals.EventType) string {
	detail := "there is no event " + quote(string(e))
	known := make([]string, 0, len(approvals.CallbackEvents()))
	for _, k := range approvals.CallbackEvents() {
		known = append(known, string(k))
	}
	if near := nearest(string(e), known); near != "" {
		detail += " (did you mean " + quote(near) + "?)"
	}
	return detail
}

// checkWords checks what people will read, and finds the person the caller acts for. The
// domain has the last word on limits; here each is reported with its place.
func checkWords(dir approvals.Directory, body SubmitRequest) (person string, err error) {
	var items []ProblemItem
	text := func(pointer, s string, limit int) {
		if why := textMistake(s, limit); why != "" && len(items) < maxItems {
			items = append(items, ProblemItem{Pointer: cut(pointer, maxEcho), Detail: why})
		}
	}
	text("#/justification", body.Justification, approvals.MaxJustification)
	if n := len(body.Metadata); n > approvals.MaxMetadataKeys {
		items = append(items, ProblemItem{
			Pointer: "#/metadata", Detail: fmt.Sprintf("has %d keys, at most %d are allowed", n, approvals.MaxMetadataKeys),
		})
	}
	for _, k := range slices.Sorted(maps.Keys(body.Metadata)) {
		pointer := "#/metadata/" + escapePointer(k)
		text(pointer, k, approvals.MaxMetadataKey)
		text(pointer, body.Metadata[k], approvals.MaxMetadataValue)
	}
	person, known := personOf(dir, body.OnBehalfOf)
	if !known {
		items = append(items, unknownPerson())
	}
	if len(items) > 0 {
		return "", failItems(codeValidationFailed, items[:min(len(items), maxItems)])
	}
	return person, nil
}

func unknownPerson() ProblemItem {
	return ProblemItem{Pointer: "#/on_behalf_of", Detail: "must be the name or e-mail address of a configured person"}
}

func textMistake(s string, limit int) string {
	switch {
	case len(s) > limit:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(s), limit)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsRune(s, 0):
		return "holds a NUL character"
	}
	return ""
}

// personOf finds a person by name or any of their identities, in whatever case, as the
// policy does. It must be somebody who is known: a name that excludes nobody would let a
// person approve what is done on their behalf.
func personOf(dir approvals.Directory, who string) (name string, known bool) {
	if who == "" {
		return "", true
	}
	for _, name := range slices.Sorted(maps.Keys(dir.People)) {
		p := dir.People[name]
		is := func(identity string) bool { return strings.EqualFold(identity, who) }
		if is(name) || is(p.Email) || is(p.Slack) || slices.ContainsFunc(p.Accounts, is) {
			return name, true
		}
	}
	return "", false
}
