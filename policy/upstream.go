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
	maxPrefix       = 64
	maxCache        = time.Hour
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
		"name":                d.name(&u.name),
		"base_url":            d.word(&u.base),
		"credentials":         d.credentials("credentials", &u.Credentials, nil),
		"methods":             d.words("methods", &methods),
		"timeout":             d.duration(&u.Timeout, 100*time.Millisecond, maxTimeout),
		"idempotent":          d.boolean(&u.Idempotent),
		"max_response":        d.size(&u.MaxResponseBytes, 1, maxResponse),
		"success":             d.list("success", d.status(&u.Success)),
		"request_headers":     d.headerNames("request_headers", &u.RequestHeaders, callersHeader),
		"response_headers":    d.headerNames("response_headers", &u.ResponseHeaders, nil),
		"concurrency":         d.number(&u.Concurrency, new(pos), 1, maxLane),
		"rate":                d.rate(&u.Rate),
		"breaker":             d.breaker(&u.Breaker),
		"ca":                  d.secret(&u.CA, authorities),
		"certificate":         d.certificate(&u.Certificate, &u.CertificateKey),
		"proxy":               d.proxy(&u.Proxy),
		"proxy_authorization": d.placed(&u.proxyShown, d.secret(&u.ProxyAuthorization, headerSafe)),
	}, "name", "base_url")
	if m, ok := n.(*ast.MappingNode); ok && u.proxyShown.src != nil && !hasField(m, "proxy") {
		d.problem(u.proxyShown, "set proxy", "there is no proxy to show this to")
	}
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

// credentials decodes one credential or a list of them. Check, which may be nil, says what
// is wrong with the name of a header, in lower case.
func (d *decoder) credentials(what string, dst *[]Credential, check func(string) error) field {
	one := func(n ast.Node) {
		var c Credential
		var header word
		var cacheAt pos
		d.object(n, "a credential", fields{
			"header": d.word(&header),
			"prefix": d.prefixOf(&c),
			"value":  d.secretOrProgram(&c.Value, headerSafe),
			"cache":  d.placed(&cacheAt, d.duration(&c.Cache, time.Second, maxCache)),
		}, "header", "value")
		if _, program := c.Value.Exec(); cacheAt.src != nil && !program && !c.Value.IsZero() {
			d.problem(cacheAt, "", "cache is for values that a program prints")
		}
		if header.text == "" || !d.credentialHeader(header, *dst, check) {
			return
		}
		c.Header = textproto.CanonicalMIMEHeaderKey(header.text)
		*dst = append(*dst, c)
	}
	return func(n ast.Node) {
		if _, many := n.(*ast.SequenceNode); !many {
			one(n)
			return
		}
		d.list(what, one)(n)
		if len(*dst) > maxCredentials {
			d.problem(d.at(n), "", "at most %d %s are allowed", maxCredentials, what)
		}
	}
}

// prefixOf decodes what stands before a value, with the blank at its end, if it has one.
func (d *decoder) prefixOf(c *Credential) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		switch {
		case !ok:
		case text == "" || len(text) > maxPrefix || headerSafe(strings.TrimSuffix(text, " ")) != nil:
			d.problem(d.at(n), `write "Bearer "`, "prefix must be 1 to %d characters that a header field can carry, with at most one space, at the end", maxPrefix)
		default:
			c.Prefix = text
		}
	}
}

// credentialHeader judges the name without repeating a malformed one: it may be the
// credential itself.
func (d *decoder) credentialHeader(w word, before []Credential, check func(string) error) bool {
	lower := strings.ToLower(w.text)
	if check == nil {
		check = func(string) error { return nil }
	}
	switch err := check(lower); {
	case !headerName.MatchString(w.text):
		d.problem(w.at, "", "the header is not a valid header name")
	case slices.Contains(framing, lower) || strings.HasPrefix(lower, "proxy-") || strings.HasPrefix(lower, "countersign-"):
		d.problem(w.at, "", "the header %q cannot be a credential", lower)
	case slices.ContainsFunc(before, func(c Credential) bool { return strings.EqualFold(c.Header, w.text) }):
		d.problem(w.at, "", "the header %q has a credential already", lower)
	case err != nil:
		d.problem(w.at, "", "the header %q %s", lower, err)
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
