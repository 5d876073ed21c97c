package policy

import (
	"errors"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	defaultTimeout  = 30 * time.Second
	maxTimeout      = 50 * time.Second
	defaultResponse = 1 << 20
	maxResponse     = 8 << 20
	maxCredentials  = 8
	maxHeaderNames  = 64
)

var (
	defaultRequestHeaders = []string{
		"accept", "accept-language", "content-type", "idempotency-key", "if-match", "if-none-match", "prefer", "x-request-id",
	}
	defaultResponseHeaders = []string{"content-type", "etag", "last-modified", "location", "retry-after", "x-request-id"}

	// framing headers say how a message travels, and are nobody's to set.
	framing = []string{
		"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "te", "trailer",
		"transfer-encoding", "upgrade",
	}
	// reserved headers say who is calling or make a server act on another call than the
	// approved one. A credential may be one of them, a caller's header may not.
	reserved = []string{
		"accept-encoding", "authorization", "cookie", "forwarded", "user-agent", "via", "x-http-method",
		"x-http-method-override", "x-method-override", "x-original-url", "x-real-ip", "x-rewrite-url",
	}
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")
)

func (d *decoder) upstream(n ast.Node) {
	u := upstreamDraft{at: d.at(n)}
	u.Timeout, u.MaxResponseBytes = defaultTimeout, defaultResponse
	var methods []word
	d.object(n, "an upstream", fields{
		"name":             d.name(&u.name),
		"base_url":         d.word(&u.base),
		"credentials":      d.credentials(&u),
		"methods":          d.words("methods", &methods),
		"timeout":          d.duration(&u.Timeout, 100*time.Millisecond, maxTimeout),
		"idempotent":       d.boolean(&u.Idempotent),
		"max_response":     d.size(&u.MaxResponseBytes, 1, maxResponse),
		"success":          d.list("success", d.status(&u.Success)),
		"request_headers":  d.headerNames("request_headers", &u.RequestHeaders, callersHeader),
		"response_headers": d.headerNames("response_headers", &u.ResponseHeaders, nil),
	}, "name", "base_url")
	u.Methods = d.methods(methods)
	d.finishUpstream(&u)
	d.draft.upstreams = append(d.draft.upstreams, u)
}

func (d *decoder) finishUpstream(u *upstreamDraft) {
	u.Name = u.name.text
	if u.base.text != "" {
		if text := d.baseURL(u.base, "base_url"); text != "" {
			u.BaseURL, _ = url.Parse(text) // it has just been parsed
		}
	}
	if len(u.Methods) == 0 {
		u.Methods = Methods()
	}
	if len(u.Success) == 0 {
		u.Success = []StatusRange{{From: 200, To: 299}}
	}
	if u.RequestHeaders == nil {
		u.RequestHeaders = slices.Clone(defaultRequestHeaders)
	}
	if u.ResponseHeaders == nil {
		u.ResponseHeaders = slices.Clone(defaultResponseHeaders)
	}
	for _, c := range u.Credentials {
		u.RequestHeaders = slices.DeleteFunc(u.RequestHeaders, func(name string) bool { return strings.EqualFold(name, c.Header) })
	}
}

// methods checks the names of methods and returns the good ones.
func (d *decoder) methods(words []word) []string {
	var out []string
	for _, w := range words {
		if !slices.Contains(Methods(), w.text) {
			d.problem(w.at, didYouMean(w.text, Methods()), "unknown method %q", shorten(w.text))
			continue
		}
		out = append(out, w.text)
	}
	return out
}

// credentials decodes one credential or a list of them.
func (d *decoder) credentials(u *upstreamDraft) field {
	one := func(n ast.Node) {
		var c Credential
		var header word
		d.object(n, "a credential", fields{
			"header": d.word(&header),
			"value":  d.secret(&c.Value, headerSafe),
		}, "header", "value")
		if header.text == "" || !d.credentialHeader(header, u.Credentials) {
			return
		}
		c.Header = textproto.CanonicalMIMEHeaderKey(header.text)
		u.Credentials = append(u.Credentials, c)
	}
	return func(n ast.Node) {
		if _, many := n.(*ast.SequenceNode); !many {
			one(n)
			return
		}
		d.list("credentials", one)(n)
		if len(u.Credentials) > maxCredentials {
			d.problem(d.at(n), "", "at most %d credentials are allowed", maxCredentials)
		}
	}
}

// credentialHeader judges the name without repeating a malformed one: it may be the
// credential itself.
func (d *decoder) credentialHeader(w word, before []Credential) bool {
	lower := strings.ToLower(w.text)
	switch {
	case !headerName.MatchString(w.text):
		d.problem(w.at, "", "the header is not a valid header name")
	case slices.Contains(framing, lower) || strings.HasPrefix(lower, "proxy-") || strings.HasPrefix(lower, "countersign-"):
		d.problem(w.at, "", "the header %q cannot be a credential", lower)
	case slices.ContainsFunc(before, func(c Credential) bool { return strings.EqualFold(c.Header, w.text) }):
		d.problem(w.at, "", "the header %q has a credential already", lower)
	default:
		return true
	}
	return false
}

// headerNames decodes a list of header names, in lower case. Check may be nil; its error
// says what is wrong with a name that is well formed.
func (d *decoder) headerNames(what string, dst *[]string, check func(string) error) field {
	return func(n ast.Node) {
		if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
			*dst = []string{} // none at all, in place of the defaults
			return
		}
		var words []word
		d.words(what, &words)(n)
		for _, w := range words {
			if !headerName.MatchString(w.text) {
				d.problem(w.at, "", "this is not a valid header name")
				continue
			}
			lower := strings.ToLower(w.text)
			if check != nil {
				if err := check(lower); err != nil {
					d.problem(w.at, "", "the header %q %s", lower, err)
					continue
				}
			}
			*dst = append(*dst, lower)
		}
		if len(*dst) > maxHeaderNames {
			d.problem(d.at(n), "", "%s has %d items, at most %d are allowed", what, len(*dst), maxHeaderNames)
		}
	}
}

func callersHeader(lower string) error {
	forged := slices.ContainsFunc([]string{"proxy-", "countersign-", "x-forwarded", "sec-"}, func(prefix string) bool {
		return strings.HasPrefix(lower, prefix)
	})
	if forged || slices.Contains(framing, lower) || slices.Contains(reserved, lower) {
		return errors.New("cannot be set by a caller")
	}
	return nil
}

var statusClass = regexp.MustCompile(`^[1-5]xx$`)

// status decodes 404, "200-204" or 2xx.
func (d *decoder) status(dst *[]StatusRange) field {
	return func(n ast.Node) {
		scalar, ok := n.(ast.ScalarNode)
		if !ok {
			d.wrongType(n, "a status must be 404, 200-204 or 2xx")
			return
		}
		r, ok := parseStatus(scalar.GetToken().Value)
		if !ok {
			d.problem(d.at(n), "", "a status must be 404, 200-204 or 2xx")
			return
		}
		*dst = append(*dst, r)
	}
}

func parseStatus(text string) (StatusRange, bool) {
	if statusClass.MatchString(text) {
		first := int(text[0]-'0') * 100
		return StatusRange{From: first, To: first + 99}, true
	}
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	ok := err == nil && err2 == nil && from >= 100 && to <= 599 && from <= to
	return StatusRange{From: from, To: to}, ok
}
