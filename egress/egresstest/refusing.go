// Package egresstest holds what tests of outbound calls share.
package egresstest

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Refusing returns a loopback address ("127.0.0.1:port") that refuses every connection until the
// test ends. The port is bound and never listened on, so that no server of another test can be
// given it meanwhile: the address of a closed server may be somebody else's a moment later, who
// then gets the calls.
func Refusing(tb testing.TB) string {
	tb.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatalf("make a socket: %v", err)
	}
	tb.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatalf("bind a socket: %v", err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		tb.Fatalf("read the port of a socket: %v", err)
	}
	inet, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		tb.Fatalf("the socket is bound to %T", name)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(inet.Port))
}
