package egresstest_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress/egresstest"
)

func TestRefusingAddressRefusesAndCannotBeTaken(t *testing.T) {
	t.Parallel()
	address := egresstest.Refusing(t)
	_, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}
