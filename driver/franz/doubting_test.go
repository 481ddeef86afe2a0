package franz

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSilentBrokerIsNotDialed: after an answer has not come in time, dials to that broker fail
// for a moment, with an error that kgo takes for temporary. Other brokers are dialed.
func TestSilentBrokerIsNotDialed(t *testing.T) {
	addrs := fake(t).ListenAddrs()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	line := newLine(nil, 200*time.Millisecond)
	defer line.Sever()
	dial := doubting(line)
	conn, err := dial(t.Context(), "tcp", silent.Addr().String())
	require.NoError(t, err, "before it was silent")
	defer conn.Close()
	_, err = conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patienceTest)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "no answer comes")

	_, err = dial(t.Context(), "tcp", silent.Addr().String())
	require.ErrorIs(t, err, errSilent)
	var temporary interface{ Temporary() bool }
	if assert.ErrorAs(t, err, &temporary) {
		assert.True(t, temporary.Temporary(), "%v is temporary", err)
	}
	other, err := dial(t.Context(), "tcp", addrs[0])
	require.NoError(t, err, "another broker")
	other.Close()
	require.Eventually(t, func() bool {
		again, err := dial(t.Context(), "tcp", silent.Addr().String())
		if err == nil {
			again.Close()
		}
		return err == nil
	}, patienceTest, time.Millisecond, "it is dialed again")
}
