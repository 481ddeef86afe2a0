//go:build unix

package testkit

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Refuse has connections to addresses on which a server has listened be refused until the test
// ends. Without it another test may get the port of a server that has closed.
func Refuse(t testing.TB, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		at, err := netip.ParseAddrPort(addr)
		require.NoError(t, err)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		t.Cleanup(func() { syscall.Close(fd) })
		// The server's connections may still wait for their end.
		require.NoError(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
		require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}))
	}
}
