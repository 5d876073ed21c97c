package egress

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
)

// Policy says where calls may go. The zero Policy is the strictest: https to public addresses on ports 443 and 8443.
type Policy struct {
	// AllowLoopback admits 127.0.0.0/8, ::1 and localhost, on any port; for dev and tests. Zero: refused.
	AllowLoopback bool
	// AllowPrefixes are addresses the operator vouches for, such as the internal network callbacks live in. They do
	// not open metadata services to callbacks; for upstreams, which the operator names one by one, they do.
	AllowPrefixes []netip.Prefix
	// AllowHTTP admits plain http, on port 80 besides the others. Zero: https only.
	AllowHTTP bool
	// AllowPorts are admitted besides 443 and 8443.
	AllowPorts []uint16
	// DenyAddrs are our own database, metrics and admin addresses; port 0 means every port. Nothing overrides them.
	DenyAddrs []netip.AddrPort
	// DenyHosts are our own names, refused in callback URLs. ASCII, lower case.
	DenyHosts []string
	// RootCAs replaces the system's certificate authorities. Nil: the system's.
	RootCAs *x509.CertPool
	// ClientCertificates are offered to servers that ask for one. Nil: none.
	ClientCertificates []tls.Certificate
	// Resolver looks names up. Nil: the system's.
	Resolver *net.Resolver
	// MaxConnsPerHost bounds the connections to one host at a time. Zero: 16.
	MaxConnsPerHost int
	// Proxy is the forward proxy that every connection goes through, http://host:port or https://host:port. It is asked
	// by CONNECT for addresses that were judged here. An Executor has one for each upstream and takes none from here.
	// Nil: none; a proxy of the environment is never used.
	Proxy *url.URL
	// ProxyAuthorization is the value of Proxy-Authorization, such as "Basic …". Empty: none.
	ProxyAuthorization Secret
}

func (p Policy) allowsPort(port uint16) bool {
	return port == 443 || port == 8443 || (p.AllowHTTP && port == 80) || slices.Contains(p.AllowPorts, port)
}

// allowsAddr says whether the operator vouched for addr, which must be unmapped and without a zone.
func (p Policy) allowsAddr(addr netip.Addr) bool {
	return (p.AllowLoopback && addr.IsLoopback()) || containsAddr(p.AllowPrefixes, addr)
}

func (p Policy) denies(at netip.AddrPort) bool {
	return slices.ContainsFunc(p.DenyAddrs, func(deny netip.AddrPort) bool {
		return deny.Addr().Unmap() == at.Addr() && (deny.Port() == 0 || deny.Port() == at.Port())
	})
}

func (p Policy) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.RootCAs, Certificates: p.ClientCertificates}
}

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}
