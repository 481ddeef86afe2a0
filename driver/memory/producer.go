package memory

import (
	"context"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A producer appends at once while the broker can be reached and nothing waits.
// What comes during an outage waits in order for the sender.
type producer struct {
	b      *Broker
	cfg    driver.ProducerConfig
	work   sync.WaitGroup // Produces that acknowledge, and the sender
	closed chan struct{}  // closed when the first Close has its answer

	// The broker's mutex guards the rest.
	closing  bool
	closeErr error
	severed  bool
	waiting  []pending
	sending  bool // the sender runs
	accepted int  // messages that have ever waited
	settled  int  // those of them that have been acknowledged
	turns    map[string]*int32
	changed  signal
}

// A pending message waits for the broker until its deadline.
type pending struct {
	m        *driver.Message
	deadline time.Time
}

// maxWaiting is how many messages wait before Produce blocks.
const maxWaiting = 10_000

func newProducer(b *Broker, cfg driver.ProducerConfig) *producer {
	p := &producer{b: b, cfg: cfg, closed: make(chan struct{}), turns: make(map[string]*int32)}
	b.addProducer(p)
	return p
}

func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	for {
		v, room, err := p.accept(ctx, m)
		switch v {
		case refused:
			return err
		case waits:
			return nil
		case answered:
			m.Acker.Ack(err)
			p.work.Done()
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

// A verdict is what becomes of a message that is handed to Produce.
type verdict int

const (
	refused  verdict = iota // not accepted
	answered                // accepted, and to be acknowledged now
	waits                   // accepted
	full                    // to be tried again when there is room
)

func (p *producer) accept(ctx context.Context, m *driver.Message) (v verdict, room <-chan struct{}, err error) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return refused, nil, ctx.Err()
	case p.closing:
		return refused, nil, driver.ErrClosed
	case len(p.waiting) == 0 && !p.b.stopped:
		p.work.Add(1)
		return answered, nil, p.append(m)
	case len(p.waiting) >= maxWaiting:
		return full, p.changed.wait(), nil
	}
	p.wait(m)
	return waits, nil, nil
}

// append is what the broker does with a message that reaches it.
func (p *producer) append(m *driver.Message) error {
	n := size(&driver.Record{Key: m.Key, Value: m.Value, Headers: m.Headers})
	if n > p.cfg.MaxMessageBytes {
		return failForGood("MESSAGE_TOO_LARGE", "%d bytes, more than MaxMessageBytes %d", n, p.cfg.MaxMessageBytes)
	}
	if err := p.b.send(m, nil, p.turn(m.Topic)); err != nil {
		return err
	}
	if p.cfg.RequiredAcks == driver.NoResponse {
		m.Offset = -1
	}
	return nil
}

func (p *producer) turn(topic string) *int32 {
	t := p.turns[topic]
	if t == nil {
		t = new(int32)
		p.turns[topic] = t
	}
	return t
}

func (p *producer) wait(m *driver.Message) {
	p.waiting = append(p.waiting, pending{m, time.Now().Add(p.patience())})
	p.accepted++
	if !p.sending {
		p.sending = true
		p.work.Go(p.sendWaiting)
	}
}

// patience is how long retries last, a day at most.
func (p *producer) patience() time.Duration {
	most := int64(24 * time.Hour / max(p.cfg.RetryBackoff, time.Millisecond))
	return time.Duration(min(int64(p.cfg.MaxRetries), most)) * p.cfg.RetryBackoff
}

// sendWaiting is the sender. It ends when nothing waits any more.
func (p *producer) sendWaiting() {
	for {
		outcomes, wake := p.settle()
		if wake == nil {
			return
		}
		for _, o := range outcomes {
			o.m.Acker.Ack(o.err)
		}
		if len(outcomes) > 0 {
			p.acknowledged(len(outcomes))
			continue
		}
		wake()
	}
}

type outcome struct {
	m   *driver.Message
	err error
}

// settle decides on all waiting messages that can be decided on, or returns how
// to wait, or nothing when the sender has nothing to do any more.
func (p *producer) settle() (outcomes []outcome, wait func()) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if len(p.waiting) == 0 {
		p.sending = false
		return nil, nil
	}
	n := 0
	for n < len(p.waiting) && p.decidable(p.waiting[n]) {
		m := p.waiting[n].m
		outcomes = append(outcomes, outcome{m, p.decide(m)})
		n++
	}
	p.waiting = p.waiting[n:]
	if n > 0 {
		p.changed.fire()
		return outcomes, func() {}
	}
	return nil, waiter(p.changed.wait(), time.Until(p.waiting[0].deadline))
}

func (p *producer) decidable(w pending) bool {
	return p.severed || !p.b.stopped || !time.Now().Before(w.deadline)
}

func (p *producer) decide(m *driver.Message) error {
	switch {
	case p.severed:
		return &driver.Error{Code: "CONNECTION_FAILED", Kind: driver.ErrUnknownOutcome, Err: driver.ErrClosed}
	case p.b.stopped:
		return errUnreachable()
	}
	return p.append(m)
}

// waiter returns a function that blocks until changed is closed or d is over.
func waiter(changed <-chan struct{}, d time.Duration) func() {
	return func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-changed:
		case <-t.C:
		}
	}
}

func (p *producer) acknowledged(n int) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.settled += n
	p.changed.fire()
}

func (p *producer) Flush(ctx context.Context) error {
	p.b.mu.Lock()
	target := p.accepted
	p.b.mu.Unlock()
	return p.waitSettled(ctx, target)
}

// waitSettled waits for the first target messages of those that have waited.
func (p *producer) waitSettled(ctx context.Context, target int) error {
	for {
		p.b.mu.Lock()
		done, changed := p.settled >= target, p.changed.wait()
		p.b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *producer) Close(ctx context.Context) error {
	target, first := p.beginClose()
	if !first {
		select {
		case <-p.closed:
			return p.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if p.closeErr = p.waitSettled(ctx, target); p.closeErr != nil {
		p.sever()
	}
	p.work.Wait()
	p.b.removeProducer(p)
	close(p.closed)
	return p.closeErr
}

func (p *producer) beginClose() (target int, first bool) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	first = !p.closing
	p.closing = true
	p.changed.fire()
	return p.accepted, first
}

// sever has the sender give up on what waits.
func (p *producer) sever() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.severed = true
	p.changed.fire()
}
