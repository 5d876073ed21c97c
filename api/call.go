package api

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign/approvals"
	"countersign/policy"
)

// call turns a submit into the call that would be made, and refuses what the caller may
// not ask for and what could not be sent.
func (o operations) call(config *policy.Config, caller policy.Caller, body SubmitRequest) (approvals.Call, error) {
	upstream, err := upstreamOf(config, caller, body.Upstream, body.Method)
	if err != nil {
		return approvals.Call{}, err
	}
	call := approvals.Call{Upstream: upstream.Name, Method: body.Method, Path: body.Path, Query: rawQuery(body.Query)}
	var items []ProblemItem
	call.Body, items = bodyOf(body)
	var wrong []ProblemItem
	call.Headers, wrong = o.headersOf(upstream, body)
	return o.sendable(call, append(items, wrong...))
}

// sendable refuses a call that could not be sent as it is, with all that is wrong with it:
// items, and what is found here.
func (o operations) sendable(call approvals.Call, items []ProblemItem) (approvals.Call, error) {
	if err := o.checkCall(call.Path, "", nil); err != nil {
		items = append(items, item("#/path", err))
	}
	if err := o.checkCall("/", call.Query, nil); err != nil {
		items = append(items, item("#/query", err))
	}
	if len(items) == 0 {
		if err := o.checkCall(call.Path, call.Query, call.Headers); err != nil {
			items = append(items, item("#/headers", err))
		}
	}
	if len(items) > 0 {
		return approvals.Call{}, failItems(codeCallInvalid, items[:min(len(items), maxItems)])
	}
	return call, nil
}

func item(pointer string, err error) ProblemItem {
	return ProblemItem{Pointer: cut(pointer, maxEcho), Detail: cut(err.Error(), maxEcho)}
}

// upstreamOf answers alike for an upstream that is not open to the caller and one that
// does not exist: names of upstreams are nobody's business.
func upstreamOf(config *policy.Config, caller policy.Caller, name, method string) (policy.Upstream, error) {
	upstream, exists := config.Upstream(name)
	if !exists || !config.MayUse(caller, name) {
		allowed := slices.Sorted(slices.Values(caller.Upstreams))
		f := failItems(codeUpstreamNotAllowed, []ProblemItem{{
			Pointer: "#/upstream", Detail: "no upstream of this name is open to this caller",
		}})
		f.detail, f.allowed = "this caller may use: "+list(allowed), allowed
		return policy.Upstream{}, f
	}
	if !slices.Contains(upstream.Methods, method) {
		f := failItems(codeUpstreamMethod, []ProblemItem{{
			Pointer: "#/method", Detail: "this upstream is open for: " + list(upstream.Methods),
		}})
		f.allowed = upstream.Methods
		return policy.Upstream{}, f
	}
	return upstream, nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// rawQuery encodes parameters the same way every time: sorted by name, values in their
// order, a space as %20.
func rawQuery(query map[string]QueryValues) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(query)) {
		for _, value := range query[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(escape(name) + "=" + escape(value))
		}
	}
	return b.String()
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// bodyOf returns the bytes to be sent: those of the JSON as they stand in the submit, or
// those in base64.
func bodyOf(body SubmitRequest) ([]byte, []ProblemItem) {
	asJSON := hasJSON(body)
	switch {
	case asJSON && body.BodyBase64 != nil:
		return nil, []ProblemItem{{Pointer: "#/body_base64", Detail: "body and body_base64 exclude each other"}}
	case asJSON:
		return body.Body, nil
	case body.BodyBase64 == nil:
		return nil, nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(*body.BodyBase64)
	if err != nil || strings.ContainsAny(*body.BodyBase64, "\r\n") {
		return nil, []ProblemItem{{Pointer: "#/body_base64", Detail: "must be standard base64 with padding"}}
	}
	return raw, nil
}

func hasJSON(body SubmitRequest) bool { return len(body.Body) > 0 && string(body.Body) != "null" }

// headersOf returns the header fields of the call, sorted by name. Content-Type describes
// a JSON body even where callers may not set it.
func (o operations) headersOf(upstream policy.Upstream, body SubmitRequest) ([]approvals.Header, []ProblemItem) {
	var out []approvals.Header
	var items []ProblemItem
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(body.Headers)) {
		h := approvals.Header{Name: http.CanonicalHeaderKey(name), Value: body.Headers[name]}
		if err := o.checkHeader(upstream, h, seen[h.Name]); err != nil {
			items = append(items, item(headerPointer+escapePointer(name), err))
		}
		seen[h.Name] = true
		out = append(out, h)
	}
	if hasJSON(body) && !seen["Content-Type"] {
		out = append(out, approvals.Header{Name: "Content-Type", Value: "application/json"})
	}
	slices.SortFunc(out, func(a, b approvals.Header) int { return strings.Compare(a.Name, b.Name) })
	return out, items
}

func (o operations) checkHeader(upstream policy.Upstream, h approvals.Header, again bool) error {
	if again {
		return fmt.Errorf("the field is given more than once")
	}
	if err := o.checkCall("/", "", []approvals.Header{h}); err != nil {
		return err
	}
	if !slices.Contains(upstream.RequestHeaders, strings.ToLower(h.Name)) {
		return fmt.Errorf("callers may not set this field; this upstream takes: %s", list(upstream.RequestHeaders))
	}
	return nil
}
