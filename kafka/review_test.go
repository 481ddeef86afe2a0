package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// The tests of this file hold sequences of events that a reader of the code has
// found to go wrong. The drivers here do what the contract allows and no other
// test makes them do.

// crowd is a handler that blocks until release, and counts how many are inside.
type crowd struct {
	inside, most atomic.Int32
	release      chan struct{}
}

func (c *crowd) handle(context.Context, []byte) error {
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	<-c.release
	return nil
}

// A claim that is lost while it waits for the worker of the one before must not
// make the job forget that one.
func TestStragglersFormAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, crowd := &fakeDriver{}, &crowd{release: make(chan struct{})}
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{testConfig(), crowd.handle})
		c := d.consumer(t)
		for range 3 {
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			synctest.Wait()
			c.lose(cl)
			synctest.Wait()
		}
		if got := state(t, m).Stragglers; len(got) != 1 || crowd.most.Load() != 1 {
			t.Errorf("stragglers %v, %d handlers at once; want one of each", got, crowd.most.Load())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var se *StopError
		if err := m.Shutdown(ctx); !errors.As(err, &se) || len(se.Running) != 1 {
			t.Errorf("Shutdown: %v, want a StopError that names one handler", err)
		}
		close(crowd.release)
		must(t, m.Shutdown(context.Background()))
	})
}

// The driver may assign a partition again as soon as Revoke's window has ended,
// before Revoke has returned.
func TestAssignAtTheEndOfAWindowWaitsForTheStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, crowd := &fakeDriver{}, &crowd{release: make(chan struct{})}
		start(t, d, testConfig(), crowd.handle)
		c := d.consumer(t)
		first := c.assign(0, 0)
		c.deliver(first, 0, 0)
		synctest.Wait()
		c.take(first)
		ctx, cancel := context.WithCancel(context.Background())
		go c.h.Revoke(ctx, []*driver.Claim{first})
		synctest.Wait()
		cancel()
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		if got := crowd.most.Load(); got != 1 {
			t.Errorf("%d handlers of one partition at once", got)
		}
		close(crowd.release)
	})
}

// The queue is judged full, and emptied by the worker before the pause is told:
// then nothing would ever resume it.
func TestPauseIsNotOvertaken(t *testing.T) {
	d := &fakeDriver{}
	cfg := testConfig()
	cfg.MaxBufferedMessages = 1
	var handled atomic.Int64
	m := New(d, quiet())
	t.Cleanup(func() { stop(t, m) })
	must(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, func(context.Context, []byte) error { handled.Add(1); return nil }}))
	must(t, m.SetConsumerSwitch("job", true))
	must(t, m.StartAllConsumers(context.Background()))
	for deadline := time.Now().Add(10 * time.Second); state(t, m).State != StateRunning; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", state(t, m))
		}
	}
	c := d.consumer(t)
	cl := c.assign(0, 0)
	p := cl.Owner.(*partition)
	for offset := int64(0); offset < 10_000; offset += 2 {
		c.deliver(cl, offset, offset+1)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(0) {
			p.mu.Lock()
			settled := p.waiting && !p.flow.have && p.flow.reasons == 0
			flow, queued := p.flow, p.queue.n
			p.mu.Unlock()
			if settled {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %d records: %+v with %d queued", offset, flow, queued)
			}
		}
		c.mu.Lock()
		c.pauses = nil
		c.mu.Unlock()
	}
}

// The callbacks of what a severed producer leaves unanswered run before Shutdown
// returns.
func TestShutdownWaitsForTheLastCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scriptedDriver{close: func(ctx context.Context, unanswered []*driver.Message) error {
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			for _, m := range unanswered {
				m.Acker.Ack(driver.ErrUnknownOutcome)
			}
			return ctx.Err()
		}}
		m := New(d, quiet())
		p, err := m.RegisterProducer(t.Context(), asyncProducer())
		must(t, err)
		var outcome error
		p.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) { outcome = err })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown: %v, want the error of the producer that was severed", err)
		}
		if !errors.Is(outcome, ErrUnknownOutcome) {
			t.Errorf("when Shutdown returned the callback had got %v, want an unknown outcome", outcome)
		}
	})
}

// A send that waits for buffer space when the shutdown begins gets its callback
// before Shutdown returns.
func TestShutdownWaitsForSendsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing := make(chan struct{})
		d := &scriptedDriver{
			produce: func() error { <-closing; time.Sleep(time.Millisecond); return driver.ErrClosed },
			close:   func(context.Context, []*driver.Message) error { close(closing); return nil },
		}
		m := New(d, quiet())
		p, err := m.RegisterProducer(t.Context(), asyncProducer())
		must(t, err)
		var called atomic.Bool
		go p.SendAsync(context.Background(), "orders", nil, nil, func(*ProducerMessage, error) { called.Store(true) })
		synctest.Wait()
		stop(t, m)
		if !called.Load() {
			t.Error("the callback was still to come when Shutdown returned")
		}
	})
}

// A shutdown with more time than the manager's default gives it to the flush.
func TestLongShutdownIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &scriptedDriver{close: func(ctx context.Context, _ []*driver.Message) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		m := New(d, quiet())
		_, err := m.RegisterProducer(t.Context(), asyncProducer())
		must(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		must(t, m.Shutdown(ctx))
	})
}

func asyncProducer() ProducerConfig {
	return ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: BoolPtr(true)}
}

// A scriptedDriver's producers accept everything, if produce is not set, and
// answer nothing before close.
type scriptedDriver struct {
	fakeDriver
	produce func() error
	close   func(ctx context.Context, unanswered []*driver.Message) error
}

func (d *scriptedDriver) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return &scriptedProducer{d: d}, nil
}

type scriptedProducer struct {
	d          *scriptedDriver
	unanswered []*driver.Message
}

func (p *scriptedProducer) Produce(_ context.Context, m *driver.Message) error {
	if p.d.produce != nil {
		return p.d.produce()
	}
	p.unanswered = append(p.unanswered, m)
	return nil
}

func (p *scriptedProducer) Flush(context.Context) error     { return nil }
func (p *scriptedProducer) Close(ctx context.Context) error { return p.d.close(ctx, p.unanswered) }

// A commit in the background that hangs must not keep the final one waiting.
func TestHungCommitDoesNotKeepTheFinalOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		first := true
		d.commit = func(ctx context.Context, _ []driver.Mark) error {
			if !first {
				return nil
			}
			first = false
			<-ctx.Done()
			return ctx.Err()
		}
		m := New(d, quiet(), WithHook(hook))
		startOn(t, m, &handlerFunc{testConfig(), nothing})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(100 * time.Millisecond)
		began := time.Now()
		stop(t, m)
		if got, took := c.committed(cl), time.Since(began); len(got) != 1 || took != 0 {
			t.Errorf("committed %v after %v, want [1] at once", got, took)
		}
		if es := eventsOf[CommitFailed](hook); len(es) != 0 {
			t.Errorf("a commit that gave way counts as failed: %v", es)
		}
	})
}

// A handler that ignores its context must not keep what its neighbours handled
// in the shutdown's last moments from being committed.
func TestStuckNeighbourDoesNotKeepTheFinalCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		release := make(chan struct{})
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{testConfig(), func(ctx context.Context, v []byte) error {
			if string(v) == "7" {
				<-release
				return nil
			}
			<-ctx.Done()
			return nil // done, because asked to
		}})
		c := d.consumer(t)
		stuck, obeys := c.assign(0, 7), c.assign(1, 0)
		c.deliver(stuck, 7, 7)
		c.deliver(obeys, 0, 0)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := m.Shutdown(ctx); err == nil {
			t.Error("Shutdown says that nothing runs any more")
		}
		if got := c.committed(obeys); len(got) != 1 || got[0] != 1 {
			t.Errorf("committed %v of the neighbour, want [1]", got)
		}
		close(release)
		synctest.Wait()
	})
}

// What an earlier session fails at does not disable a consumer that has been
// switched off and on since.
func TestOldSessionDoesNotDisableANewWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		refusals := 1
		d.commit = func(context.Context, []driver.Mark) error {
			if refusals == 0 {
				return nil
			}
			refusals--
			time.Sleep(3 * time.Second)
			return &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
		}
		cfg := testConfig()
		cfg.MaxConsecutiveErrors = 1
		m := start(t, d, cfg, nothing)
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Second)
		must(t, m.SetConsumerSwitch("job", false))
		must(t, m.SetConsumerSwitch("job", true))
		pass(time.Minute)
		if s := state(t, m); !s.Switch || s.State != StateRunning {
			t.Errorf("the last wish was on, but %v because of %v", s.State, s.Reason)
		}
	})
}

// Time spent dialling is not health: a broker that never answers disables in
// the end, too.
func TestSlowDialsAreFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &silentDriver{}
		cfg := testConfig()
		cfg.Backoff.Max = 10 * time.Second
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{cfg, nothing})
		pass(2 * time.Hour)
		if s := state(t, m); s.State != StateDisabled || d.opens.Load() != 10 {
			t.Errorf("%v with %d errors after %d attempts, want disabled after 10", s.State, s.Errors, d.opens.Load())
		}
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

// A driver that panics with live claims leaves nobody to revoke them.
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
		if got := handled.Load(); got != 1 {
			t.Errorf("%d records were handed out, want the one before the crash", got)
		}
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

func (c *crashingConsumer) Close(context.Context) error                 { return nil }
func (c *crashingConsumer) Commit(context.Context, []driver.Mark) error { return nil }

// Commits that fail are spaced by the interval, however often a queue runs empty.
func TestFailingCommitsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		n := 0
		d.commit = func(context.Context, []driver.Mark) error { n++; return errDial }
		start(t, d, testConfig(), nothing)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		for offset := range int64(1000) {
			c.deliver(cl, offset, offset)
			pass(10 * time.Millisecond)
		}
		if n < 5 || n > 11 {
			t.Errorf("%d commits failed in 10s, want about one a second", n)
		}
	})
}

// AutoCommit commits a record that has been handed out, also while its handler
// is at it.
func TestAutoCommitDoesNotWaitForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.AutoCommit = true
		release := make(chan struct{})
		start(t, d, cfg, func(context.Context, []byte) error { <-release; return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(2 * time.Second)
		if got := c.committed(cl); len(got) != 1 || got[0] != 1 {
			t.Errorf("committed %v, want [1]", got)
		}
		close(release)
	})
}

// Failures of one record are counted across rebalances, so its backoff goes on
// growing.
func TestRebalancesDoNotForgiveABadRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		start(t, d, testConfig(), func(context.Context, []byte) error { return errHandler }, WithHook(hook))
		c := d.consumer(t)
		for range 20 {
			cl := c.assign(0, 5)
			c.deliver(cl, 5, 5)
			synctest.Wait()
			c.revoke(cl)
		}
		failed := eventsOf[HandlerFailed](hook)
		if len(failed) != 20 {
			t.Fatalf("%d failures, want 20", len(failed))
		}
		for i, e := range failed {
			if want := min(time.Second<<i, time.Minute); e.Failures != i+1 || e.Backoff != want {
				t.Errorf("failure %d is the %d-th with a backoff of %v, want %v", i+1, e.Failures, e.Backoff, want)
			}
		}
	})
}

// A hook that panics harms nobody.
func TestPanickingHookHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing, WithHook(panickingHook{}))
		if s := state(t, m); s.State != StateRunning {
			t.Errorf("%v, want running", s.State)
		}
	})
}

type panickingHook struct{ NopHook }

func (panickingHook) Event(e Event) { panic(fmt.Sprintf("%T", e)) }

// A record that failed under one claim and is handled at once under the next is
// forgiven.
func TestHandledRecordIsForgivenAcrossClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fail := &fakeDriver{}, &recorder{}, true
		start(t, d, testConfig(), func(context.Context, []byte) error {
			if fail {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		for _, fail = range []bool{true, false, true} {
			cl := c.assign(0, 5)
			c.deliver(cl, 5, 5)
			pass(1500 * time.Millisecond)
			c.revoke(cl)
		}
		var counts []int
		for _, e := range eventsOf[HandlerFailed](hook) {
			counts = append(counts, e.Failures)
		}
		if want := []int{1, 2, 1, 2}; !slices.Equal(counts, want) {
			t.Errorf("failures counted %v, want %v", counts, want)
		}
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
		if s := state(t, m); s.State != StateRunning || s.Errors != 2 {
			t.Errorf("%v with %d errors, want running with 2 and no progress yet", s.State, s.Errors)
		}
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Second)
		if s := state(t, m); s.Errors != 0 {
			t.Errorf("%d errors after progress, want 0", s.Errors)
		}
	})
}

// A consumer of a function that is nil can not be registered: it would panic at
// its first record.
func TestNilFunctionIsRefused(t *testing.T) {
	m := New(&fakeDriver{})
	if err := m.RegisterConsumer(t.Context(), NewConsumer(testConfig(), nil)); err == nil {
		t.Error("registered")
	}
}
