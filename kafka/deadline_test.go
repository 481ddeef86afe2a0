package kafka

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// E1, core part: a handler that runs at the deadline is cancelled by it, though the
// driver is stuck. No record is handed out after it, and a record that is handled
// after it is not committed. The next membership has a deadline of its own.
func TestFault_E1_HandlersAreFencedThoughTheDriverIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &deadlinedDriver{}, &seen{}
		d.setDeadline(10 * time.Second)
		var cause error
		var cancelled time.Time
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), func(ctx context.Context, v []byte) error {
			got.add(v)
			if string(v) == "2" {
				<-ctx.Done()
				cause, cancelled = context.Cause(ctx), time.Now()
			}
			return nil // late, and all the same it was handled
		}})
		c := d.consumer(t)
		cl, idle := c.assign(0, 0), c.assign(1, 0)
		began := time.Now()
		c.deliver(cl, 0, 9)
		pass(5 * time.Second)
		d.setDeadline(10 * time.Second) // a heartbeat was answered: 15s from the beginning
		pass(9 * time.Second)
		require.NoError(t, cause, "cancelled at a deadline that had moved")
		require.Equal(t, StateRunning, state(t, m).State)
		pass(time.Second)
		require.Same(t, ErrPartitionLost, cause)
		require.Equal(t, 15*time.Second, cancelled.Sub(began))
		c.deliver(cl, 10, 10)
		c.deliver(idle, 0, 0)
		pass(time.Minute)
		require.Equal(t, []string{"0", "1", "2"}, got.all())
		require.Equal(t, []int64{2}, c.committed(cl))
		require.Empty(t, c.committed(idle))
		s := state(t, m)
		require.Equal(t, StateStarting, s.State)
		require.ErrorIs(t, s.Reason, driver.ErrMembershipLost)

		for _, cl := range []*driver.Claim{cl, idle} {
			c.take(cl)
		}
		c.h.Lost([]*driver.Claim{cl, idle}, errSilent)
		d.setDeadline(10 * time.Second)
		again := c.assign(0, 2)
		c.deliver(again, 2, 3)
		pass(5 * time.Second)
		require.Equal(t, StateRunning, state(t, m).State)
		require.Equal(t, []string{"0", "1", "2", "2"}, got.all())
		pass(6 * time.Second)
		require.Equal(t, []string{"0", "1", "2", "2"}, got.all(), "the timer is set for the new membership, too")
		require.Empty(t, c.committed(again))
	})
}

// E1: a process that was frozen for longer than the session hands out the rest of
// one chunk at most, commits nothing of it, and takes no other. The timer is left
// out here, as if it ran last: a frozen process is played by a deadline that has
// passed without any time passing.
func TestFault_E1_ThawedProcessHandsOutNoMoreThanOneChunk(t *testing.T) {
	for _, test := range []struct {
		name  string
		of    func(cfg ConsumerConfig, handle func(string)) Consumer
		most  int
		chunk int
	}{
		{"values", func(cfg ConsumerConfig, handle func(string)) Consumer {
			return &handlerFunc{cfg, func(_ context.Context, v []byte) error { handle(string(v)); return nil }}
		}, takeLimit, takeLimit},
		{"messages", func(cfg ConsumerConfig, handle func(string)) Consumer {
			return NewConsumer(cfg, func(_ context.Context, m *Message) error { handle(string(m.Value)); return nil })
		}, messageLimit, messageLimit},
		{"batches", func(cfg ConsumerConfig, handle func(string)) Consumer {
			return &batchConsumer{handlerFunc{cfg: cfg}, func(_ context.Context, ms []*Message) error {
				for _, m := range ms {
					handle(string(m.Value))
				}
				return nil
			}}
		}, 10, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, got := &deadlinedDriver{}, &seen{}
			cfg := testConfig()
			cfg.MaxBatchSize = 10
			m := New(d, quiet())
			t.Cleanup(func() { stop(t, m) })
			startOn(t, m, test.of(cfg, func(v string) {
				got.add([]byte(v))
				if v == "2" {
					d.setDeadline(-time.Second) // it has passed meanwhile
				}
			}))
			c := d.consumer(t)
			cl := c.assign(0, 0) // no deadline yet, so no timer
			c.deliver(cl, 0, 999)
			pass(time.Minute)
			require.Len(t, got.all(), test.chunk, test.name)
			require.Empty(t, c.committed(cl), test.name)
			require.Equal(t, StateStarting, state(t, m).State, test.name)
		})
	}
}

// E1: the committer looks at the clock, too: after a thaw it may run before any
// worker takes another chunk.
func TestFault_E1_NothingIsCommittedAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deadlinedDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "0" {
				d.setDeadline(-time.Second) // it has passed meanwhile
				return nil
			}
			time.Sleep(10 * time.Second)
			return nil
		}})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(5 * time.Second)
		require.Empty(t, c.committed(cl), "handled after the deadline, and committed while the next handler runs")
		require.Equal(t, StateStarting, state(t, m).State)
		pass(time.Minute)
		require.Empty(t, c.committed(cl))
	})
}

// E1: the same during the backoff of a record: it is not handed out again.
func TestFault_E1_NoRetryAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &deadlinedDriver{}, 0
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error {
			n++
			d.setDeadline(500 * time.Millisecond)
			return errHandler
		}})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 9)
		pass(time.Minute)
		require.Equal(t, 1, n)
	})
}

// E1: a deadline that has passed does not end claims that a new membership has
// brought since.
func TestFault_E1_OldDeadlineSparesNewClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &deadlinedDriver{}, &seen{}
		d.setDeadline(time.Hour)
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), func(_ context.Context, v []byte) error { got.add(v); return nil }})
		c := d.consumer(t)
		old := c.assign(0, 0)
		s := old.Owner.(*partition).env.keeper.(*claims)
		owned := s.live() // what a goroutine has found expired, before it goes on
		c.lose(old)
		now := c.assign(0, 0)
		synctest.Wait()
		s.fence(owned...)
		c.deliver(now, 0, 0)
		pass(time.Second)
		require.Equal(t, []string{"0"}, got.all())
		require.Equal(t, []int64{1}, c.committed(now))
		require.Equal(t, StateRunning, state(t, m).State)
	})
}

// A look at the deadline costs no allocation, and without a driver that knows one
// not even a look at the clock.
func TestFault_E1_DeadlineCostsNoAllocation(t *testing.T) {
	d := &deadlinedDriver{}
	d.setDeadline(time.Hour)
	c, err := d.OpenConsumer(t.Context(), driver.ConsumerConfig{})
	require.NoError(t, err)
	clock := &deadline{until: sessionDeadline(c)}
	require.False(t, clock.passed())
	require.Zero(t, testing.AllocsPerRun(1000, func() { clock.passed() }), fmt.Sprintf("%T", c))
	require.Nil(t, sessionDeadline(&fakeConsumer{}))
}
