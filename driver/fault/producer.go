package fault

import (
	"context"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

type producer struct {
	inner driver.Producer
	i     Injector
	who   Call

	work    sync.WaitGroup // acknowledgements that run or are withheld
	closing chan struct{}  // closed when Close begins
	severed chan struct{}  // closed when Close gives up
	closed  chan struct{}  // closed when closeErr is set

	mu       sync.Mutex
	stopping bool       // Close has been called
	open     []*receipt // accepted and not acknowledged, in order
	closeErr error
}

func newProducer(inner driver.Producer, i Injector, who Call) *producer {
	return &producer{
		inner: inner, i: i, who: who,
		closing: make(chan struct{}), severed: make(chan struct{}), closed: make(chan struct{}),
	}
}

func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	f := p.i.Inject(p.who.op(Produce).at(m.Topic, m.Partition))
	f.wait(ctx.Done(), p.closing)
	r, err := p.accept(ctx, m, f)
	if err != nil {
		return err
	}
	if f.When == BeforeCall {
		r.settle(f.Err)
		p.work.Done()
		return nil
	}
	defer p.work.Done()
	m.Acker = r
	if err := p.inner.Produce(ctx, m); err != nil {
		m.Acker = r.acker
		r.close()
		return err
	}
	return nil
}

// accept accepts m, unless ctx has ended or Close has begun.
func (p *producer) accept(ctx context.Context, m *driver.Message, f Fault) (*receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p.stopping {
		return nil, driver.ErrClosed
	}
	r := &receipt{p: p, m: m, acker: m.Acker, fault: f, done: make(chan struct{})}
	p.open = append(p.open, r)
	p.work.Add(1)
	return r, nil
}

func (p *producer) unsettled() []*receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.open)
}

func (p *producer) Flush(ctx context.Context) error {
	waitFor := p.unsettled()
	f := p.i.Inject(p.who.op(Flush))
	if err := f.begin(ctx); err != nil {
		return err
	}
	if err := p.inner.Flush(ctx); err != nil {
		return err
	}
	if err := settled(ctx, waitFor); err != nil {
		return err
	}
	if f.When == AfterCall {
		return f.Err
	}
	return nil
}

// settled waits until receipts have been acknowledged.
func settled(ctx context.Context, rs []*receipt) error {
	for _, r := range rs {
		select {
		case <-r.done:
			continue
		default:
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *producer) Close(ctx context.Context) error {
	if !p.beginClose() {
		select {
		case <-p.closed:
			return p.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := p.i.Inject(p.who.op(CloseProducer))
	p.closeErr = f.close(ctx, p.closeInner)
	close(p.closed)
	return p.closeErr
}

var _ driver.TopicFinder = (*producer)(nil)

// FindTopic implements driver.TopicFinder. Over a producer that cannot look topics up it
// finds every topic.
func (p *producer) FindTopic(ctx context.Context, topic string) error {
	f := p.i.Inject(p.who.op(FindTopic).at(topic, -1))
	if err := f.begin(ctx); err != nil {
		return err
	}
	if finder, ok := p.inner.(driver.TopicFinder); ok {
		if err := finder.FindTopic(ctx, topic); err != nil {
			return err
		}
	}
	if f.When == AfterCall {
		return f.Err
	}
	return nil
}

func (p *producer) beginClose() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.stopping = true
	close(p.closing)
	return true
}

// closeInner closes the inner producer. When it returns, every message has been
// acknowledged.
func (p *producer) closeInner(ctx context.Context) error {
	err := p.inner.Close(ctx)
	if late := settled(ctx, p.unsettled()); err == nil {
		err = late
	}
	close(p.severed)
	p.work.Wait()
	return err
}
