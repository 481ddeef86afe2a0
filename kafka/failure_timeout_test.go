package kafka

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A call ends with HandlerTimeout. What the handler returns then counts as for any call:
// nil is done, an error is a failure, a mark decides.
func TestHandlerTimeout(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		for _, tt := range []struct {
			answer   func(error) error
			reported string
			position int64
		}{
			{func(error) error { return nil }, "", 1},
			{func(err error) error { return err }, "failed keep, failed keep", -1},
			{func(err error) error { return Skip(err) }, "skipped", 1},
		} {
			synctest.Test(t, func(t *testing.T) {
				d, hook := &fakeDriver{}, &recorder{}
				cfg := testConfig()
				cfg.HandlerTimeout = 5 * time.Second
				one := func(ctx context.Context) error {
					deadline, ok := ctx.Deadline()
					assert.True(t, ok)
					assert.Equal(t, 5*time.Second, time.Until(deadline))
					<-ctx.Done()
					assert.ErrorIs(t, context.Cause(ctx), ErrHandlerTimeout)
					return tt.answer(context.Cause(ctx))
				}
				var c Consumer
				switch kind {
				case "value":
					c = &handlerFunc{cfg, func(ctx context.Context, _ []byte) error { return one(ctx) }}
				case "message":
					c = NewConsumer(cfg, func(ctx context.Context, _ *Message) error { return one(ctx) })
				case "batch":
					c = NewBatchConsumer(cfg, func(ctx context.Context, _ []*Message) error { return one(ctx) })
				}
				m := New(d, quiet(), WithHook(hook))
				defer stop(t, m)
				startOn(t, m, c)
				cl := d.consumer(t).assign(0, 0)
				d.consumer(t).deliver(cl, 0, 0)
				pass(12 * time.Second)
				assert.Equal(t, tt.reported, reported(hook), kind)
				assert.Equal(t, tt.position, d.consumer(t).position(cl), kind)
			})
		}
	}
}

// A handler that is deaf to its timeout runs on and is reported; no other call takes its
// place. A switch-off waits for it as for any handler, and then shows it as a straggler.
func TestHandlerThatIgnoresItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, log := &fakeDriver{}, &seen{}, &lines{}
		cfg := testConfig()
		cfg.HandlerTimeout = time.Second
		hang := make(chan struct{})
		m := start(t, d, cfg, func(_ context.Context, v []byte) error {
			got.add(v)
			<-hang
			return nil
		}, logTo(log))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		began := time.Now()
		pass(10 * time.Minute)
		assert.Equal(t, []string{"0"}, got.all())
		assert.Equal(t, began.Add(2*time.Second), state(t, m).Partitions[0].StuckSince)
		assert.Len(t, log.with("handler is stuck", "offset=0"), 1)
		require.NoError(t, m.SetConsumerSwitch("job", false))
		pass(2 * time.Minute)
		assert.Equal(t, []TopicPartition{{"orders", 0}}, state(t, m).Stragglers)
		close(hang)
		pass(time.Second)
		assert.Empty(t, state(t, m).Stragglers)
		assert.Empty(t, c.committed(cl))
	})
}

// A handler that returns in the moment in which it is found stuck is not stuck afterwards.
func TestHandlerThatReturnsWhenItIsFoundStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, log := &fakeDriver{}, &lines{}
		cfg := testConfig()
		cfg.HandlerTimeout = time.Second
		m := start(t, d, cfg, func(context.Context, []byte) error {
			time.Sleep(2 * time.Second)
			return nil
		}, logTo(log))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		for o := range int64(1000) {
			c.deliver(cl, o, o)
			pass(3 * time.Second)
			require.Zero(t, state(t, m).Partitions[0].StuckSince, "after %d records", o)
		}
		assert.NotEmpty(t, log.with("handler is stuck"), "it was the same moment")
	})
}

// The report of a stuck handler belongs to its call: the lane waits for a logger that takes
// its time, so that none comes after a shutdown.
func TestReportOfAStuckHandlerEndsBeforeItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, reported := &fakeDriver{}, false
		cfg := testConfig()
		cfg.HandlerTimeout = time.Second
		log := slog.New(asking{slog.DiscardHandler, func(r slog.Record) {
			if strings.Contains(r.Message, "handler is stuck") {
				time.Sleep(5 * time.Second)
				reported = true
			}
		}})
		m := New(d, WithLogger(log))
		startOn(t, m, &handlerFunc{cfg, func(context.Context, []byte) error {
			time.Sleep(3 * time.Second)
			return nil
		}})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(2500 * time.Millisecond)
		stop(t, m)
		assert.True(t, reported)
	})
}

// The partition's context has precedence over the timeout: an interruption is no failure.
func TestRevocationDuringATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		cfg := testConfig()
		cfg.HandlerTimeout = time.Second
		start(t, d, cfg, func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			return Skip(errors.New("late"))
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(2 * time.Second)
		c.revoke(cl)
		assert.Empty(t, c.committed(cl))
		assert.Empty(t, reported(hook))
	})
}
