package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// An async send is used again once its message is in the log. What a callback has got
// stays as it is: it may keep the message.
func TestCallbackMayKeepItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newProducer(t, both())
		const sends = 500
		var kept, given []*ProducerMessage
		for round := range 3 { // so that each round finds sends to use again
			for i := range sends {
				v := fmt.Appendf(nil, "%d-%d", round, i)
				p.SendAsync(t.Context(), "orders", v, v, func(m *ProducerMessage, err error) {
					assert.NoError(t, err)
					kept = append(kept, m)
				})
				m := &ProducerMessage{Topic: "orders", Value: v}
				p.SendMessageAsync(t.Context(), m, func(got *ProducerMessage, err error) {
					assert.NoError(t, err)
					assert.Same(t, m, got)
					given = append(given, got)
				})
				p.SendAsync(t.Context(), "orders", nil, v, nil)
			}
			synctest.Wait()
		}
		require.Len(t, kept, 3*sends)
		require.Len(t, given, 3*sends)
		for i, m := range kept {
			want := fmt.Appendf(nil, "%d-%d", i/sends, i%sends)
			assert.Equal(t, &ProducerMessage{Topic: "orders", Key: want, Value: want, Offset: int64(3 * i)}, m)
			assert.Equal(t, &ProducerMessage{Topic: "orders", Value: want, Offset: int64(3*i + 1)}, given[i])
		}
	})
}

// The error of a panic names what panicked.
func TestPanicOfACallbackIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		p, _, _ := watchedProducer(t, r)
		p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) { panic("boom") })
		synctest.Wait()
		events := eventsOf[CallbackPanicked](r)
		require.Len(t, events, 1)
		assert.EqualError(t, events[0].Err, "callback panicked: boom")
		assert.EqualError(t, &PanicError{Value: "boom"}, "handler panicked: boom")
	})
}

// A driver that has answered with an error may still read the message, so that its
// send is not used again.
func TestFailedSendIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		failures := 0
		for i := range 100 {
			p.SendAsync(t.Context(), "orders", nil, fmt.Append(nil, i), func(*ProducerMessage, error) { failures++ })
		}
		held := append([]*driver.Message(nil), f.pending...)
		f.hold = false
		f.release(&driver.Error{Code: "REQUEST_TIMED_OUT", Kind: ErrUnknownOutcome, Err: errors.New("no answer")})
		synctest.Wait()
		for i := range 100 {
			p.SendAsync(t.Context(), "orders", nil, fmt.Append(nil, "later ", i), nil)
		}
		synctest.Wait()
		assert.Equal(t, 100, failures)
		require.Len(t, held, 100)
		for i, h := range held {
			assert.Equal(t, fmt.Append(nil, i), h.Value)
		}
	})
}

// Callbacks that send again, from several goroutines at once, across Close: each is
// called once, and none is after Close has returned unless its send began later.
func TestCallbacksOfManySendersAcrossClose(t *testing.T) {
	for range 20 {
		m := New(&fakeDriver{}, quiet())
		cfg := both()
		cfg.BootstrapServers = "localhost:9092"
		p, err := m.RegisterProducer(t.Context(), cfg)
		require.NoError(t, err)
		var mu sync.Mutex
		sent, called := 0, 0
		var senders sync.WaitGroup
		count := func(n *int) {
			mu.Lock()
			*n++
			mu.Unlock()
		}
		for range 4 {
			senders.Go(func() {
				for range 200 {
					count(&sent)
					p.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) {
						count(&called)
						if err == nil {
							count(&sent)
							p.SendAsync(context.Background(), "orders", nil, nil, func(*ProducerMessage, error) { count(&called) })
						}
					})
					runtime.Gosched()
				}
			})
		}
		runtime.Gosched()
		require.NoError(t, p.Close())
		senders.Wait()
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return sent == called
		}, 10*time.Second, time.Millisecond, "callbacks of sends that began after Close")
	}
}
