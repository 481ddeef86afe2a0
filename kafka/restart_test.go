package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B17, B21: restarts back off 1, 2, 4 … 60 s; the tenth failure in a row
// disables, and nothing is opened after that.
func TestRestartsBackOffAndDisableInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		var opens []time.Duration
		began := time.Now()
		d.openErr = func(int) error {
			opens = append(opens, time.Since(began))
			return errDial
		}
		m := start(t, d, testConfig(), nothing, WithHook(hook))
		s := state(t, m)
		require.Equal(t, StateBackingOff, s.State)
		require.ErrorIs(t, s.Reason, errDial)
		require.Equal(t, 1, s.Errors)
		require.Equal(t, began.Add(time.Second), s.NextRetry)
		pass(time.Hour)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}
		for i := range want {
			want[i] *= time.Second
		}
		require.Equal(t, want, opens)
		s = state(t, m)
		require.Equal(t, StateDisabled, s.State)
		require.False(t, s.Switch)
		require.ErrorIs(t, s.Reason, errDial)
		d.mu.Lock()
		d.openErr = nil
		d.mu.Unlock()
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		s = state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.NoError(t, s.Reason)
		require.Zero(t, s.Errors)
		var path []State
		for _, e := range eventsOf[StateChanged](hook) {
			path = append(path, e.To)
		}
		require.GreaterOrEqual(t, len(path), 4)
		require.Equal(t, []State{StateStarting, StateDisabled, StateStarting, StateRunning}, path[len(path)-4:])
	})
}

// B22: an error that no retry cures disables at once.
func TestB22_PermanentErrorDisablesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(int) error {
			return &driver.Error{Code: "SASL_AUTHENTICATION_FAILED", Kind: driver.ErrPermanent, Err: errDial}
		}}
		m := start(t, d, testConfig(), nothing)
		pass(time.Hour)
		s := state(t, m)
		require.Equal(t, StateDisabled, s.State)
		require.ErrorIs(t, s.Reason, ErrPermanent)
		require.Equal(t, 1, d.openCount(), "attempts")
	})
}

// B17: a switch-off ends the backoff at once, a switch-on too, and stop as well.
func TestB17_BackoffEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(n int) error {
			if n <= 6 {
				return errDial
			}
			return nil
		}}
		m := start(t, d, testConfig(), nothing)
		pass(32 * time.Second) // the sixth has failed, the next is due in 31s
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		require.Equal(t, StateOff, state(t, m).State)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		require.Equal(t, StateRunning, state(t, m).State)
		require.Equal(t, 7, d.openCount(), "attempts")
	})
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(int) error { return errDial }}
		m := start(t, d, testConfig(), nothing)
		pass(10 * time.Second)
		opened, began := d.openCount(), time.Now()
		stop(t, m)
		require.Zero(t, time.Since(began))
		pass(time.Hour)
		require.Equal(t, opened, d.openCount(), "clients were opened after the shutdown")
	})
}

// B21: progress sets the count to zero.
func TestB21_ProgressResetsTheCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		for range 30 {
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			synctest.Wait()
			c.end <- errors.New("connection lost")
			pass(1500 * time.Millisecond)
		}
		require.Equal(t, StateRunning, state(t, m).State)
		require.Equal(t, 31, d.openCount(), "sessions")
	})
}

// The count of restarts in a row ends with the first record that is handled.
func TestProgressShowsInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(n int) error {
			if n <= 2 {
				return errDial
			}
			return nil
		}}
		m := start(t, d, testConfig(), nothing)
		pass(10 * time.Second)
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.Equal(t, 2, s.Errors, "there was no progress yet")
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Second)
		require.Zero(t, state(t, m).Errors, "there was progress")
	})
}

// B40: a panic in the driver is a failure like any other.
func TestB40_DriverPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &panickingDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), nothing})
		s := state(t, m)
		require.Equal(t, StateBackingOff, s.State)
		require.ErrorContains(t, s.Reason, "boom")
		pass(90 * time.Second)
		require.GreaterOrEqual(t, d.openCount(), 6, "sessions")
	})
}

type panickingDriver struct{ fakeDriver }

func (d *panickingDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.fakeDriver.OpenConsumer(ctx, cfg)
	return panickingConsumer{c}, err
}

type panickingConsumer struct{ driver.Consumer }

func (panickingConsumer) Run(driver.Handler) error { panic("boom") }

// Time spent dialling does not count as running: a broker that never answers
// disables the consumer, too.
func TestSlowDialsAreFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &silentDriver{}
		cfg := testConfig()
		cfg.Backoff.Max = 10 * time.Second
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{cfg, nothing})
		pass(2 * time.Hour)
		s := state(t, m)
		require.Equal(t, StateDisabled, s.State, "after %d errors", s.Errors)
		require.Equal(t, int32(10), d.opens.Load(), "attempts")
	})
}

// A stop in the middle of dialling is a clean one.
func TestStopWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&silentDriver{}, quiet())
		startOn(t, m, &handlerFunc{testConfig(), nothing})
		stop(t, m)
	})
}

// A silentDriver's brokers never answer.
type silentDriver struct {
	fakeDriver
	opens atomic.Int32
}

func (d *silentDriver) OpenConsumer(ctx context.Context, _ driver.ConsumerConfig) (driver.Consumer, error) {
	d.opens.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A driver that panics with live claims revokes none of them.
func TestPanicInRunEndsItsClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crashingConsumer{h: make(chan driver.Handler, 1), crash: make(chan struct{})}
		m := New(&crashingDriver{c: c}, quiet())
		var handled atomic.Int32
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error {
			handled.Add(1)
			time.Sleep(time.Second)
			return nil
		}})
		h := <-c.h
		cl := &driver.Claim{Topic: "orders"}
		h.Assign([]*driver.Claim{cl})
		h.Deliver(cl, driver.Batch{Records: []driver.Record{{Offset: 0}, {Offset: 1}, {Offset: 2}}})
		pass(500 * time.Millisecond)
		close(c.crash)
		pass(time.Minute)
		require.Equal(t, int32(1), handled.Load(), "records handed out: one before the crash")
		stop(t, m)
	})
}

type crashingDriver struct {
	fakeDriver
	c *crashingConsumer
}

func (d *crashingDriver) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	if d.opened++; d.opened > 1 {
		return nil, errDial
	}
	return d.c, nil
}

type crashingConsumer struct {
	fakeConsumer
	h     chan driver.Handler
	crash chan struct{}
}

func (c *crashingConsumer) Run(h driver.Handler) error {
	h.Assign(nil)
	c.h <- h
	<-c.crash
	panic("boom")
}

func (c *crashingConsumer) Close(context.Context) error { return nil }

func (c *crashingConsumer) Commit(context.Context, []driver.Mark) error { return nil }
