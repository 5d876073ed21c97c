package policy

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// origin returns the canonical form of where callbacks may go, scheme://host:port, and
// reports what no callback could be sent to.
func (d *decoder) origin(w word) (string, bool) {
	u, err := url.Parse(w.text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		d.problem(w.at, "write https://host or https://host:port", "this is not an origin")
		return "", false
	}
	policy := d.draft.egress.Callbacks
	if wrong := policy.wrongOrigin(u, w.text); wrong != "" {
		d.problem(w.at, "", "the origin %s", wrong)
		return "", false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port), true
}

// wrongOrigin says what is wrong with the form of an origin, or with its destination, ""
// when nothing is.
func (p EgressPolicy) wrongOrigin(u *url.URL, text string) string {
	host := strings.ToLower(u.Hostname())
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "must be https"
	case u.Scheme == "http" && !p.AllowHTTP:
		return "must be https (egress.callbacks.allow_http is off)"
	case u.User != nil:
		return "must not have user information"
	case u.Path != "" || strings.ContainsAny(text, "?#"):
		return "must not have a path, query or fragment"
	case !plainHost(host):
		return "must name one host in ASCII letters, digits, - and ."
	case !plainPort(u):
		return "has a bad port"
	case isLoopback(host) || strings.HasSuffix(host, ".localhost"):
		if !p.AllowLoopback {
			return "is this machine (egress.callbacks.allow_loopback is off)"
		}
		return ""
	case !p.reaches(host):
		return "is an address outside egress.callbacks.allow_prefixes"
	case !p.opens(u.Port()):
		return "has a port other than 443 and 8443 (see egress.callbacks.allow_ports)"
	}
	return ""
}

// reaches reports whether a host is a name, or an address the operator vouched for.
func (p EgressPolicy) reaches(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err != nil || slices.ContainsFunc(p.AllowPrefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// opens reports whether a port, "" for that of the scheme, is admitted.
func (p EgressPolicy) opens(port string) bool {
	switch {
	case port == "", port == "443", port == "8443", port == "80" && p.AllowHTTP:
		return true
	}
	return slices.ContainsFunc(p.AllowPorts, func(allowed uint16) bool { return strconv.Itoa(int(allowed)) == port })
}
