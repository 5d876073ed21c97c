package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"countersign/approvals"
	"countersign/policy"
)

// Why a field of a request is refused rather than dropped.
const (
	otherCall   = "would make a server act on another method, path or host than the one that is approved"
	otherUser   = "would make a server act for somebody else"
	secondKey   = "is a second credential; that of the upstream is added here"
	ofTransport = "is about the connection and cannot be passed on"
	ofBody      = "says how the body is to be read, and this upstream takes no such field from callers"
	ofCondition = "makes the call depend on a condition, and this upstream takes no such field from callers"
)

// refusedFields are never dropped silently, for whoever sends one means it: with the field
// the call is another one than without it. Names are in lower case, with hyphens.
var refusedFields = map[string]string{
	"x-http-method": otherCall, "x-http-method-override": otherCall, "x-method-override": otherCall,
	"x-original-url": otherCall, "x-original-uri": otherCall, "x-original-host": otherCall, "x-original-method": otherCall,
	"x-rewrite-url": otherCall, "x-override-url": otherCall, "x-host": otherCall,
	"x-forwarded-prefix": otherCall, "x-forwarded-path": otherCall, "x-forwarded-uri": otherCall, "x-forwarded-method": otherCall,
	"x-envoy-original-path": otherCall, "x-envoy-original-host": otherCall, "destination": otherCall,

	"x-forwarded-user": otherUser, "x-forwarded-email": otherUser, "x-forwarded-groups": otherUser,
	"x-forwarded-preferred-username": otherUser, "x-remote-user": otherUser, "remote-user": otherUser,
	"x-authenticated-user": otherUser, "x-user": otherUser, "x-auth-request-user": otherUser, "x-auth-request-email": otherUser,

	"cookie": secondKey, "cookie2": secondKey, "proxy-authorization": secondKey, "x-api-key": secondKey, "api-key": secondKey,
	"x-auth-token": secondKey, "x-access-token": secondKey, "x-forwarded-access-token": secondKey, "x-amz-security-token": secondKey,
	"x-authorization": secondKey, "x-csrf-token": secondKey,

	"upgrade": ofTransport, "http2-settings": ofTransport, "te": ofTransport, "trailer": ofTransport, "proxy": ofTransport,
	"early-data": ofTransport, "sec-websocket-key": ofTransport, "sec-websocket-protocol": ofTransport,
	"sec-websocket-version": ofTransport, "sec-websocket-extensions": ofTransport,

	"if-match": ofCondition, "if-unmodified-since": ofCondition, "if-none-match": ofCondition,
}

// refusedPrefixes begin the names of further fields that are refused.
var refusedPrefixes = map[string]string{"impersonate-": otherUser, "x-impersonate-": otherUser}

// cacheFields are conditions that only save a transfer: of a call that reads, they can be
// dropped, and the answer is then whole.
var cacheFields = []string{"if-none-match"}

// bodyFields describe the body, and are refused where there is one and the upstream does not
// take them.
var bodyFields = []string{"content-encoding", "content-range", "content-type"}

// listFields may come in several lines, which mean the same as one (RFC 9110 section 5.3).
// Of any other field two lines have two readings.
var listFields = []string{
	"accept", "accept-language", "cache-control", "if-match", "if-none-match", "prefer", "tracestate",
}

// frontHeaders builds the header fields of the call out of those of a request: what the
// upstream takes is kept, in one line each and in the order of names, as a submit has them.
// What would make another call of it is refused by name. Everything else is dropped: what is
// meant for us, what clients and proxies add on the way (X-Forwarded-For, User-Agent), and
// whatever nobody has listed.
func frontHeaders(upstream policy.Upstream, r *http.Request, withBody bool) ([]approvals.Header, []ProblemItem) {
	var out []approvals.Header
	var items []ProblemItem
	hop := connectionNames(r.Header)
	for name, values := range r.Header {
		h, why := frontHeader(upstream, r.Method, name, values, withBody)
		switch {
		case why == nil && h.Value == "":
			continue
		case why == nil && hop[strings.ToLower(name)]:
			why = errors.New("is named in Connection, and part of the call")
		}
		if why != nil {
			items = append(items, item(headerPointer+http.CanonicalHeaderKey(name), why))
			continue
		}
		out = append(out, h)
	}
	if len(r.Trailer) > 0 {
		items = append(items, item(headerPointer+"Trailer", errors.New(ofTransport)))
	}
	slices.SortFunc(out, func(a, b approvals.Header) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(items, func(a, b ProblemItem) int { return strings.Compare(a.Pointer, b.Pointer) })
	return out, items
}

// frontHeader decides on one field. An empty value without an error: it is dropped.
func frontHeader(upstream policy.Upstream, method, name string, values []string, withBody bool) (approvals.Header, error) {
	lower := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	h := approvals.Header{Name: http.CanonicalHeaderKey(name)}
	if slices.Contains(upstream.RequestHeaders, strings.ToLower(name)) {
		value, err := oneLine(lower, values)
		if lower == "prefer" {
			value = withoutWait(value)
		}
		h.Value = value
		return h, err
	}
	if lower == "content-type" && withBody && slices.Equal(values, []string{"application/json"}) {
		h.Value = values[0] // as of a submit: it describes the body even where callers may not set it
		return h, nil
	}
	return h, refusedField(upstream, method, lower, withBody)
}

func refusedField(upstream policy.Upstream, method, lower string, withBody bool) error {
	reads := method == http.MethodGet || method == http.MethodHead
	switch {
	case reads && slices.Contains(cacheFields, lower):
		return nil
	case slices.Contains(bodyFields, lower):
		if withBody {
			return errors.New(ofBody)
		}
		return nil
	case lower != "authorization" && slices.ContainsFunc(upstream.Credentials, func(c policy.Credential) bool {
		return strings.EqualFold(c.Header, lower)
	}):
		return errors.New(secondKey)
	}
	if why := refusedFields[lower]; why != "" {
		return errors.New(why)
	}
	for prefix, why := range refusedPrefixes {
		if strings.HasPrefix(lower, prefix) {
			return errors.New(why)
		}
	}
	return nil
}

// oneLine is the value of a field that is kept.
func oneLine(lower string, values []string) (string, error) {
	if len(values) > 1 && !slices.Contains(listFields, lower) {
		return "", fmt.Errorf("is given more than once")
	}
	return strings.Join(values, ", "), nil
}

// connectionNames are the fields that Connection says belong to this connection, in lower
// case. They are dropped, but for those that the call would carry.
func connectionNames(h http.Header) map[string]bool {
	out := make(map[string]bool)
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			out[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	return out
}

// withoutWait leaves of a Prefer field what is not for us: we do the waiting.
func withoutWait(value string) string {
	var kept []string
	for _, part := range splitList(value) {
		if part != "" && !aboutWait(part) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ", ")
}

// preferredWait is the first preference to wait.
func preferredWait(h http.Header) string {
	for _, part := range splitList(strings.Join(h.Values("Prefer"), ", ")) {
		if aboutWait(part) {
			return part
		}
	}
	return ""
}

func aboutWait(preference string) bool {
	name, _, _ := strings.Cut(preference, ";")
	name, _, _ = strings.Cut(name, "=")
	return strings.EqualFold(strings.TrimSpace(name), "wait")
}

// splitList splits a list at its commas, but for those within quotes (RFC 9110 section 5.6.4).
func splitList(value string) []string {
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '\\' && quoted:
			i++
		case value[i] == '"':
			quoted = !quoted
		case value[i] == ',' && !quoted:
			out, start = append(out, strings.TrimSpace(value[start:i])), i+1
		}
	}
	return append(out, strings.TrimSpace(value[start:]))
}
