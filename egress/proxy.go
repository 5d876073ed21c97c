package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	proxyTimeout = 10 * time.Second // to the proxy and through it, before a byte of the request
	// maxTunnels is how many addresses of one name a proxy is asked for.
	maxTunnels = 3
)

// proxyError is a failure of our own forward proxy: neither the destination nor the caller can do anything about it.
type proxyError struct{ err error }

func (e *proxyError) Error() string { return "egress proxy: " + e.err.Error() }
func (e *proxyError) Unwrap() error { return e.err }

// errTargetUnreached is what the proxy says about the destination (502 and 504), and so no failure of the proxy.
var errTargetUnreached = errors.New("the egress proxy could not reach the destination")

// checkProxy accepts http://host:port and https://host:port. Its errors repeat nothing of either value.
func checkProxy(proxy *url.URL, authorization Secret) error {
	if proxy == nil {
		if !authorization.Empty() {
			return errors.New("proxy authorization without a proxy")
		}
		return nil
	}
	if (proxy.Scheme != "http" && proxy.Scheme != "https") || proxy.Hostname() == "" || !httpguts.ValidHostHeader(proxy.Host) {
		return errors.New("proxy must be an http or https url with a host")
	}
	if proxy.User != nil || proxy.Opaque != "" || proxy.RawQuery != "" || proxy.Fragment != "" || (proxy.Path != "" && proxy.Path != "/") {
		return errors.New("proxy must not have user information, a path, a query or a fragment")
	}
	if !plainValue(authorization.reveal()) {
		return errors.New("proxy authorization is not a header value")
	}
	return nil
}

// tunnel connects to addr through the policy's proxy, with CONNECT whether the request is for http or https: so the
// proxy sees neither the request nor its credentials, and nothing of either has left before it has answered.
//
// The hop to the proxy is the operator's choice and not judged. The destination is: a name that a caller chose is
// resolved here, and the proxy is asked for the very address that was found to be allowed, so that a name which means
// something else to the proxy is of no use. A name out of our own configuration is left to the proxy to resolve.
func (g *guard) tunnel(ctx context.Context, addr string) (net.Conn, error) {
	if err := checkProxy(g.policy.Proxy, g.policy.ProxyAuthorization); err != nil {
		return nil, &proxyError{err}
	}
	targets, err := g.targets(ctx, addr)
	if err != nil {
		return nil, err
	}
	through := watchTunnel(ctx)
	conn, err := g.anyTunnel(ctx, targets)
	if !is[*proxyError](err) {
		through()
	}
	return conn, err
}

func (g *guard) anyTunnel(ctx context.Context, targets []string) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	for _, target := range targets {
		if conn, err = g.connectThrough(ctx, target); !errors.Is(err, errTargetUnreached) {
			break
		}
	}
	return conn, err
}

// targets returns what the proxy may be asked for, judged. As at a dial of our own, an address that is refused is no
// reason not to try another one of the same name.
func (g *guard) targets(ctx context.Context, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("split %q: %w", addr, err)
	}
	if _, err := netip.ParseAddr(host); err != nil && g.operator {
		return []string{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	found, err := g.resolver().LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	refusal := blocked("%s has no address", host)
	var targets []string
	for _, ip := range found {
		at, err := netip.ParseAddrPort(net.JoinHostPort(ip.Unmap().String(), port)) // an A record may come v4-mapped
		if err != nil {
			return nil, blocked("parse address %s: %w", ip, err)
		}
		if err := g.check(at); err != nil {
			refusal = err
		} else if len(targets) < maxTunnels {
			targets = append(targets, at.String())
		}
	}
	if targets == nil {
		return nil, refusal
	}
	return targets, nil
}

func (g *guard) resolver() *net.Resolver {
	if g.policy.Resolver != nil {
		return g.policy.Resolver
	}
	return net.DefaultResolver
}

// connectThrough makes one tunnel. The context ending closes the connection under whatever is going on.
func (g *guard) connectThrough(ctx context.Context, target string) (net.Conn, error) {
	conn, err := g.dialProxy(ctx)
	if err != nil {
		return nil, &proxyError{err}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = g.connect(conn, target)
	if !stop() && err == nil {
		err = &proxyError{ctx.Err()}
	}
	if err != nil {
		_ = conn.Close()
		return nil, withCause(ctx, err)
	}
	return conn, nil
}

func (g *guard) dialProxy(ctx context.Context) (net.Conn, error) {
	proxy := g.policy.Proxy
	dialer := net.Dialer{Timeout: connectTimeout, Resolver: g.policy.Resolver}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), effectivePort(proxy)))
	if err != nil || proxy.Scheme != "https" {
		return conn, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.policy.RootCAs, ServerName: proxy.Hostname(), NextProtos: []string{"http/1.1"}}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return secure, nil
}

// connect asks for the tunnel. Nothing that the proxy says gets into an error but the status: some repeat the request.
func (g *guard) connect(conn net.Conn, target string) error {
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: Countersign\r\n"
	if authorization := g.policy.ProxyAuthorization.reveal(); authorization != "" {
		head += "Proxy-Authorization: " + authorization + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return &proxyError{fmt.Errorf("ask for a tunnel: %w", err)}
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxResponseHeaders))
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return &proxyError{errors.New("no valid answer to CONNECT")}
	}
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout:
		return fmt.Errorf("%w: status %d", errTargetUnreached, resp.StatusCode)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return &proxyError{fmt.Errorf("status %d to CONNECT", resp.StatusCode)}
	case reader.Buffered() > 0: // a server waits for its client in every protocol that we speak
		return &proxyError{errors.New("bytes behind the answer to CONNECT")}
	}
	return nil
}

// tunnelKey finds the tunnelWatch of a request in the context of its dial.
type tunnelKey struct{}

// tunnelWatch knows whether a request is still on its way to the proxy, or got stuck there. net/http gives up on a dial when the request's
// time is over and says nothing of what the dial was waiting for; it would look like a slow destination.
type tunnelWatch struct{ pending atomic.Int32 }

func (w *tunnelWatch) attach(ctx context.Context) context.Context {
	return context.WithValue(ctx, tunnelKey{}, w)
}

// blame makes a timeout that struck on the way to the proxy the proxy's.
func (w *tunnelWatch) blame(err error) error {
	if err != nil && w.pending.Load() > 0 && isTimeout(err) && !is[*proxyError](err) {
		return &proxyError{err}
	}
	return err
}

func watchTunnel(ctx context.Context) (through func()) {
	w, ok := ctx.Value(tunnelKey{}).(*tunnelWatch)
	if !ok {
		return func() {}
	}
	w.pending.Add(1)
	return func() { w.pending.Add(-1) }
}
