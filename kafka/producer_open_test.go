package kafka

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// refusedN returns an opening that is refused until the n-th attempt.
func refusedN(n int) func(context.Context, int) error {
	return func(_ context.Context, attempt int) error {
		if attempt < n {
			return &driver.Error{Code: "CONNECTION_FAILED", Err: errors.New("connection refused")}
		}
		return nil
	}
}

const never = 1 << 30

// C4: a producer that is registered before its brokers are up.
func TestFault_C4_ProducerIsOpenedWhenABrokerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, lines := &fakeDriver{openProducer: refusedN(8)}, &logLines{}
		m := New(d, WithLogger(slog.New(lines)))
		defer stop(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		p, err := m.RegisterProducer(ctx, ProducerConfig{BootstrapServers: "localhost:9092"})
		require.NoError(t, err)
		assert.Equal(t, 8, d.producerN)
		assert.Less(t, time.Since(began), 13*time.Second) // 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5
		assert.Greater(t, time.Since(began), 10*time.Second)
		assert.NoError(t, p.Send(ctx, "orders", nil, nil))
		require.Equal(t, 1, lines.count("cannot connect"), "one line, however many attempts")
		assert.Contains(t, lines.all()[0], "connection refused")
	})
}

// C4: without a broker the answer comes when the bound is over, and holds the cause.
func TestFault_C4_AnswerIsTheCauseAndTheEndOfTheContext(t *testing.T) {
	hangs := func(ctx context.Context, n int) error {
		if n < 3 {
			return refusedN(never)(ctx, n)
		}
		<-ctx.Done() // the attempt under way as ctx ends says nothing new
		return ctx.Err()
	}
	cases := []struct {
		name  string
		open  func(context.Context, int) error
		limit time.Duration // of the context; 0 is none
		after time.Duration
		want  error
	}{
		{"deadline", refusedN(never), 20 * time.Second, 20 * time.Second, context.DeadlineExceeded},
		{"longer than one attempt may take", refusedN(never), 2 * time.Minute, 2 * time.Minute, context.DeadlineExceeded},
		{"no deadline", refusedN(never), 0, openTimeout, context.DeadlineExceeded},
		{"hanging attempt", hangs, 20 * time.Second, 20 * time.Second, context.DeadlineExceeded},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := New(&fakeDriver{openProducer: tt.open}, quiet())
				defer stop(t, m)
				ctx, cancel := context.WithCancel(context.Background())
				if tt.limit > 0 {
					ctx, cancel = context.WithTimeout(context.Background(), tt.limit)
				}
				defer cancel()
				began := time.Now()
				_, err := m.RegisterProducer(ctx, ProducerConfig{BootstrapServers: "localhost:9092"})
				assert.Equal(t, tt.after, time.Since(began))
				require.ErrorIs(t, err, tt.want)
				var cause *driver.Error
				require.ErrorAs(t, err, &cause)
				assert.Equal(t, "CONNECTION_FAILED", cause.Code)
				assert.Contains(t, err.Error(), `kafka: producer "producer-1": connect: CONNECTION_FAILED: connection refused`)
			})
		})
	}
}

// C4: neither a cancelled context nor a shutdown nor an error that no retry
// cures waits for the next attempt.
func TestFault_C4_OpeningEndsAtOnce(t *testing.T) {
	refused := &driver.Error{Code: "SASL_AUTHENTICATION_FAILED", Kind: ErrPermanent, Err: errors.New("bad password")}
	cases := []struct {
		name string
		open func(context.Context, int) error
		end  func(m *Manager, cancel func())
		want error
		no   error
	}{
		{"cancelled", refusedN(never), func(_ *Manager, cancel func()) { cancel() }, context.Canceled, ErrClosed},
		{"shutdown", refusedN(never), func(m *Manager, _ func()) { _ = m.Shutdown(context.Background()) }, ErrClosed, context.Canceled},
		{"shutdown in an attempt", func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			func(m *Manager, _ func()) { _ = m.Shutdown(context.Background()) }, ErrClosed, context.DeadlineExceeded},
		{"permanent", func(ctx context.Context, n int) error {
			if n < 4 {
				return refusedN(never)(ctx, n)
			}
			return refused
		}, nil, ErrPermanent, context.DeadlineExceeded},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := New(&fakeDriver{openProducer: tt.open}, quiet())
				defer stop(t, m)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				if tt.end != nil {
					go func() {
						time.Sleep(7 * time.Second)
						tt.end(m, cancel)
					}()
				}
				_, err := m.RegisterProducer(ctx, ProducerConfig{BootstrapServers: "localhost:9092"})
				require.ErrorIs(t, err, tt.want)
				assert.NotErrorIs(t, err, tt.no)
				if tt.end != nil {
					assert.Equal(t, 7*time.Second, time.Since(began))
				}
			})
		})
	}
}

// C4: a driver that panics has failed, and a context that has ended opens nothing.
func TestFault_C4_OpeningThatCannotBeTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openProducer: func(_ context.Context, n int) error {
			if n == 1 {
				panic("driver")
			}
			return nil
		}}
		m := New(d, quiet())
		defer stop(t, m)
		_, err := m.RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
		require.NoError(t, err)
		require.Equal(t, 2, d.producerN)
		_, err = m.RegisterProducer(testkit.Ended(), ProducerConfig{BootstrapServers: "localhost:9092"})
		assert.Same(t, context.Canceled, err)
		assert.Equal(t, 2, d.producerN)
	})
}

// Like C4: a consumer whose brokers are away when it starts joins when they are
// there, and until then its reason says why it is not running.
func TestFault_C4_ConsumerStartsWhenABrokerIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(n int) error { return refusedN(4)(noContext(), n) }}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return nil })
		assert.ErrorContains(t, state(t, m).Reason, "connect: CONNECTION_FAILED: connection refused")
		pass(time.Minute)
		assert.Equal(t, StateRunning, state(t, m).State)
	})
}
