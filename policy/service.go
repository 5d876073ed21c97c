package policy

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	defaultListen   = "127.0.0.1:8080"
	defaultDrain    = 30 * time.Second
	defaultBody     = 1 << 20
	defaultSlackAPI = "https://slack.com/api/"
)

func (d *decoder) server(n ast.Node) {
	s := &d.draft.server
	var dir word
	d.object(n, "server", fields{
		"listen":     d.word(&d.draft.listen),
		"public_url": d.word(&d.draft.publicURL),
		"data_dir":   d.word(&dir),
		"drain":      d.duration(&s.Drain, time.Second, 10*time.Minute),
		"max_body":   d.size(&s.MaxBody, 1<<10, 16<<20),
	})
	s.DataDir = dir.text
}

// finishServer applies defaults and checks the addresses.
func (d *decoder) finishServer() {
	s, public := &d.draft.server, d.draft.publicURL
	s.Listen = defaultListen
	local := true
	if listen := d.draft.listen; listen.text != "" {
		host, port, err := net.SplitHostPort(listen.text)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || strconv.FormatUint(n, 10) != port {
			d.problem(listen.at, "write host:port, such as 127.0.0.1:8080", "listen is not an address")
		}
		s.Listen, local = listen.text, isLoopback(host)
	}
	if public.text != "" {
		s.PublicURL = d.baseURL(public, "public_url")
		if u, err := url.Parse(s.PublicURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			d.problem(public.at, "", "public_url must be https unless it is this machine")
		}
		return
	}
	switch {
	case !local:
		d.problem(d.draft.listen.at, "set server.public_url", "public_url is needed when listen is not a loopback address")
	case !strings.HasSuffix(s.Listen, ":0"):
		s.PublicURL = "http://" + s.Listen
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// baseURL checks an address that others are appended to, and returns it without a slash at
// its end; "" when it has been reported.
func (d *decoder) baseURL(w word, what string) string {
	if err := checkBase(w.text); err != nil {
		d.problem(w.at, "", "%s %s", what, err)
		return ""
	}
	return strings.TrimRight(w.text, "/")
}

// checkBase says why a text is no base URL, without repeating it.
func checkBase(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return errors.New("is not an absolute URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be http or https")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return errors.New("must not have user information; use credentials")
	case strings.ContainsAny(text, "?#"):
		return errors.New("must not have a query or fragment")
	case !plainHost(u.Hostname()):
		return errors.New("must have a host name in lower-case ASCII letters, digits, - and ., or an address")
	case !plainPort(u):
		return errors.New("has a bad port")
	}
	if _, ok := segments(strings.TrimRight(u.EscapedPath(), "/") + "/"); !ok {
		return errors.New("has a path that servers may read in two ways")
	}
	return nil
}

var hostPattern = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

// plainHost accepts host names and addresses that are read by everybody in the same way.
func plainHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == "" && !addr.Is4In6()
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	numeric := last != "" && strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x")
	return len(host) <= 253 && hostPattern.MatchString(host) && !numeric
}

func plainPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == u.Port()
}

func (d *decoder) database(n ast.Node) {
	d.object(n, "database", fields{"url": d.secret(&d.draft.database.URL, nil)}, "url")
}

var (
	teamPattern = regexp.MustCompile(`^[TE][A-Z0-9]{1,31}$`)
	appPattern  = regexp.MustCompile(`^A[A-Z0-9]{1,31}$`)
	userPattern = regexp.MustCompile(`^[UW][A-Z0-9]{1,31}$`)
	// groupPattern is of user groups, enterprisePattern of organisations of Enterprise Grid.
	groupPattern      = regexp.MustCompile(`^S[A-Z0-9]{1,31}$`)
	enterprisePattern = regexp.MustCompile(`^E[A-Z0-9]{1,31}$`)
	channelForm       = regexp.MustCompile(`^(#[^\s#@:,A-Z]{1,80}|[CGD][A-Z0-9]{2,31})$`)
)

// secrets decodes one to most references.
func (d *decoder) secrets(what string, dst *[]Secret, most int, check func(string) error) field {
	return func(n ast.Node) {
		d.list(what, func(item ast.Node) {
			var s Secret
			d.secret(&s, check)(item)
			if s.IsZero() {
				return
			}
			for _, before := range *dst {
				if before.ref == s.ref {
					d.problem(d.at(item), "", "%s has %s twice", what, s.ref)
				}
			}
			*dst = append(*dst, s)
		})(n)
		if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) > most {
			d.problem(d.at(n), "", "%s has %d items, at most %d are allowed", what, len(seq.Values), most)
		}
	}
}

// headerSafe accepts what can be the value of a header field.
func headerSafe(value string) error {
	if strings.TrimSpace(value) != value {
		return errors.New("has spaces around it")
	}
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return errors.New("has a character that a header field cannot carry")
		}
	}
	return nil
}

func (d *decoder) egress(n ast.Node) {
	d.object(n, "egress", fields{"callbacks": d.egressPolicy(&d.draft.egress.Callbacks)})
}

func (d *decoder) egressPolicy(dst *EgressPolicy) field {
	return func(n ast.Node) {
		var prefixes []word
		d.object(n, "callbacks", fields{
			"allow_loopback": d.boolean(&dst.AllowLoopback),
			"allow_http":     d.boolean(&dst.AllowHTTP),
			"allow_prefixes": d.words("allow_prefixes", &prefixes),
			"allow_ports":    d.ports(&dst.AllowPorts),
			"proxy":          d.proxy(&dst.Proxy),
		})
		for _, w := range prefixes {
			if prefix, ok := d.prefix(w); ok {
				dst.AllowPrefixes = append(dst.AllowPrefixes, prefix)
			}
		}
	}
}

func (d *decoder) ports(dst *[]uint16) field {
	return d.list("allow_ports", func(n ast.Node) {
		var port int
		var at pos
		d.number(&port, &at, 1, 65535)(n)
		if port > 0 {
			*dst = append(*dst, uint16(port))
		}
	})
}

// prefix reads a network. One so wide that it switches the guard off is refused.
func (d *decoder) prefix(w word) (netip.Prefix, bool) {
	p, ok := d.network(w)
	widest := 7
	if p.Addr().Is4() {
		widest = 8
	}
	if ok && p.Bits() < widest {
		d.problem(w.at, "", "the network is too wide; at least /%d is required", widest)
		return netip.Prefix{}, false
	}
	return p, ok
}

// network reads a network of any width.
func (d *decoder) network(w word) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(w.text)
	switch {
	case err != nil:
		d.problem(w.at, "write 10.1.0.0/16", "this is not a network")
	case p.Masked() != p:
		d.problem(w.at, "write "+p.Masked().String(), "the network has bits set behind its length")
	default:
		return p, true
	}
	return netip.Prefix{}, false
}
