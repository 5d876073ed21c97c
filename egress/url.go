package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// ErrURL is what errors.Is finds in every refusal of CheckURL. The texts speak of the caller's own URL only.
var ErrURL = errors.New("url is not allowed")

const maxURLBytes = 2048

// hostNames maps names as browsers do (case, width, dots), then refuses what is not a host name. Mapping comes first:
// a name may turn into an address only by being mapped.
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// CheckURL applies the rules for URLs that callers choose, both when they are submitted and when they are used: https
// (http if the policy allows it), no userinfo, no fragment, an allowed port, no IP literal unless the policy allows that
// address, no trailing dot, at most 2,048 bytes. It returns the URL with its host in lower-case ASCII (IDNA). It
// resolves nothing; names are judged at the dial. Errors are ErrURL.
func CheckURL(raw string, policy Policy) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !policy.AllowHTTP) {
		return nil, refuseURL("scheme must be https")
	}
	host, local, err := checkHost(u.Hostname(), policy)
	if err != nil {
		return nil, err
	}
	if err := checkPort(u, local, policy); err != nil {
		return nil, err
	}
	u.Host = joinHost(host, u.Port())
	if len(u.String()) > maxURLBytes {
		return nil, refuseURL("longer than %d bytes", maxURLBytes)
	}
	return u, nil
}

// Origin returns scheme://host:port with the port always written out, of a URL that CheckURL returned. Two URLs are
// under one origin exactly when these strings are equal.
func Origin(u *url.URL) string {
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), effectivePort(u))
}

func refuseURL(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrURL, fmt.Sprintf(format, args...))
}

// parseURL refuses before parsing what parsers are known to disagree about.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURLBytes {
		return nil, refuseURL("longer than %d bytes", maxURLBytes)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return nil, refuseURL("contains a space, a control character or a backslash")
	}
	if strings.Contains(raw, "#") {
		return nil, refuseURL("must not have a fragment")
	}
	u, err := url.Parse(raw) // its error would repeat the URL, userinfo and all
	if err != nil || u.Opaque != "" || u.Host == "" {
		return nil, refuseURL("not an absolute url")
	}
	_, rest, _ := strings.Cut(raw, "://")
	authority := rest[:strings.IndexAny(rest+"/", "/?")]
	if u.User != nil || strings.Contains(authority, "@") {
		return nil, refuseURL("must not have user information")
	}
	if strings.Contains(authority, "%") {
		return nil, refuseURL("host must not be percent-encoded")
	}
	return u, nil
}

// checkHost returns the host in ASCII, and whether it is loopback under a policy that allows that.
func checkHost(name string, policy Policy) (host string, local bool, err error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return checkLiteral(addr, policy)
	}
	host, err = hostNames.ToASCII(name)
	if err != nil || strings.HasSuffix(host, ".") {
		return "", false, refuseURL("host must be a valid name that does not end in a dot")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return checkLiteral(addr, policy)
	}
	if endsInNumber(host) {
		return "", false, refuseURL("host is not a valid name")
	}
	if slices.Contains(policy.DenyHosts, host) {
		return "", false, refuseURL("host is not allowed")
	}
	local = isLoopbackHost(host)
	if local && !policy.AllowLoopback {
		return "", false, refuseURL("host is not allowed")
	}
	return host, local, nil
}

func isLoopbackHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func checkLiteral(addr netip.Addr, policy Policy) (string, bool, error) {
	if addr.Zone() != "" || addr.Is4In6() || !policy.allowsAddr(addr) || checkHardDenied(addr) != nil {
		return "", false, refuseURL("host must be a name, not an address")
	}
	return addr.String(), addr.IsLoopback() && policy.AllowLoopback, nil
}

// endsInNumber finds the spellings that some resolvers read as an address: 127.1, 0177.0.0.1, 0x7f000001 (the rule of
// the WHATWG URL standard).
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, isHex := strings.CutPrefix(last, "0x")
	return isHex && strings.Trim(hex, "0123456789abcdef") == ""
}

func checkPort(u *url.URL, local bool, policy Policy) error {
	if strings.HasSuffix(u.Host, ":") {
		return refuseURL("port is empty")
	}
	text := effectivePort(u)
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != text {
		return refuseURL("port is not valid")
	}
	if !local && !policy.allowsPort(uint16(port)) {
		return refuseURL("port %d is not allowed", port)
	}
	return nil
}

func effectivePort(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

func joinHost(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
