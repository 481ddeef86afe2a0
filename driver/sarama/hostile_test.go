package sarama

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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

// meddled is a fake cluster of one broker, whose answers meddle can change.
func meddled(t *testing.T, meddle func(*wire.Exchange), opts ...kfake.Opt) *wire.Proxy {
	t.Helper()
	p, err := wire.Listen(fake(t, opts...).ListenAddrs()[0], meddle)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// TestFault_H4_ThrottleTimeIsBoundedAndCutShort holds that a member whose
// coordinator asks for silence for 24.8 days goes on, reports it, and can be closed.
func TestFault_H4_ThrottleTimeIsBoundedAndCutShort(t *testing.T) {
	var hostile atomic.Bool
	p := meddled(t, func(x *wire.Exchange) {
		if a, ok := x.Answer.(*kmsg.HeartbeatResponse); ok && hostile.Load() {
			a.ThrottleMillis = math.MaxInt32
		}
	})
	cfg := consumerConfig([]string{p.Addr()})
	cfg.SessionTimeout = 4 * time.Second // so a pause is at most 1.3 s
	m := start(t, Driver{}, cfg, newRecorder())
	m.wait(t, "assignment", func() bool { return len(m.recorder.assigned) > 0 })
	hostile.Store(true)
	before := p.Requests(kmsg.Heartbeat)
	m.wait(t, "report of a pause", func() bool {
		return hasCode(m.errs, "THROTTLE_TIME_TOO_LONG")
	})
	require.Eventually(t, func() bool { return p.Requests(kmsg.Heartbeat) >= before+3 },
		patienceTest, 10*time.Millisecond, "heartbeats after the first pause")
	m.update(func() { assert.Empty(t, m.lost, "lost claims") })
	began := time.Now()
	require.NoError(t, m.stop(t))
	assert.Less(t, time.Since(began), 8*time.Second, "time to close")
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

func hasCode(errs []error, code string) bool {
	for _, err := range errs {
		var de *driver.Error
		if errors.As(err, &de) && de.Code == code {
			return true
		}
	}
	return false
}

// manyTopics is an answer to a fetch up to where the first of n topics begins.
func manyTopics(x *wire.Exchange, a *kmsg.FetchResponse, n uint32) []byte {
	a.Topics = nil
	frame := x.Frame(a.AppendTo(nil))
	if a.IsFlexible() {
		return binary.AppendUvarint(frame[:len(frame)-2], uint64(n)+1)
	}
	return binary.BigEndian.AppendUint32(frame[:len(frame)-4], n)
}

// TestFault_H6_FetchAnswerReportsItsOwnReason holds that such an answer costs no
// memory, is reported with its own reason, and does not end the consumer.
func TestFault_H6_FetchAnswerReportsItsOwnReason(t *testing.T) {
	var hostile atomic.Bool
	p := meddled(t, func(x *wire.Exchange) {
		a, ok := x.Answer.(*kmsg.FetchResponse)
		if !ok || !hostile.Load() {
			return
		}
		x.Raw = manyTopics(x, a, 99_600_000)
		x.Raw = append(x.Raw, make([]byte, 96<<20)...)
		binary.BigEndian.PutUint32(x.Raw, uint32(len(x.Raw)-4))
	})
	m := start(t, Driver{}, consumerConfig([]string{p.Addr()}), newRecorder())
	m.wait(t, "assignment", func() bool { return len(m.recorder.assigned) > 0 })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hostile.Store(true)
	m.wait(t, "report", func() bool { return hasCode(m.errs, "INVALID_RESPONSE") })
	hostile.Store(false)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<30), "bytes allocated, the server's included")
	seed(t, []string{p.Addr()}, "t", 0, "after")
	m.waitRecords(t, 1)
}

// TestFault_H9_OneAnswerThatIsNotTLSPasses holds that such an answer does not
// count as a peer that cannot be trusted.
func TestFault_H9_OneAnswerThatIsNotTLSPasses(t *testing.T) {
	cert, pool := certificate(t)
	secure := fake(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
	var bad atomic.Bool
	bad.Store(true)
	addr := port(t, func(c net.Conn) {
		if bad.Load() {
			saying([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n"))(c)
			return
		}
		broker, err := net.Dial("tcp", secure.ListenAddrs()[0])
		if err != nil {
			return
		}
		defer broker.Close()
		var both sync.WaitGroup
		both.Go(func() { copyAll(broker, c) })
		both.Go(func() { copyAll(c, broker) })
		both.Wait()
	})
	cfg := consumerConfig([]string{addr})
	cfg.TLS = &tls.Config{RootCAs: pool}
	_, err := Driver{}.OpenConsumer(within(t, patienceTest), cfg)
	var de *driver.Error
	require.ErrorAs(t, err, &de)
	assert.Equal(t, "TLS_HANDSHAKE_FAILED", de.Code)
	assert.NotErrorIs(t, err, driver.ErrPermanent)
	bad.Store(false)
	c, err := Driver{}.OpenConsumer(within(t, patienceTest), cfg)
	require.NoError(t, err)
	require.NoError(t, c.Close(within(t, patienceTest)))

	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	_, err = Driver{}.OpenConsumer(within(t, patienceTest), cfg)
	assert.ErrorIs(t, err, driver.ErrPermanent, "a peer that cannot be trusted")
}

func copyAll(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// TestFault_H9_AlertsThatPass holds which alerts of a peer end a client
// permanently.
func TestFault_H9_AlertsThatPass(t *testing.T) {
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

// TestFault_H12_ForeignTextIsCut checks the address of a broker, which a broker
// chooses, and a list of many brokers, which a user configures.
func TestFault_H12_ForeignTextIsCut(t *testing.T) {
	l := newLine(nil, 0)
	defer l.Sever()
	_, err := l.Dial("tcp", strings.Repeat("h", 1<<20)+":9092")
	require.ErrorContains(t, err, "too long for the address of a broker")
	assert.Less(t, len(err.Error()), 400)

	cfg := consumerConfig(nil)
	for i := range 1000 {
		cfg.Brokers = append(cfg.Brokers, fmt.Sprintf("[::1%%\nzone%d]:1", i))
	}
	_, err = Driver{}.OpenConsumer(within(t, patienceTest), cfg)
	require.ErrorContains(t, err, "and 992 brokers more")
	assert.NotContains(t, err.Error(), "\nzone")
	assert.Less(t, len(err.Error()), 2500)
}
