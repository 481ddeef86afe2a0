package fault

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Wrap returns d with the faults of i. It implements every optional interface of the
// contract. Where d lacks one, its methods return the answer that stands for unknown.
func Wrap(d driver.Driver, i Injector) driver.Driver { return &faulty{d, i} }

type faulty struct {
	inner driver.Driver
	i     Injector
}

var _ interface {
	driver.ConsumerValidator
	driver.ProducerValidator
	driver.GroupProtocolSupporter
	driver.GroupReader
} = (*faulty)(nil)

func (d *faulty) ValidateConsumer(cfg driver.ConsumerConfig) error {
	if v, ok := d.inner.(driver.ConsumerValidator); ok {
		return v.ValidateConsumer(cfg)
	}
	return nil
}

func (d *faulty) SupportsGroupProtocol(p driver.GroupProtocol) bool {
	if s, ok := d.inner.(driver.GroupProtocolSupporter); ok {
		return s.SupportsGroupProtocol(p)
	}
	return p == driver.ClassicProtocol
}

func (d *faulty) ValidateProducer(cfg driver.ProducerConfig) error {
	if v, ok := d.inner.(driver.ProducerValidator); ok {
		return v.ValidateProducer(cfg)
	}
	return nil
}

func (d *faulty) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	who := Call{ClientID: cfg.ClientID, Group: cfg.Group, Partition: -1}
	f := d.i.Inject(who.op(OpenConsumer))
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	c, err := d.inner.OpenConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if f.When == AfterCall {
		c.Close(ctx)
		return nil, f.Err
	}
	return newConsumer(c, d.i, who), nil
}

func (d *faulty) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	who := Call{ClientID: cfg.ClientID, Partition: -1}
	f := d.i.Inject(who.op(OpenProducer))
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	p, err := d.inner.OpenProducer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if f.When == AfterCall {
		p.Close(ctx)
		return nil, f.Err
	}
	return newProducer(p, d.i, who), nil
}

func (c Call) op(op Op) Call {
	c.Op = op
	return c
}

func (c Call) at(topic string, partition int32) Call {
	c.Topic, c.Partition = topic, partition
	return c
}

// begin applies the part of a fault that comes before the call. It returns the error
// that ends the call at this point, of the fault or of ctx, or nil.
func (f Fault) begin(ctx context.Context) error {
	if !f.wait(ctx.Done()) {
		return ctx.Err()
	}
	if f.When == BeforeCall {
		return f.Err
	}
	return nil
}

// wait blocks for the fault's delay, or forever if the fault never answers. It returns
// false if one of stops was closed first.
func (f Fault) wait(stops ...<-chan struct{}) bool {
	var over <-chan time.Time
	switch {
	case f.When == InsteadOfIt:
	case f.Delay <= 0:
		return true
	default:
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		over = t.C
	}
	var stop [2]<-chan struct{}
	copy(stop[:], stops)
	select {
	case <-over:
		return true
	case <-stop[0]:
	case <-stop[1]:
	}
	return false
}
