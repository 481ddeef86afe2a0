package fault

import (
	"context"

	"github.com/aarontianqx/gopkg/driver"
)

// serve runs the inner consumer until Close or until the crash that f asks for.
func (c *consumer) serve(h driver.Handler, f Fault) error {
	s := &session{o: &c.owned, h: h, trouble: c.trouble, joined: make(chan struct{}, 1)}
	over := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if f.When == AfterCall {
			c.crashAfter(s, f, over)
		}
	}()
	err := c.inner.Run(s)
	close(over)
	<-watched
	if cause := s.o.crashed(); cause != nil {
		return cause
	}
	return err
}

// trouble returns the injected error of a delivery, or nil.
func (c *consumer) trouble(k *driver.Claim, b driver.Batch) error {
	f := c.i.Inject(c.who.op(Deliver).at(k.Topic, k.Partition))
	if f.When != BeforeCall {
		return nil
	}
	offset := int64(-1)
	if len(b.Records) > 0 {
		offset = b.Records[0].Offset
	}
	return &driver.PartitionError{Topic: k.Topic, Partition: k.Partition, Offset: offset, Err: f.Err}
}

// crashAfter severs the inner consumer once the delay has passed since the first
// Assign.
func (c *consumer) crashAfter(s *session, f Fault, over <-chan struct{}) {
	select {
	case <-s.joined:
	case <-over:
		return
	}
	if !(Fault{Delay: f.Delay}).wait(over, c.closing) || !c.crash() {
		return
	}
	c.owned.crash(f.Err)
	c.inner.Close(ended())
}

// crash marks the consumer as crashed, unless Close has begun. It reports whether it
// did.
func (c *consumer) crash() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashed = !c.stopping
	return c.crashed
}

// A session is the Handler of the inner consumer. After a crash the inner consumer
// still ends its claims in order. The session reports each end as a loss and drops all
// other calls.
type session struct {
	o       *ownership
	h       driver.Handler
	trouble func(k *driver.Claim, b driver.Batch) error
	joined  chan struct{}
}

func (s *session) Assign(ks []*driver.Claim) {
	if !s.o.assign(ks) {
		return
	}
	s.h.Assign(ks)
	select {
	case s.joined <- struct{}{}:
	default:
	}
}

func (s *session) Deliver(k *driver.Claim, b driver.Batch) {
	if s.o.crashed() != nil {
		return
	}
	if err := s.trouble(k, b); err != nil {
		s.h.Error(err)
	}
	s.h.Deliver(k, b)
}

func (s *session) Revoke(ctx context.Context, ks []*driver.Claim) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if cause := s.o.revoke(ctx, cancel, ks); cause != nil {
		s.Lost(ks, cause)
		return
	}
	s.h.Revoke(ctx, ks)
	s.o.end(ks)
}

func (s *session) Lost(ks []*driver.Claim, cause error) {
	if crash := s.o.crashed(); crash != nil {
		cause = crash
	}
	if ks = s.o.end(ks); len(ks) > 0 {
		s.h.Lost(ks, cause)
	}
}

func (s *session) Error(err error) {
	if s.o.crashed() == nil {
		s.h.Error(err)
	}
}
