package fault

import (
	"context"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

type consumer struct {
	inner driver.Consumer
	i     Injector
	who   Call
	owned ownership

	closing chan struct{} // closed when Close begins
	ended   chan struct{} // closed when Run has returned, or will never begin
	closed  chan struct{} // closed when closeErr is set

	mu       sync.Mutex
	begun    bool // Run has been called
	stopping bool // Close has been called
	crashed  bool // a fault has ended Run
	closeErr error
}

var _ interface {
	driver.HighWatermarker
	driver.SessionDeadliner
	driver.Seeker
} = (*consumer)(nil)

func newConsumer(inner driver.Consumer, i Injector, who Call) *consumer {
	return &consumer{
		inner: inner, i: i, who: who, owned: ownership{live: make(map[*driver.Claim]*progress)},
		closing: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{}),
	}
}

func (c *consumer) Run(h driver.Handler) error {
	if !c.begin() {
		return nil
	}
	defer close(c.ended)
	f := c.i.Inject(c.who.op(Run))
	if f.When != AfterCall && !f.wait(c.closing) {
		return nil
	}
	if f.When == BeforeCall {
		return f.Err
	}
	return c.serve(h, f)
}

func (c *consumer) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = !c.stopping
	return c.begun
}

func (c *consumer) Pause(cs ...*driver.Claim) {
	c.delay(Pause, cs)
	c.inner.Pause(cs...)
}

func (c *consumer) Resume(cs ...*driver.Claim) {
	c.delay(Resume, cs)
	c.inner.Resume(cs...)
}

func (c *consumer) delay(op Op, cs []*driver.Claim) {
	for _, k := range cs {
		f := c.i.Inject(c.who.op(op).at(k.Topic, k.Partition))
		Fault{Delay: f.Delay}.wait(c.closing)
	}
}

// HighWatermark implements driver.HighWatermarker.
func (c *consumer) HighWatermark(k *driver.Claim) int64 {
	if w, ok := c.inner.(driver.HighWatermarker); ok {
		return w.HighWatermark(k)
	}
	return -1
}

// SessionDeadline implements driver.SessionDeadliner.
func (c *consumer) SessionDeadline() time.Time {
	d, ok := c.inner.(driver.SessionDeadliner)
	if !ok {
		return time.Time{}
	}
	at := d.SessionDeadline()
	if at.IsZero() {
		return at
	}
	return at.Add(-c.i.Inject(c.who.op(Heartbeat)).Delay)
}

func (c *consumer) Close(ctx context.Context) error {
	if !c.beginClose() {
		select {
		case <-c.closed:
			return c.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := c.i.Inject(c.who.op(CloseConsumer))
	c.closeErr = f.close(ctx, c.closeInner)
	close(c.closed)
	return c.closeErr
}

// beginClose reports whether this is the first Close.
func (c *consumer) beginClose() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	c.stopping = true
	close(c.closing)
	if !c.begun {
		close(c.ended)
	}
	return true
}

// closeInner closes the inner consumer. After a crash it ignores the inner error, which
// belongs to the crash.
func (c *consumer) closeInner(ctx context.Context) error {
	err := c.inner.Close(ctx)
	c.mu.Lock()
	if c.crashed {
		err = nil
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close runs inner with a fault. It closes everything, also when it fails.
func (f Fault) close(ctx context.Context, inner func(context.Context) error) error {
	if err := f.begin(ctx); err != nil {
		inner(ended())
		return err
	}
	err := inner(ctx)
	if f.When == AfterCall && err == nil {
		err = f.Err
	}
	return err
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
