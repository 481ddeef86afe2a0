package sarama

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A bouncer is a listener before a broker that asks for an OAUTHBEARER token, and
// lets in a client with a good one. Kfake has no such mechanism.
type bouncer struct {
	net.Listener
	refused *atomic.Int32
	mu      sync.Mutex
	open    map[net.Conn]bool
}

func (b *bouncer) Accept() (net.Conn, error) {
	client, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.open[client] = true
	b.mu.Unlock()
	broker, inside := net.Pipe()
	go func() { // both end when either side closes
		defer client.Close()
		defer inside.Close()
		b.admit(client, inside)
	}()
	go func() {
		defer client.Close()
		defer inside.Close()
		io.Copy(client, inside)
	}()
	return broker, nil
}

func (b *bouncer) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		c.Close()
	}
	clear(b.open)
}

// admit answers the requests about SASL, and passes on all others.
func (b *bouncer) admit(client, inside net.Conn) {
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		answer := append([]byte{}, body[4:8]...) // the correlation ID
		switch binary.BigEndian.Uint16(body) {
		case 17: // SaslHandshake 1
			answer = append(answer, 0, 0, 0, 0, 0, 1, 0, 11)
			answer = append(answer, "OAUTHBEARER"...)
		case 36: // SaslAuthenticate 2
			code := byte(0)
			if !strings.Contains(string(body), "Bearer good") {
				code = 58
				b.refused.Add(1)
			}
			answer = append(answer, 0, 0, code, 0, 1)
			answer = append(answer, make([]byte, 9)...)
		default:
			if _, err := inside.Write(append(head, body...)); err != nil {
				return
			}
			continue
		}
		if _, err := client.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// TestFault_C2_StaleTokenPasses: the source hands out stale tokens for two seconds,
// just when all connections have to be made again; and then for longer than a session.
func TestFault_C2_StaleTokenPasses(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	var refused atomic.Int32
	var door *bouncer
	cluster := fake(t, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		door = &bouncer{Listener: l, refused: &refused, open: map[net.Conn]bool{}}
		return door, err
	}))
	var stale atomic.Bool
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SASL = &driver.SASL{Mechanism: driver.SASLOAuthBearer, TokenSource: func(context.Context) (driver.Token, error) {
		if stale.Load() {
			return driver.Token{Value: "stale"}, nil
		}
		return driver.Token{Value: "good"}, nil
	}}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	stale.Store(true)
	door.cut()
	time.Sleep(2 * time.Second)
	stale.Store(false)
	require.NotZero(t, refused.Load(), "no token was refused")
	claim := r.claim(0)
	require.NotNil(t, claim, "the claim was lost")
	require.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 1}}))
	wantOneSession(t, r)

	stale.Store(true)
	door.cut()
	var err error
	select {
	case err = <-m.done:
		m.done <- err
	case <-time.After(4 * patienceTest):
		require.FailNow(t, "Run goes on with tokens that are refused")
	}
	wantError(t, err, "SASL_AUTHENTICATION_FAILED", false)
}
