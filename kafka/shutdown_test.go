package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

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
		require.NoError(t, err)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(time.Second)
		began := time.Now()
		stop(t, m)
		require.Equal(t, 4*time.Second, time.Since(began), "the rest of the running handler")
		require.NoError(t, sendErr)
		require.Equal(t, []string{"0"}, got.all())
		require.Equal(t, []int64{1}, c.committed(cl))
		require.ErrorIs(t, p.Send(t.Context(), "results", nil, nil), ErrClosed)
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
		assert.Equal(t, 30*time.Second, time.Since(began))
		assert.GreaterOrEqual(t, cancelled, 20*time.Second, "the handler was cancelled long before the deadline")
		assert.Same(t, ErrShutdown, cause)
		var se *StopError
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		if assert.ErrorAs(t, err, &se) {
			assert.Equal(t, []string{`consumer "job": handler of orders/1 at offset 7`}, se.Running)
		}
		close(release)
		require.NoError(t, m.Shutdown(context.Background()), "everything has ended")
	})
}

// Z5: the end of the start context stops everything, also if no caller waits;
// WaitStop returns when it is done. Z2: every caller gets the same answer.
func TestEndOfTheStartContextShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			time.Sleep(time.Second)
			return ctx.Err()
		}}))
		require.NoError(t, m.SetConsumerSwitch("job", true))
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, m.StartAllConsumers(ctx))
		synctest.Wait()
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 5)
		synctest.Wait()
		cancel()
		m.WaitStop()
		require.Equal(t, []int64{1}, c.committed(cl), "the end of the context is no reason to fail a handler")
		require.NoError(t, m.Shutdown(context.Background()), "second shutdown")
		m.WaitStop()
	})
}

// The callbacks of messages that a severed producer leaves unanswered run before
// Shutdown returns.
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
		require.NoError(t, err)
		var outcome error
		p.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) { outcome = err })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.ErrorIs(t, m.Shutdown(ctx), context.Canceled, "the error of the producer that was severed")
		require.ErrorIs(t, outcome, ErrUnknownOutcome, "what the callback had got when Shutdown returned")
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
		require.NoError(t, err)
		var called atomic.Bool
		go p.SendAsync(context.Background(), "orders", nil, nil, func(*ProducerMessage, error) { called.Store(true) })
		synctest.Wait()
		stop(t, m)
		require.True(t, called.Load(), "the callback was still to come when Shutdown returned")
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
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		require.NoError(t, m.Shutdown(ctx))
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

func (p *scriptedProducer) Flush(context.Context) error { return nil }

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
		require.Equal(t, []int64{1}, c.committed(cl))
		require.Zero(t, time.Since(began))
		require.Empty(t, eventsOf[CommitFailed](hook), "a commit that gave way counts as failed")
	})
}

// A handler that ignores its context does not keep the records from being committed
// that its neighbours handle in the shutdown's last moments.
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
		assert.Error(t, m.Shutdown(ctx), "one handler still runs")
		assert.Equal(t, []int64{1}, c.committed(obeys))
		close(release)
		synctest.Wait()
	})
}
