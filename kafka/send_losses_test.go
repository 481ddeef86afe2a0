package kafka

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// loggedProducer is a producer whose events and log lines a test sees.
func loggedProducer(t *testing.T, cfg ProducerConfig) (*Producer, *fakeProducer, *recorder, *logLines) {
	t.Helper()
	d, r, lines := &fakeDriver{}, &recorder{}, &logLines{}
	m := New(d, WithLogger(slog.New(lines)), WithHook(r))
	t.Cleanup(func() { _ = m.Shutdown(context.Background()) })
	cfg.BootstrapServers = "localhost:9092"
	p, err := m.RegisterProducer(t.Context(), cfg)
	require.NoError(t, err)
	return p, d.producers[0], r, lines
}

func isLost(t *testing.T, err error, n int, cause error) {
	t.Helper()
	var lost *LostError
	require.ErrorAs(t, err, &lost)
	assert.Equal(t, n, lost.Messages)
	assert.ErrorIs(t, err, cause)
}

var errAway = &driver.Error{Code: "CONNECTION_FAILED", Kind: ErrUnknownOutcome, Err: errors.New("broker is away")}

// A2: messages without a callback fail, and the log, the hooks, Flush and Close
// all say so.
func TestFault_A2_FailedSendWithoutACallbackIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, r, lines := loggedProducer(t, both())
		f.hold = true
		for range 3 {
			p.SendAsync(t.Context(), "orders", nil, []byte("v"), nil)
		}
		p.SendMessageAsync(t.Context(), &ProducerMessage{Topic: "orders", ToPartition: new(int32(7))}, nil)
		called := 0
		p.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) { called++ })
		f.release(errAway)
		synctest.Wait()

		events := eventsOf[SendFailed](r)
		require.Len(t, events, 4, "a message with a callback is no event")
		assert.Equal(t, 1, called)
		for i, partition := range []int32{-1, -1, -1, 7} {
			assert.ErrorIs(t, events[i].Err, ErrUnknownOutcome)
			assert.Equal(t, SendFailed{p.ID(), "orders", partition, events[i].Err}, events[i])
		}

		err := p.Flush(t.Context())
		isLost(t, err, 4, ErrUnknownOutcome)
		assert.EqualError(t, err, `kafka: producer "producer-1" lost 4 messages that have no callback, the first: kafka: send to "orders": CONNECTION_FAILED: broker is away (outcome unknown)`)
		assert.NoError(t, p.Flush(t.Context()), "reported once")

		p.SendAsync(t.Context(), "orders", nil, nil, nil)
		f.release(errAway)
		err = p.Close()
		isLost(t, err, 1, errAway)
		assert.Same(t, err, p.Close(), "a second Close gives the same answer")
		assert.Equal(t, 2, lines.count("were lost"), "the first one at once, the others with a count: %q", lines.all())
		assert.Equal(t, 1, lines.count("messages=4"))
	})
}

// A2: a message that is refused before the driver sees it is lost, too.
func TestFault_A2_RefusedSendWithoutACallbackIsReported(t *testing.T) {
	cases := []struct {
		name string
		cfg  ProducerConfig
		send func(*Producer)
		want error
	}{
		{"async is not enabled", ProducerConfig{}, func(p *Producer) { p.SendAsync(context.Background(), "orders", nil, nil, nil) }, ErrNotEnabled},
		{"no topic", both(), func(p *Producer) { p.SendAsync(context.Background(), "", nil, nil, nil) }, ErrPermanent},
		{"context ended", both(), func(p *Producer) { p.SendAsync(testkit.Ended(), "orders", nil, nil, nil) }, context.Canceled},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _, r, lines := loggedProducer(t, tt.cfg)
				tt.send(p)
				tt.send(p)
				isLost(t, p.Flush(t.Context()), 2, tt.want)
				tt.send(p)
				isLost(t, p.m.Shutdown(t.Context()), 1, tt.want)
				assert.Len(t, eventsOf[SendFailed](r), 3)
				assert.Equal(t, 2, lines.count("were lost"))
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p, _, r, _ := loggedProducer(t, both())
		p.SendMessageAsync(t.Context(), nil, nil)
		assert.ErrorContains(t, p.Flush(t.Context()), "message is nil")
		assert.Len(t, eventsOf[SendFailed](r), 1)
	})
}

// A2: after Close no caller asks for losses, so only the log and the hooks report them.
func TestFault_A2_SendAfterCloseIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, r, lines := loggedProducer(t, both())
		require.NoError(t, p.Close())
		for range 1000 {
			p.SendAsync(t.Context(), "orders", nil, nil, nil)
		}
		pass(lossInterval)
		p.SendAsync(t.Context(), "orders", nil, nil, nil)
		assert.Len(t, eventsOf[SendFailed](r), 1001)
		assert.Equal(t, 1, lines.count("messages=1001"), "%q", lines.all())
		assert.NoError(t, p.Close())
	})
}

// A2: a context that ends Flush takes nothing away: the next one reports it.
func TestFault_A2_FlushThatEndsEarlyKeepsTheCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f, _, _ := loggedProducer(t, both())
		p.SendAsync(t.Context(), "", nil, nil, nil)
		f.flush = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.Equal(t, context.DeadlineExceeded, p.Flush(ctx))
		f.flush = nil
		isLost(t, p.Flush(t.Context()), 1, ErrPermanent)
	})
}

// A2: while a broker is away for an hour and a thousand messages fail per second,
// one line is logged every ten seconds; the lines account for every message.
func TestFault_A2_LogIsRateLimitedAndComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		lines, messages := 0, 0
		l := losses{report: func(n int, _ error) {
			mu.Lock()
			defer mu.Unlock()
			lines++
			messages += n
		}}
		const seconds, each = 60, 1000
		for range seconds {
			for range each {
				l.add(errAway)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(lossInterval)
		synctest.Wait()
		assert.Equal(t, seconds*each, messages)
		assert.LessOrEqual(t, lines, 8)
		time.Sleep(time.Hour)
		l.add(errAway)
		synctest.Wait()
		assert.Equal(t, seconds*each+1, messages, "after a rest the next one is a line at once")
		l.add(errAway)
		l.end()
		assert.Equal(t, seconds*each+2, messages, "the end logs the rest")
	})
}

// A2: a send that succeeds allocates nothing for this.
func TestFault_A2_SuccessCostsNothing(t *testing.T) {
	p, f, _, _ := loggedProducer(t, both())
	p.m.hooks = nil
	send := func() { p.SendAsync(context.Background(), "orders", nil, nil, nil) }
	f.sent = make([]driver.Message, 0, 1<<16)
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, send), 1.0, "the send itself")
}
