package fault_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A puppet is a driver, its consumer and its producer, which do nothing by themselves:
// the test calls the Handler, and no message is ever accepted.
type puppet struct {
	handler chan driver.Handler
	end     chan error // what Run returns
	closed  atomic.Int32
}

func newPuppet() *puppet {
	return &puppet{handler: make(chan driver.Handler, 1), end: make(chan error, 1)}
}

func (p *puppet) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return puppetConsumer{p}, nil
}

func (p *puppet) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return puppetProducer{p}, nil
}

func (p *puppet) Close(context.Context) error {
	p.closed.Add(1)
	return nil
}

type puppetConsumer struct{ *puppet }

func (c puppetConsumer) Run(h driver.Handler) error {
	c.handler <- h
	return <-c.end
}
func (puppetConsumer) Commit(context.Context, []driver.Mark) error { return nil }
func (puppetConsumer) Pause(...*driver.Claim)                      {}
func (puppetConsumer) Resume(...*driver.Claim)                     {}

type puppetProducer struct{ *puppet }

func (puppetProducer) Produce(ctx context.Context, _ *driver.Message) error {
	<-ctx.Done()
	return ctx.Err()
}
func (puppetProducer) Flush(context.Context) error { return nil }

// After closes what it has opened.
func TestOpenAfterCloses(t *testing.T) {
	p := newPuppet()
	d := fault.Wrap(p, fault.After(boom))
	_, err1 := d.OpenConsumer(t.Context(), consumerConfig)
	_, err2 := d.OpenProducer(t.Context(), producerConfig)
	require.ErrorIs(t, err1, boom)
	require.ErrorIs(t, err2, boom)
	require.Equal(t, int32(2), p.closed.Load(), "closed")
}

// A crashed client may keep running for a while: the Handler sees only the end of each
// claim, as a loss.
func TestCrashedSessionReportsLossesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		c, err := fault.Wrap(p, fault.On(fault.Run, fault.All(fault.Delay(time.Second), fault.After(boom)))).
			OpenConsumer(t.Context(), consumerConfig)
		require.NoError(t, err)
		seen := &calls{}
		end := make(chan error, 1)
		go func() { end <- c.Run(seen) }()
		h := <-p.handler
		one, two, late := &driver.Claim{Partition: 1}, &driver.Claim{Partition: 2}, &driver.Claim{Partition: 3}
		h.Assign([]*driver.Claim{one, two})
		time.Sleep(2 * time.Second)
		require.Equal(t, int32(1), p.closed.Load(), "closed")
		seen.taken()

		h.Deliver(one, driver.Batch{})
		h.Assign([]*driver.Claim{late})
		h.Revoke(t.Context(), []*driver.Claim{one, late})
		h.Lost([]*driver.Claim{two}, errors.New("another cause"))
		require.Equal(t, []string{"lost, BOOM: injected 1", "lost, BOOM: injected 2"}, seen.taken(), "calls")
		p.end <- nil
		require.ErrorIs(t, <-end, boom, "Run")
		require.NoError(t, c.Close(t.Context()), "Close")
	})
}

// The answer of a Close that has ended by its context goes before the fault's.
func TestCloseAfterWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		h := &calls{revoke: func(ctx context.Context) { <-ctx.Done() }}
		r := run(t, b, fault.On(fault.CloseConsumer, fault.After(boom)), h)
		require.ErrorIs(t, r.Close(testkit.Within(t, time.Second)), context.DeadlineExceeded, "Close")
	})
}

// A Flush does not wait for a message that is refused in the end.
func TestFlushBesideRefusedProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := fault.Wrap(newPuppet(), fault.Any()).OpenProducer(t.Context(), producerConfig)
		require.NoError(t, err)
		a := testkit.NewAcks(t)
		m := message(a, "a")
		end := make(chan error, 1)
		go func() { end <- p.Produce(testkit.Within(t, time.Second), m) }()
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, p.Flush(testkit.Within(t, time.Minute)), "Flush")
		require.Equal(t, time.Second, time.Since(begin), "time")
		require.ErrorIs(t, <-end, context.DeadlineExceeded, "Produce")
		require.Equal(t, "none", outcome(a, "a"), "outcome")
		require.Equal(t, a.Acker("a"), m.Acker, "the message's own acker")
		require.NoError(t, p.Close(t.Context()), "Close")
	})
}
