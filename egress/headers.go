package egress

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Header is one header field as it is written, name and value.
type Header struct{ Name, Value string }

// Credential is a header field whose value is a secret.
type Credential struct {
	Name  string
	Value Secret
}

const (
	maxHeaders     = 64
	maxHeaderBytes = 8 << 10
	maxHeaderTotal = 32 << 10
)

// requestHeaders is what a caller may send to any upstream: metadata of the request and of its body. What one vendor's
// API needs besides is listed for that upstream.
var requestHeaders = []string{
	"Accept", "Accept-Language", "Cache-Control", "Content-Digest", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Content-Md5", "Content-Type", "Digest", "Idempotency-Key", "If-Match", "If-Modified-Since",
	"If-None-Match", "If-Range", "If-Unmodified-Since", "Pragma", "Prefer", "Range", "Repr-Digest", "Request-Id",
	"Traceparent", "Tracestate", "X-Correlation-Id", "X-Idempotency-Key", "X-Request-Id",
}

// listHeaders may appear more than once; of any other header two values mean two readings.
var listHeaders = []string{
	"Accept", "Accept-Language", "Cache-Control", "If-Match", "If-None-Match", "Prefer", "Tracestate",
}

// forbiddenHeaders are not a caller's to set, even if the operator lists them: they frame the message, say who is
// calling or from where, or make the server act on another method, path or user than the approved one.
var forbiddenHeaders = []string{
	"Accept-Encoding", "Alt-Svc", "Authorization", "Cf-Connecting-Ip", "Client-Ip", "Connection", "Content-Length",
	"Cookie", "Cookie2", "Early-Data", "Expect", "Fastly-Client-Ip", "Forwarded", "Front-End-Https", "Host",
	"Http2-Settings", "Keep-Alive", "Max-Forwards", "Proxy", "Remote-Addr", "Remote-User", "Set-Cookie", "Te", "Trailer",
	"Transfer-Encoding", "True-Client-Ip", "Upgrade", "User-Agent", "Via", "X-Arr-Ssl", "X-Authenticated-User",
	"X-Client-Ip", "X-Cluster-Client-Ip", "X-Host", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
	"X-Original-Host", "X-Original-Method", "X-Original-Uri", "X-Original-Url", "X-Override-Url", "X-Real-Ip",
	"X-Remote-User", "X-Rewrite-Url", "X-Scheme", "X-Wap-Profile",
}

var forbiddenPrefixes = []string{"Countersign-", "Impersonate-", "Proxy-", "Sec-", "X-Envoy-", "X-Forwarded"}

// AllowedRequestHeader says whether a caller may send this header: it is on the list of ordinary request metadata, or in
// also, which is what the operator added for the upstream; and it is not one that no caller may set. Case is ignored.
func AllowedRequestHeader(name string, also ...string) bool {
	canonical := http.CanonicalHeaderKey(name)
	if !httpguts.ValidHeaderFieldName(name) || forbidden(canonical) {
		return false
	}
	return slices.Contains(requestHeaders, canonical) || containsHeader(also, canonical)
}

// CheckHeaders refuses headers that AllowedRequestHeader refuses, values other than printable ASCII (blanks inside are
// fine), and two values where a server might read either. At most 64 headers of 8 KiB each and 32 KiB in all. Errors are
// ErrRequest and name the header only if its name is well formed.
func CheckHeaders(headers []Header, also ...string) error {
	if len(headers) > maxHeaders {
		return refuse("more than %d headers", maxHeaders)
	}
	total, seen := 0, make(map[string]bool, len(headers))
	for _, h := range headers {
		total += len(h.Name) + len(h.Value)
		if len(h.Name)+len(h.Value) > maxHeaderBytes || total > maxHeaderTotal {
			return refuse("headers are larger than %d bytes each or %d in all", maxHeaderBytes, maxHeaderTotal)
		}
		if err := checkHeader(h, also); err != nil {
			return err
		}
		canonical := http.CanonicalHeaderKey(h.Name)
		if seen[canonical] && !slices.Contains(listHeaders, canonical) {
			return refuse("header %s appears twice", canonical)
		}
		seen[canonical] = true
	}
	return nil
}

func checkHeader(h Header, also []string) error {
	if !httpguts.ValidHeaderFieldName(h.Name) {
		return refuse("a header name is not a token")
	}
	if !AllowedRequestHeader(h.Name, also...) {
		return refuse("header %s is not allowed", http.CanonicalHeaderKey(h.Name))
	}
	if !plainValue(h.Value) {
		return refuse("header %s must have a value of printable ASCII", http.CanonicalHeaderKey(h.Name))
	}
	return nil
}

// plainValue is stricter than RFC 9110: no bytes over 0x7E, which are shown in one way and read in another, and no
// blanks at the ends, which net/http would cut off.
func plainValue(value string) bool {
	if strings.Trim(value, " \t") != value || !httpguts.ValidHeaderFieldValue(value) {
		return false
	}
	return !strings.ContainsFunc(value, func(r rune) bool { return r > '~' })
}

// forbidden takes a canonical name.
func forbidden(canonical string) bool {
	return slices.Contains(forbiddenHeaders, canonical) ||
		slices.ContainsFunc(forbiddenPrefixes, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) })
}

func containsHeader(names []string, canonical string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return http.CanonicalHeaderKey(name) == canonical })
}

// responseHeaders is what of an upstream's answer is kept unless the upstream says otherwise.
var responseHeaders = []string{
	"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location", "Content-Type", "Date", "Etag",
	"Last-Modified", "Link", "Location", "Ratelimit", "Ratelimit-Policy", "Request-Id", "Retry-After",
	"X-Correlation-Id", "X-Request-Id",
}

// withheldHeaders are never kept: they belong to our connection or our session, or would pass for our own.
var withheldHeaders = []string{
	"Connection", "Content-Length", "Keep-Alive", "Set-Cookie", "Set-Cookie2", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// withheld takes a canonical name.
func withheld(canonical string) bool {
	return slices.Contains(withheldHeaders, canonical) ||
		strings.HasPrefix(canonical, "Countersign-") || strings.HasPrefix(canonical, "Proxy-")
}

// keptHeaders returns the allow-listed headers of an answer, in order of name, within the limits of request headers. A
// header that does not fit or is malformed is left out: the answer itself is known and must not be lost over it.
func keptHeaders(header http.Header, allowed []string, scrub scrubber) (kept []Header, scrubbed bool) {
	if allowed == nil {
		allowed = responseHeaders
	}
	names := make([]string, 0, len(allowed))
	for _, name := range allowed {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	total := 0
	for _, name := range slices.Compact(names) {
		if withheld(name) {
			continue
		}
		for _, value := range header.Values(name) {
			total += len(name) + len(value)
			if len(value) > maxHeaderBytes || total > maxHeaderTotal || len(kept) == maxHeaders || !httpguts.ValidHeaderFieldValue(value) {
				continue
			}
			clean, changed := scrub.text(value)
			kept, scrubbed = append(kept, Header{Name: name, Value: clean}), scrubbed || changed
		}
	}
	return kept, scrubbed
}

// callbackHeaders are ours in a callback, whatever an endpoint's configuration says: they frame the message, or are what
// its signature is about.
var callbackHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Digest", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Keep-Alive", "Te", "Trailer", "Traceparent", "Transfer-Encoding", "Upgrade", "User-Agent",
}

var callbackPrefixes = []string{"Countersign-", "Proxy-", "Sec-", "Signature", "Webhook-"}

// CheckCallbackHeader accepts the name of a header that an endpoint's configuration adds to its callbacks: a token, and
// none of the headers that a callback has anyway or that frame it. Errors are ErrRequest.
func CheckCallbackHeader(name string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return refuse("a header name is not a token")
	case slices.Contains(callbackHeaders, canonical), slices.ContainsFunc(callbackPrefixes, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) }):
		return refuse("header %s is ours in a callback", canonical)
	}
	return nil
}

func checkCallbackCredential(c Credential) error {
	if err := CheckCallbackHeader(c.Name); err != nil {
		return err
	}
	if value := c.Value.reveal(); value == "" || !plainValue(value) || len(value) > maxHeaderBytes {
		return refuse("header %s must have a value of printable ASCII", http.CanonicalHeaderKey(c.Name))
	}
	return nil
}
