package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

var errDial = errors.New("no broker answers")

func nothing(context.Context, []byte) error { return nil }

// B17, B21: restarts back off 1, 2, 4 … 60 s; the tenth failure in a row
// disables, and nothing is opened any more.
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
		if s := state(t, m); s.State != StateBackingOff || !errors.Is(s.Reason, errDial) || s.Errors != 1 ||
			!s.NextRetry.Equal(began.Add(time.Second)) {
			t.Errorf("after the first failure: %+v", s)
		}
		pass(time.Hour)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(opens, want) {
			t.Errorf("opened at %v, want %v", opens, want)
		}
		s := state(t, m)
		if s.State != StateDisabled || s.Switch || !errors.Is(s.Reason, errDial) {
			t.Errorf("after ten failures: %+v, want disabled, switch off, and why", s)
		}
		d.mu.Lock()
		d.openErr = nil
		d.mu.Unlock()
		must(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		if s := state(t, m); s.State != StateRunning || s.Reason != nil || s.Errors != 0 {
			t.Errorf("switched on again: %+v, want running", s)
		}
		var path []string
		for _, e := range eventsOf[StateChanged](hook) {
			path = append(path, e.To.String())
		}
		if got := strings.Join(path[len(path)-4:], ", "); got != "starting, disabled, starting, running" {
			t.Errorf("last states: %s", got)
		}
	})
}

// B22: what no retry can cure disables at once.
func TestB22_PermanentErrorDisablesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(int) error {
			return &driver.Error{Code: "SASL_AUTHENTICATION_FAILED", Kind: driver.ErrPermanent, Err: errDial}
		}}
		m := start(t, d, testConfig(), nothing)
		pass(time.Hour)
		s := state(t, m)
		if s.State != StateDisabled || !errors.Is(s.Reason, ErrPermanent) || d.openCount() != 1 {
			t.Errorf("%+v after %d attempts, want disabled after one", s, d.openCount())
		}
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
		must(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		if s := state(t, m); s.State != StateOff {
			t.Errorf("switched off while backing off: %v, want off", s.State)
		}
		must(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		if s := state(t, m); s.State != StateRunning || d.openCount() != 7 {
			t.Errorf("switched on again: %v after %d attempts, want running after 7", s.State, d.openCount())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(int) error { return errDial }}
		m := start(t, d, testConfig(), nothing)
		pass(10 * time.Second)
		opened, began := d.openCount(), time.Now()
		stop(t, m)
		if took := time.Since(began); took != 0 {
			t.Errorf("shutdown while backing off took %v, want 0s", took)
		}
		pass(time.Hour)
		if got := d.openCount(); got != opened {
			t.Errorf("%d clients opened after the shutdown", got-opened)
		}
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
		if s := state(t, m); s.State != StateRunning || d.openCount() != 31 {
			t.Errorf("%v after %d sessions, want running after 31", s.State, d.openCount())
		}
	})
}

// B40: a panic in the driver is a failure like any other.
func TestB40_DriverPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &panickingDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), nothing})
		if s := state(t, m); s.State != StateBackingOff || !strings.Contains(s.Reason.Error(), "boom") {
			t.Errorf("%+v, want backing off because of boom", s)
		}
		pass(90 * time.Second)
		if got := d.openCount(); got < 6 {
			t.Errorf("%d sessions, want more attempts", got)
		}
	})
}

type panickingDriver struct{ fakeDriver }

type panickingConsumer struct{ driver.Consumer }

func (panickingConsumer) Run(driver.Handler) error { panic("boom") }

func (d *panickingDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.fakeDriver.OpenConsumer(ctx, cfg)
	return panickingConsumer{c}, err
}

// A failing record is tried again in place, forever, at up to Backoff.Max, and
// visibly; it never switches its consumer off, and it is handled as soon as its
// handler can. I11: its neighbours go on meanwhile.
func TestFailingRecordIsTriedAgainForever(t *testing.T) {
	for _, most := range []int{1, 10, Unlimited} {
		synctest.Test(t, func(t *testing.T) {
			d, hook := &fakeDriver{}, &recorder{}
			var mu sync.Mutex // guards attempts and cured
			var attempts []time.Duration
			began, cured := time.Now(), false
			cfg := testConfig()
			cfg.MaxConsecutiveErrors = most
			m := start(t, d, cfg, func(_ context.Context, v []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if string(v) == "3" && !cured {
					attempts = append(attempts, time.Since(began))
					return errHandler
				}
				return nil
			}, WithHook(hook))
			c := d.consumer(t)
			bad, good := c.assign(0, 0), c.assign(1, 0)
			c.deliver(bad, 3, 9)
			pass(200 * time.Second)
			c.deliver(good, 100, 104)
			pass(time.Hour)
			mu.Lock()
			defer mu.Unlock()
			require.Greater(t, len(attempts), 60)
			for i, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60} {
				require.Equal(t, wait*time.Second, attempts[i+1]-attempts[i], "wait %d", i)
			}
			s := state(t, m)
			require.Equal(t, StateRunning, s.State)
			require.True(t, s.Switch)
			require.Equal(t, len(attempts), s.Errors)
			require.Equal(t, began.Add(attempts[len(attempts)-1]+time.Minute), s.NextRetry)
			require.Equal(t, []int64{105}, c.committed(good))
			require.Empty(t, c.committed(bad))
			ps := s.Partitions[0]
			require.Equal(t, len(attempts), ps.Errors)
			require.ErrorIs(t, ps.LastError, errHandler)
			failed := eventsOf[HandlerFailed](hook)
			require.Len(t, failed, len(attempts))
			for i, e := range failed {
				require.Equal(t, i+1, e.Failures)
				require.Positive(t, e.Backoff)
			}
			cured = true
			mu.Unlock()
			pass(2 * time.Minute)
			mu.Lock()
			require.Equal(t, []int64{10}, c.committed(bad))
			require.Zero(t, state(t, m).Errors)
		})
	}
}

// While the handler is at a record again, no attempt at it is due.
func TestNoRetryIsDueWhileAnAttemptIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		m := start(t, d, testConfig(), func(ctx context.Context, v []byte) error {
			if n++; n > 1 {
				time.Sleep(10 * time.Second)
			}
			return errHandler
		})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		s := state(t, m)
		require.Equal(t, time.Now().Add(time.Second), s.NextRetry)
		pass(5 * time.Second)
		s = state(t, m)
		require.Equal(t, 1, s.Errors)
		require.Zero(t, s.NextRetry)
		require.Zero(t, s.Partitions[0].NextRetry)
	})
}

// B29, W3, W5: every change of the switch is seen, at once.
func TestB29_SwitchActsAtOnceAndNoChangeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, testConfig(), func(ctx context.Context, v []byte) error {
			got.add(v)
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(2500 * time.Millisecond) // 0 and 1 are done, 2 is running
		began := time.Now()
		must(t, m.SetConsumerSwitch("job", false))
		must(t, m.SetConsumerSwitch("job", true)) // before anybody can have seen it off
		synctest.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want 0s", took)
		}
		if got, want := got.all(), []string{"0", "1", "2"}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
		if got := c.committed(cl); len(got) == 0 || got[len(got)-1] != 2 {
			t.Errorf("committed %v, want 2 at last", got)
		}
		if s := state(t, m); d.openCount() != 2 || s.State != StateRunning {
			t.Errorf("%d sessions, %v; want a second one, running", d.openCount(), s.State)
		}
		if s := state(t, m); s.Errors != 0 {
			t.Errorf("an interrupted handler counts as %d errors", s.Errors)
		}
	})
}

func TestFlappingSwitchEndsInTheLastWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		for i := range 101 {
			must(t, m.SetConsumerSwitch("job", i%2 == 0))
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		must(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		if s := state(t, m); s.State != StateOff {
			t.Errorf("%v, want off", s.State)
		}
		must(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		if s := state(t, m); s.State != StateRunning {
			t.Errorf("%v, want running", s.State)
		}
	})
}

// B03, B18: handlers that drain may send; nothing is handled afterwards; the
// order is consumers, then producers.
func TestB03_ShutdownDrainsBeforeProducersClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		var p *Producer
		var sendErr error
		m := start(t, d, testConfig(), func(ctx context.Context, v []byte) error {
			time.Sleep(5 * time.Second)
			got.add(v)
			sendErr = p.Send(ctx, "results", nil, v)
			return sendErr
		})
		p, err := m.RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
		must(t, err)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(time.Second)
		began := time.Now()
		stop(t, m)
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("shutdown took %v, want 4s: the rest of the running handler", took)
		}
		if sendErr != nil || !slices.Equal(got.all(), []string{"0"}) {
			t.Errorf("handled %v, send: %v; want [0] and a send that succeeds", got.all(), sendErr)
		}
		if got, want := c.committed(cl), []int64{1}; !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
		if err := p.Send(t.Context(), "results", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("send after the shutdown: %v, want ErrClosed", err)
		}
	})
}

// B13, B15: a handler that waits for its context does not hang the stop, and one
// that ignores it is named at the deadline.
func TestB15_ShutdownIsBoundedAndNamesWhatStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var cancelled time.Duration
		var cause error
		release, began := make(chan struct{}), time.Now()
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{testConfig(), func(ctx context.Context, v []byte) error {
			if string(v) == "7" {
				<-release
				return nil
			}
			<-ctx.Done()
			cancelled, cause = time.Since(began), context.Cause(ctx)
			return ctx.Err()
		}})
		c := d.consumer(t)
		obeys, deaf := c.assign(0, 0), c.assign(1, 7)
		c.deliver(obeys, 0, 0)
		c.deliver(deaf, 7, 7)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		began = time.Now()
		err := m.Shutdown(ctx)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("Shutdown took %v, want 30s", took)
		}
		if cancelled < 20*time.Second || cause != ErrShutdown {
			t.Errorf("handler cancelled after %v because of %v, want near the deadline, ErrShutdown", cancelled, cause)
		}
		var se *StopError
		if !errors.As(err, &se) || !errors.Is(err, context.DeadlineExceeded) ||
			!slices.Equal(se.Running, []string{`consumer "job": handler of orders/1 at offset 7`}) {
			t.Errorf("Shutdown = %v, want a StopError that names orders/1 at offset 7", err)
		}
		close(release)
		if err := m.Shutdown(context.Background()); err != nil {
			t.Errorf("once everything has ended: %v", err)
		}
	})
}

// B16: a second start starts nothing twice. B31: who registers later starts, too.
func TestB16_StartTwiceAndRegisterLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		must(t, m.StartAllConsumers(context.Background()))
		synctest.Wait()
		if got := d.openCount(); got != 1 {
			t.Errorf("%d sessions, want 1", got)
		}
		cfg := testConfig()
		cfg.JobName = "late"
		must(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
		must(t, m.SetConsumerSwitch("late", true))
		synctest.Wait()
		if s, _ := m.Consumer("late"); s.State != StateRunning {
			t.Errorf("registered after the start: %v, want running", s.State)
		}
	})
}

// B30, B32, B33: the registry.
func TestB30_DuplicateAndUnknownNames(t *testing.T) {
	m, other := New(&fakeDriver{}, quiet()), New(&fakeDriver{}, quiet())
	must(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}))
	for _, name := range []string{"job", "JOB"} {
		cfg := testConfig()
		cfg.JobName, cfg.Topic = name, "else"
		if err := m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}); !errors.Is(err, ErrDuplicate) {
			t.Errorf("second %q: %v, want ErrDuplicate", name, err)
		}
	}
	must(t, other.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing})) // another registry
	if err := m.SetConsumerSwitch("nobody", true); !errors.Is(err, ErrUnknownConsumer) {
		t.Errorf("switch of nobody: %v, want ErrUnknownConsumer", err)
	}
	if m.GetConsumerSwitch("nobody") || len(m.Consumers()) != 1 {
		t.Errorf("nobody has a switch, or an entry: %+v", m.Consumers())
	}
	must(t, m.SetConsumerSwitch("job", true))
	s := state(t, m)
	if !s.Switch || !m.GetConsumerSwitch("job") || s.State != StateOff {
		t.Errorf("before the start: switch %v, state %v; want on, off", s.Switch, s.State)
	}
	must(t, m.Shutdown(t.Context()))
	if s := state(t, m); s.State != StateStopped {
		t.Errorf("after the shutdown: %v, want stopped", s.State)
	}
	if err := m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}); !errors.Is(err, ErrClosed) {
		t.Errorf("register after the shutdown: %v, want ErrClosed", err)
	}
	if err := m.StartAllConsumers(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("start after the shutdown: %v, want ErrClosed", err)
	}
}

func TestConcurrentRegistrationLetsOneIn(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	errs := make(chan error)
	for range 100 {
		go func() { errs <- m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}) }()
	}
	in := 0
	for range 100 {
		if err := <-errs; err == nil {
			in++
		} else if !errors.Is(err, ErrDuplicate) {
			t.Error(err)
		}
	}
	if in != 1 {
		t.Errorf("%d of 100 were let in, want 1", in)
	}
}

func TestWhatCannotBeRegistered(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	var typedNil *handlerFunc
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nil", m.RegisterConsumer(t.Context(), nil), "handler is nil"},
		{"typed nil", m.RegisterConsumer(t.Context(), typedNil), "handler is nil"},
		{"nil ctx", m.RegisterConsumer(noContext(), &handlerFunc{testConfig(), nothing}), "ctx is nil"},
		{"nil config", m.RegisterConsumer(t.Context(), nilConfig{}), "GetConfig"},
		{"zero manager", new(Manager).RegisterConsumer(t.Context(), nilConfig{}), "New"},
		{"zero manager start", new(Manager).StartAllConsumers(t.Context()), "New"},
		{"zero manager switch", new(Manager).SetConsumerSwitch("job", true), "New"},
		{"no driver", New(nil).StartAllConsumers(t.Context()), "SetDefault"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, tt.err, tt.want)
		}
	}
	if len(m.Consumers()) != 0 {
		t.Errorf("registered: %+v", m.Consumers())
	}
	new(Manager).WaitStop()
}

type nilConfig struct{ Consumer }

func (nilConfig) GetConfig() *ConsumerConfig { return nil }

// Z5: the end of the start context stops everything, also if nobody waits;
// WaitStop returns when it is done. Z2: everybody gets the same answer.
func TestEndOfTheStartContextShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		must(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			time.Sleep(time.Second)
			return ctx.Err()
		}}))
		must(t, m.SetConsumerSwitch("job", true))
		ctx, cancel := context.WithCancel(t.Context())
		must(t, m.StartAllConsumers(ctx))
		synctest.Wait()
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 5)
		synctest.Wait()
		cancel()
		m.WaitStop()
		if got, want := c.committed(cl), []int64{1}; !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v: the end of the context is no reason to fail a handler", got, want)
		}
		if err := m.Shutdown(context.Background()); err != nil {
			t.Errorf("second shutdown: %v", err)
		}
		m.WaitStop()
	})
}

func TestHandlersGetTheValuesOfTheStartContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		d := &fakeDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		var got any
		var job string
		must(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			got, job = ctx.Value(key{}), JobName(ctx)
			return nil
		}}))
		must(t, m.SetConsumerSwitch("job", true))
		must(t, m.StartAllConsumers(context.WithValue(context.Background(), key{}, "value")))
		synctest.Wait()
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		if got != "value" || job != "job" || JobName(t.Context()) != "" {
			t.Errorf("ctx carries %v of job %q, want value of job", got, job)
		}
	})
}

// An idle stop takes no time at all.
func TestIdleStopTakesNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		d.consumer(t).assign(0, 0)
		pass(time.Hour)
		began := time.Now()
		must(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		if s := state(t, m); s.State != StateOff {
			t.Errorf("%v, want off", s.State)
		}
		stop(t, m)
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want 0s", took)
		}
	})
}

func TestMiddlewareWrapsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var calls []string
		mw := func(name string) Middleware {
			return func(next HandlerFunc) HandlerFunc {
				return func(ctx context.Context, ms []*Message) error {
					calls = append(calls, fmt.Sprintf("%s %d", name, ms[0].Offset))
					return next(ctx, ms)
				}
			}
		}
		start(t, d, testConfig(), func(context.Context, []byte) error {
			calls = append(calls, "handler")
			return nil
		}, WithMiddleware(mw("outer"), mw("inner")))
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 5, 5)
		synctest.Wait()
		if want := []string{"outer 5", "inner 5", "handler"}; !slices.Equal(calls, want) {
			t.Errorf("called %v, want %v", calls, want)
		}
	})
}
