package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrBlocked is what errors.Is finds in every refusal of the egress policy.
var ErrBlocked = errors.New("destination is not allowed")

// BlockedError is a refusal of the egress policy. Its text is the same for every refusal, so that a caller learns
// nothing about our network from it; the reason, for our log only, is in Unwrap.
type BlockedError struct{ cause error }

// Error returns the one public message.
func (e *BlockedError) Error() string { return ErrBlocked.Error() }

// Unwrap returns the private reason, which may name addresses.
func (e *BlockedError) Unwrap() error { return e.cause }

// Is makes every BlockedError an ErrBlocked.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

func blocked(format string, args ...any) error {
	return &BlockedError{cause: fmt.Errorf(format, args...)}
}

// hardDenied are never a destination, whatever the operator allows: metadata services hand out the credentials of the
// machine we run on, and the unspecified address is another name for loopback.
var hardDenied = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local: AWS, GCP, Azure, OpenStack, ECS task credentials
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fd00:ec2::254/128"),  // AWS over IPv6
	netip.MustParsePrefix("fd00:ec2::23/128"),   // EKS pod identity
	netip.MustParsePrefix("fd20:ce::254/128"),   // GCP over IPv6
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway over IPv6
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's wire server, a public address
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud
}

// guard decides on concrete addresses.
type guard struct {
	policy Policy
	// operator is true for destinations out of our own configuration (upstreams): any address but the hard-denied.
	operator bool
	public   *ssrf.Guardian
}

func newGuard(policy Policy) *guard {
	return &guard{policy: policy, public: ssrf.New(ssrf.WithAnyPort())}
}

func newUpstreamGuard(policy Policy) *guard { return &guard{policy: policy, operator: true} }

// through returns the guard with another proxy.
func (g *guard) through(proxy *url.URL, authorization Secret) *guard {
	other := *g
	other.policy.Proxy, other.policy.ProxyAuthorization = proxy, authorization
	return &other
}

// CheckAddr says whether a callback may be sent to at, with the decision taken at every dial. Errors are BlockedError.
func CheckAddr(at netip.AddrPort, policy Policy) error { return newGuard(policy).check(at) }

// control is the hook of net.Dialer: it sees the address that is about to be connected to.
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return blocked("network %q is not tcp", network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return blocked("parse address %q: %w", address, err)
	}
	return g.check(at)
}

func (g *guard) check(at netip.AddrPort) error {
	// Prefixes contain neither zoned nor v4-mapped addresses: without this the deny-list would miss both.
	plain := netip.AddrPortFrom(at.Addr().WithZone("").Unmap(), at.Port())
	if !plain.Addr().IsValid() {
		return blocked("no address")
	}
	if g.policy.denies(plain) {
		return blocked("%s is one of our own addresses", plain)
	}
	if g.operator {
		return g.checkOperator(plain.Addr())
	}
	return g.checkPublic(at.Addr(), plain)
}

func (g *guard) checkOperator(addr netip.Addr) error {
	if containsAddr(g.policy.AllowPrefixes, addr) {
		return nil
	}
	return checkHardDenied(addr)
}

// checkPublic asks in this order: hard deny, the operator's allow-list, the library. The library alone would ask its
// allow-list first, and an operator who allows fd00::/8 would open fd00:ec2::254.
func (g *guard) checkPublic(original netip.Addr, at netip.AddrPort) error {
	addr := at.Addr()
	if err := checkHardDenied(addr); err != nil {
		return err
	}
	local := g.policy.AllowLoopback && addr.IsLoopback() // on any port
	if !local && !g.policy.allowsPort(at.Port()) {
		return blocked("port %d is not allowed", at.Port())
	}
	if original.Zone() != "" || original.Is4In6() {
		return blocked("%s is zoned or v4-mapped", original)
	}
	// An allowed NAT64 prefix must not be a tunnel to the addresses behind it.
	if inner, ok := embeddedIPv4(addr); ok {
		if err := g.checkPublic(inner, netip.AddrPortFrom(inner, at.Port())); err != nil {
			return err
		}
	}
	if g.policy.allowsAddr(addr) {
		return nil
	}
	if err := g.public.SafeAddr(addr); err != nil {
		return &BlockedError{cause: err}
	}
	return nil
}

func checkHardDenied(addr netip.Addr) error {
	if containsAddr(hardDenied, addr) {
		return blocked("%s is never a destination", addr)
	}
	if inner, ok := embeddedIPv4(addr); ok && containsAddr(hardDenied, inner) {
		return blocked("%s carries %s, which is never a destination", addr, inner)
	}
	return nil
}

var (
	prefix6to4   = netip.MustParsePrefix("2002::/16")
	prefixTeredo = netip.MustParsePrefix("2001::/32")
	// suffixed prefixes carry an IPv4 address in their last four bytes.
	suffixed = []netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"),   // NAT64, RFC 6052
		netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64, RFC 8215
		netip.MustParsePrefix("::ffff:0:0:0/96"),
		netip.MustParsePrefix("::/96"), // v4-compatible, RFC 4291
	}
)

// embeddedIPv4 returns the IPv4 address that a translating or tunnelling IPv6 address leads to.
func embeddedIPv4(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	switch {
	case !addr.Is6() || addr.IsLoopback():
		return netip.Addr{}, false
	case prefix6to4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case prefixTeredo.Contains(addr):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	case containsAddr(suffixed, addr), b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214
		return netip.AddrFrom4([4]byte(b[12:16])), true
	default:
		return netip.Addr{}, false
	}
}
