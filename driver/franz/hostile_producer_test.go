package franz

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/internal/hostile/wire"
)

// port listens, and serves every connection by serve until the test ends.
func port(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var open []net.Conn
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			served.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	return l.Addr().String()
}

// saying is a server that answers the first request with b, and waits.
func saying(b []byte) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		c.Write(b)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
}

// TestFault_H2_WrongPortOfAProducerCostsNoMemory holds that a peer that is no Kafka is
// refused by its first bytes, and that the reason names them.
func TestFault_H2_WrongPortOfAProducerCostsNoMemory(t *testing.T) {
	length := func(n uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), rest...)
	}
	for _, c := range []struct {
		name, want string
		answer     []byte
	}{
		{"minus one", "is this Kafka?", length(0xffffffff, 0, 0, 0, 0)},
		{"zero", "is this Kafka?", length(0, 0, 0, 0, 0)},
		{"three", "is this Kafka?", length(3, 0, 0, 0, 0)},
		{"largest", "is this Kafka?", length(0x7fffffff, 0, 0, 0, 0)},
		{"above the limit", "is this Kafka?", length(maxRead+1, 0, 0, 0, 0)},
		{"long answer to a short question", "at most", length(maxRead, 0, 0, 0, 0)},
		{"answer to no request", "is this Kafka?", length(30, 9, 9, 9, 9)},
		{"garbage", "is this Kafka?", bytes.Repeat([]byte{0xa5, 0x17}, 1000)},
		{"HTTP", "this is HTTP", []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")},
		{"SSH", "this is SSH", []byte("SSH-2.0-OpenSSH_9.6\r\n")},
		{"TLS alert", "does this port want TLS?", []byte{0x15, 3, 3, 0, 2, 2, 70}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := port(t, saying(c.answer))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig([]string{addr}))
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, addr)
			assert.NotContains(t, err.Error(), "use of closed")
			var de *driver.Error
			require.ErrorAs(t, err, &de)
			code := "INVALID_RESPONSE"
			if c.name == "TLS alert" { // a port that wants TLS may hang up as well
				code = "CONNECTION_FAILED"
			}
			assert.Equal(t, code, de.Code)
			assert.NotErrorIs(t, err, driver.ErrPermanent)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "bytes allocated")
		})
	}
}

// meddled is a fake cluster of one broker, whose answers meddle can change.
func meddled(t *testing.T, meddle func(*wire.Exchange), opts ...kfake.Opt) *wire.Proxy {
	t.Helper()
	p, err := wire.Listen(fake(t, opts...).ListenAddrs()[0], meddle)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// TestFault_H4_CloseEndsAPause holds that a producer's Close does not wait for a pause
// that a broker has asked for, on a connection without a limit of its own.
func TestFault_H4_CloseEndsAPause(t *testing.T) {
	p := meddled(t, func(x *wire.Exchange) {
		if a, ok := x.Answer.(*kmsg.ProduceResponse); ok {
			a.ThrottleMillis = math.MaxInt32
		}
	})
	prod, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig([]string{p.Addr()}))
	require.NoError(t, err)
	acked := newAcks()
	send := func(id int) {
		require.NoError(t, prod.Produce(t.Context(), &driver.Message{Topic: "t", Value: []byte("v"), Acker: ack{acked, id}}))
	}
	send(1)
	require.Eventually(t, func() bool { return len(acked.of(1)) == 1 }, patienceTest, time.Millisecond)
	send(2) // waits
	settled(t, "held back", ".(*conn).holdBack", 1)
	ctx, cancel := context.WithTimeout(t.Context(), dialer.MaxPause/2)
	defer cancel()
	require.NoError(t, prod.Close(ctx))
	require.Len(t, acked.of(2), 1)
	assert.NoError(t, acked.of(2)[0])
	settled(t, "held back", ".(*conn).holdBack", 0)
}

// settled waits until so many goroutines run a function.
func settled(t *testing.T, what, function string, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		buf := make([]byte, 1<<20)
		return strings.Count(string(buf[:runtime.Stack(buf, true)]), function) == want
	}, patienceTest, 10*time.Millisecond, what)
}

// TestFault_H9_AlertsThatPassFranz holds which alerts of a peer end a client
// permanently.
func TestFault_H9_AlertsThatPassFranz(t *testing.T) {
	for number, permanent := range map[byte]bool{
		10: false, 80: false, 90: false, // unexpected_message, internal_error, user_canceled
		42: true, 48: true, 70: true, 116: true, // bad_certificate, unknown_ca, protocol_version, certificate_required
	} {
		addr := port(t, saying([]byte{21, 3, 3, 0, 2, 2, number}))
		l := newLine(&tls.Config{}, 0)
		_, err := l.Dial("tcp", addr)
		l.Sever()
		require.Error(t, err)
		err = wrap(err)
		assert.Equal(t, permanent, isPermanent(err), "alert %d: %v", number, err)
	}
}

// TestFault_H11_NoProducerIDIsRefused holds that idempotence is not lost silently: a
// batch with producer ID -1 has none.
func TestFault_H11_NoProducerIDIsRefused(t *testing.T) {
	for name, meddle := range map[string]func(*kmsg.InitProducerIDResponse){
		"ID":    func(a *kmsg.InitProducerIDResponse) { a.ProducerID = -1 },
		"epoch": func(a *kmsg.InitProducerIDResponse) { a.ProducerEpoch = -1 },
		"both":  func(a *kmsg.InitProducerIDResponse) { a.ProducerID, a.ProducerEpoch = -1, -1 },
	} {
		t.Run(name, func(t *testing.T) {
			p := meddled(t, func(x *wire.Exchange) {
				if a, ok := x.Answer.(*kmsg.InitProducerIDResponse); ok {
					meddle(a)
				}
			})
			d := Driver{}
			prod, err := d.OpenProducer(within(t, patienceTest), producerConfig([]string{p.Addr()}))
			if prod != nil {
				prod.Close(within(t, time.Second))
			}
			var de *driver.Error
			require.ErrorAs(t, err, &de)
			assert.Equal(t, "INVALID_RESPONSE", de.Code, err)
			assert.Less(t, p.Requests(kmsg.InitProducerID), int64(10), "attempts")
		})
	}
}

// TestFault_H11_BrokenProducerID: a producer without an ID would not be idempotent.
func TestFault_H11_BrokenProducerID(t *testing.T) {
	cluster := fake(t)
	cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		return resp, nil, true
	})
	_, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig(cluster.ListenAddrs()))
	require.ErrorContains(t, err, "INVALID_RESPONSE")
	require.ErrorContains(t, err, "a negative identity, and no error")
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.Idempotent = false
	require.NoError(t, send(t, openProducer(t, cfg), sized("t", 1, 1)[0]), "without idempotence no ID is needed")
}

// TestFault_H12_ForeignTextOfAProducerIsCut checks a list of many brokers, which a user
// configures.
func TestFault_H12_ForeignTextOfAProducerIsCut(t *testing.T) {
	cfg := producerConfig(nil)
	for i := range 1000 {
		cfg.Brokers = append(cfg.Brokers, fmt.Sprintf("[::1%%\nzone%d]:1", i))
	}
	_, err := Driver{}.OpenProducer(within(t, patienceTest), cfg)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "\nzone")
	assert.Less(t, len(err.Error()), 2500)
}
