package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A producer appends at once while the broker is reachable and no message waits. During
// an outage messages wait in order for the sender. With a DeliveryTimeout, messages to a
// topic that does not exist yet wait too; other topics are not held up.
type producer struct {
	b      *Broker
	cfg    driver.ProducerConfig
	work   sync.WaitGroup // calls of Produce that acknowledge, and the sender
	closed chan struct{}  // closed when closeErr is set

	// The broker's mutex guards the rest.
	closing  bool
	closeErr error
	severed  bool
	waiting  []pending
	sending  bool // the sender runs
	accepted int  // messages that have ever waited
	acking   int  // the number of the first message that is being acknowledged, or 0
	turns    map[string]*int32
	changed  signal
}

// A pending message waits for the broker until its deadline.
type pending struct {
	m        *driver.Message
	number   int // among all that have ever waited, from 1
	deadline time.Time
}

var _ driver.TopicFinder = (*producer)(nil)

// FindTopic implements driver.TopicFinder.
func (p *producer) FindTopic(ctx context.Context, topic string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	switch {
	case p.closing:
		return driver.ErrClosed
	case p.b.stopped:
		return errUnreachable()
	}
	if err := p.b.topicError(topic); err != nil {
		return err
	}
	return nil
}

// maxWaiting is the number of waiting messages at which Produce blocks.
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

// A verdict is what Produce does with a message.
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
	case !p.mustWait(m.Topic):
		p.work.Add(1)
		return answered, nil, p.append(m)
	case len(p.waiting) >= maxWaiting:
		return full, p.changed.wait(), nil
	}
	p.wait(m)
	return waits, nil, nil
}

// mustWait reports whether a message to a topic has to wait: for the broker, for the
// topic, or behind another message.
func (p *producer) mustWait(topic string) bool {
	return p.b.stopped || p.hopes(topic) ||
		slices.ContainsFunc(p.waiting, func(w pending) bool { return w.m.Topic == topic })
}

// hopes reports whether the producer waits for the creation of a topic.
func (p *producer) hopes(topic string) bool {
	return p.cfg.DeliveryTimeout > 0 && p.b.topics[topic] == nil && p.b.autoCreate < 1 && checkTopicName(topic) == nil
}

// append appends a message that reaches the broker, or refuses it.
func (p *producer) append(m *driver.Message) error {
	n := size(&driver.Record{Key: m.Key, Value: m.Value, Headers: m.Headers})
	if n > p.cfg.MaxMessageBytes {
		return failPermanently("MESSAGE_TOO_LARGE", "%d bytes, more than MaxMessageBytes %d", n, p.cfg.MaxMessageBytes)
	}
	if t := p.b.topics[m.Topic]; t != nil && t.forbidden {
		return failPermanently("TOPIC_AUTHORIZATION_FAILED", "topic %q", m.Topic)
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
	p.accepted++
	p.waiting = append(p.waiting, pending{m, p.accepted, time.Now().Add(p.patience())})
	if !p.sending {
		p.sending = true
		p.work.Go(p.sendWaiting)
	}
}

// patience returns the time for which a message is retried: DeliveryTimeout, or else
// MaxRetries times RetryBackoff, at most one day.
func (p *producer) patience() time.Duration {
	if p.cfg.DeliveryTimeout > 0 {
		return p.cfg.DeliveryTimeout
	}
	most := int64(24 * time.Hour / max(p.cfg.RetryBackoff, time.Millisecond))
	return time.Duration(min(int64(p.cfg.MaxRetries), most)) * p.cfg.RetryBackoff
}

// sendWaiting is the sender. It ends when no message waits.
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
			p.acknowledged()
			continue
		}
		wake()
	}
}

type outcome struct {
	m   *driver.Message
	err error
}

// settle decides all waiting messages that are decidable. If there are none, it returns
// how to wait, or nil if no message waits.
func (p *producer) settle() (outcomes []outcome, wait func()) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if len(p.waiting) == 0 {
		p.sending = false
		return nil, nil
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(w pending) bool {
		decided := p.decidable(w)
		if decided {
			if len(outcomes) == 0 {
				p.acking = w.number
			}
			outcomes = append(outcomes, outcome{w.m, p.decide(w.m)})
		}
		return decided
	})
	if len(outcomes) > 0 {
		p.changed.fire()
		return outcomes, func() {}
	}
	return nil, waiter(p.changed.wait(), time.Until(p.waiting[0].deadline))
}

// decidable reports whether the outcome of a message is known now. The order within each
// topic is kept: of two messages that wait for one reason, the first is decided first.
func (p *producer) decidable(w pending) bool {
	return p.severed || !p.b.stopped && !p.hopes(w.m.Topic) || !time.Now().Before(w.deadline)
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

func (p *producer) acknowledged() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.acking = 0
	p.changed.fire()
}

func (p *producer) Flush(ctx context.Context) error {
	p.b.mu.Lock()
	target := p.accepted
	p.b.mu.Unlock()
	return p.waitSettled(ctx, target)
}

// settled reports whether the first target messages that ever waited have been
// acknowledged.
func (p *producer) settled(target int) bool {
	return (len(p.waiting) == 0 || p.waiting[0].number > target) && (p.acking == 0 || p.acking > target)
}

// waitSettled waits until the first target messages that ever waited have been
// acknowledged.
func (p *producer) waitSettled(ctx context.Context, target int) error {
	for {
		p.b.mu.Lock()
		done, changed := p.settled(target), p.changed.wait()
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

// sever makes the sender give up on all waiting messages.
func (p *producer) sever() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.severed = true
	p.changed.fire()
}
