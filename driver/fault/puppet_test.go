package fault_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
)

// A puppet is a driver, its consumer and its producer, which do nothing of
// themselves: the test calls the handler, and no message is ever accepted.
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

// What was opened in vain is closed.
func TestOpenAfterCloses(t *testing.T) {
	p := newPuppet()
	d := fault.Wrap(p, fault.After(boom))
	_, err1 := d.OpenConsumer(t.Context(), consumerConfig)
	_, err2 := d.OpenProducer(t.Context(), producerConfig)
	equal(t, "errors", []error{err1, err2}, []error{boom, boom})
	equal(t, "closed", p.closed.Load(), 2)
}

// A client that has crashed may go on for a while: nothing of it is seen but the
// end of each claim, as a loss.
func TestCrashedSessionTellsLossesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		c, err := fault.Wrap(p, fault.On(fault.Run, fault.All(fault.Delay(time.Second), fault.After(boom)))).
			OpenConsumer(t.Context(), consumerConfig)
		if err != nil {
			t.Fatal(err)
		}
		told := &told{}
		end := make(chan error, 1)
		go func() { end <- c.Run(told) }()
		h := <-p.handler
		one, two, late := &driver.Claim{Partition: 1}, &driver.Claim{Partition: 2}, &driver.Claim{Partition: 3}
		h.Assign([]*driver.Claim{one, two})
		time.Sleep(2 * time.Second)
		equal(t, "closed", p.closed.Load(), 1)
		told.taken()

		h.Deliver(one, driver.Batch{})
		h.Assign([]*driver.Claim{late})
		h.Revoke(t.Context(), []*driver.Claim{one, late})
		h.Lost([]*driver.Claim{two}, errors.New("another cause"))
		equal(t, "told", told.taken(), []string{"lost, BOOM: injected 1", "lost, BOOM: injected 2"})
		p.end <- nil
		equal(t, "Run", <-end, boom)
		equal(t, "Close", c.Close(t.Context()), error(nil))
	})
}

// The answer of a Close that has ended by its context goes before the fault's.
func TestCloseAfterWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		h := &told{revoke: func(ctx context.Context) { <-ctx.Done() }}
		r := run(t, b, fault.On(fault.CloseConsumer, fault.After(boom)), h)
		equal(t, "Close", r.Close(within(t, time.Second)), context.DeadlineExceeded)
	})
}

// A Flush does not wait for a message that is refused in the end.
func TestFlushBesideRefusedProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := fault.Wrap(newPuppet(), fault.Any()).OpenProducer(t.Context(), producerConfig)
		if err != nil {
			t.Fatal(err)
		}
		a := &answers{t: t, got: map[string]error{}}
		m := a.message("a")
		end := make(chan error, 1)
		go func() { end <- p.Produce(within(t, time.Second), m) }()
		synctest.Wait()
		begin := time.Now()
		equal(t, "Flush", p.Flush(within(t, time.Minute)), error(nil))
		equal(t, "time", time.Since(begin), time.Second)
		equal(t, "Produce", <-end, context.DeadlineExceeded)
		equal(t, "outcome", a.of("a"), "none")
		equal(t, "the message's own acker", m.Acker, driver.Acker(answer{a, "a"}))
		equal(t, "Close", p.Close(t.Context()), error(nil))
	})
}
