package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// SlackSocketConfig configures SlackSocket.
type SlackSocketConfig struct {
	// AllowLoopback admits an emulator on loopback, with or without TLS and on any port. Zero: Slack only.
	AllowLoopback bool
	// RootCAs replaces the system's certificate authorities. Nil: the system's.
	RootCAs *x509.CertPool
}

// SlackSocket returns the two ways in which a web socket to Slack is dialled: plain for ws, which leads to loopback or
// nowhere, and secure for wss, which returns a connection whose certificate was checked. Neither uses a proxy of the
// environment. A refused address fails with an error that is ErrBlocked.
func SlackSocket(config SlackSocketConfig) (plain, secure func(ctx context.Context, network, addr string) (net.Conn, error)) {
	d := &socketDialer{
		config: config,
		guard:  newGuard(Policy{AllowLoopback: config.AllowLoopback}),
	}
	return d.plain, d.secure
}

type socketDialer struct {
	config SlackSocketConfig
	guard  *guard
}

func (d *socketDialer) plain(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, _, err := net.SplitHostPort(addr); err != nil || !d.local(host) {
		return nil, blocked("a web socket to %q without tls", addr)
	}
	return d.guard.dial(ctx, network, addr)
}

func (d *socketDialer) secure(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || (!d.local(host) && (!isSlackHost(host) || port != "443")) {
		return nil, blocked("a web socket to %q", addr)
	}
	raw, err := d.guard.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	// A web socket begins as HTTP/1.1; offered anything else, a server may take it.
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: d.config.RootCAs, ServerName: host, NextProtos: []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return conn, nil
}

func (d *socketDialer) local(host string) bool { return d.config.AllowLoopback && isLoopbackHost(host) }

// isSlackHost knows the hosts that Slack hands out sockets on, themselves and what is below them.
func isSlackHost(host string) bool {
	return slices.ContainsFunc([]string{"slack.com", "slack-gov.com"}, func(known string) bool {
		return host == known || strings.HasSuffix(host, "."+known)
	})
}
