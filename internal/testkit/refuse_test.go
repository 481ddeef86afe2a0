package testkit

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRefuse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	t.Run("refused", func(t *testing.T) {
		Refuse(t, addr)
		_, err := net.Dial("tcp", addr)
		require.Error(t, err)
	})
	l, err = net.Listen("tcp", addr)
	require.NoError(t, err, "once the test has ended")
	require.NoError(t, l.Close())
}
