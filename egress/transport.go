package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	connectTimeout      = 5 * time.Second // name resolution included
	tlsTimeout          = 5 * time.Second
	deliverTimeout      = 15 * time.Second
	maxDeliverTimeout   = 60 * time.Second
	idleTimeout         = 30 * time.Second
	maxResponseHeaders  = 64 << 10
	defaultConnsPerHost = 16
	idleConnsPerHost    = 4
)

// NewTransport returns the transport for destinations that somebody else chose. Connections are kept for reuse, so a
// request must not carry anything that lets net/http send it again (see newBody). The caller decides about redirects:
// use RoundTrip, or NewClient.
func NewTransport(policy Policy) *http.Transport {
	conns := policy.MaxConnsPerHost
	if conns <= 0 {
		conns = defaultConnsPerHost
	}
	return &http.Transport{
		Proxy:                  nil, // a proxy from the environment would be all that the dial check sees
		DialContext:            newGuard(policy).dial,
		TLSClientConfig:        policy.tlsConfig(),
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true, // a dialer of our own turns it off otherwise
		DisableCompression:     true,
		ResponseHeaderTimeout:  deliverTimeout,
		MaxResponseHeaderBytes: maxResponseHeaders,
		MaxConnsPerHost:        conns,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		MaxIdleConns:           256,
		IdleConnTimeout:        idleTimeout,
	}
}

// dial connects to an allowed address of the name in addr, through the proxy if there is one.
func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.policy.Proxy != nil || !g.policy.ProxyAuthorization.Empty() {
		return g.tunnel(ctx, addr)
	}
	return g.direct(ctx, network, addr)
}

// direct connects without a proxy. If an address was refused and no other could be reached, the error is a BlockedError
// and nothing else: net would put the address into its text.
func (g *guard) direct(ctx context.Context, network, addr string) (net.Conn, error) {
	var refusal atomic.Pointer[BlockedError] // two address families are tried at once
	dialer := net.Dialer{
		Timeout:  connectTimeout,
		Resolver: g.policy.Resolver,
		Control: func(network, address string, raw syscall.RawConn) error {
			err := g.control(network, address, raw)
			if b, ok := errors.AsType[*BlockedError](err); ok {
				refusal.Store(b)
			}
			return err
		},
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err == nil {
		return conn, nil
	}
	if b := refusal.Load(); b != nil {
		return nil, b
	}
	return nil, err
}
