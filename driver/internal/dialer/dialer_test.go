package dialer

import (
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/internal/response"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaks(m) }

const patience = 15 * time.Second

// silentPort accepts connections until the test ends, and answers nothing.
func silentPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// TestFault_H4_SeveringWakesAConnection holds it where nobody closes in order, as at
// the end of the context of a Close.
func TestFault_H4_SeveringWakesAConnection(t *testing.T) {
	for name, end := range map[string]func(*Dialer, *conn){
		"sever": func(l *Dialer, _ *conn) { l.Sever() },
		"cut":   func(l *Dialer, _ *conn) { l.Cut() },
		"close": func(_ *Dialer, c *conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l := New(nil, 0, 100<<20)
			defer l.Sever()
			nc, err := l.Dial("tcp", silentPort(t))
			require.NoError(t, err)
			c := nc.(*conn)
			c.pause.until.Store(time.Now().Add(time.Hour).UnixNano())
			wrote := make(chan error, 1)
			go func() {
				_, err := c.Write(make([]byte, 100))
				wrote <- err
			}()
			settled(t, "held back", ".(*conn).holdBack", 1)
			end(l, c)
			select {
			case err := <-wrote:
				assert.ErrorIs(t, err, net.ErrClosed)
			case <-time.After(patience):
				require.FailNow(t, "the write still waits")
			}
		})
	}
}

// settled waits until so many goroutines run a function.
func settled(t *testing.T, what, function string, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		buf := make([]byte, 1<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), function) == want
	}, patience, 10*time.Millisecond, what)
}

// TestLateAnswerIsTheReason: a client that goes on with a connection on which an answer was late
// gets that as the reason, and not that the connection is closed.
func TestLateAnswerIsTheReason(t *testing.T) {
	const wait = 50 * time.Millisecond
	for name, c := range map[string]struct {
		key          byte
		ours, theirs time.Duration // how long the dialer and the client wait
	}{
		"the dialer's limit": {response.Metadata, wait, time.Hour},
		"the client's limit": {response.JoinGroup, time.Hour, wait},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(nil, c.ours, 100<<20)
			defer l.Sever()
			conn, err := l.Dial("tcp", silentPort(t))
			require.NoError(t, err)
			defer conn.Close()
			request := make([]byte, 100)
			request[5] = c.key
			_, err = conn.Write(request)
			require.NoError(t, err)
			limit := time.Now().Add(c.theirs)
			require.NoError(t, conn.SetReadDeadline(limit))
			_, err = conn.Read(make([]byte, 100))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			_, write := conn.Write(request)
			_, read := conn.Read(request)
			for _, err := range []error{write, read, conn.SetReadDeadline(limit), conn.SetWriteDeadline(limit)} {
				assert.ErrorIs(t, err, net.ErrClosed)
				assert.EqualError(t, err, "no answer has come within 50ms, so the connection was closed")
				assert.Equal(t, "REQUEST_TIMED_OUT", ClassifyLoss(err))
			}
		})
	}
}
