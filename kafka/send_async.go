package kafka

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// SendAsync sends one message and returns as soon as it is buffered; it blocks
// for buffer space until ctx ends, which does not bound the delivery. callback,
// if it is not nil, is called exactly once, also for a message that was never
// accepted and across Close: with nil, or with an error as Send returns it. A
// message that fails without a callback is logged, an event (SendFailed), and
// part of the next answer of Flush or Close. The callback runs on a goroutine of the
// producer, one callback after the other, never on the caller's; it may send again, and
// close the producer. A callback must not send again after ErrClosed: Close waits for
// callbacks, and such a retry fails at once, without end. A panic in a callback is
// logged and harms nothing else.
//
// Key and value must not be changed before the callback, or, without one, before a Flush
// that began later has returned nil. The callback may keep the message.
func (p *Producer) SendAsync(ctx context.Context, topic string, key, value []byte, callback func(*ProducerMessage, error)) {
	s := p.newAsyncSend(callback)
	s.message.Topic, s.message.Key, s.message.Value = topic, key, value
	s.message.Partition, s.message.Offset = -1, -1
	s.start(ctx, nil)
}

// SendMessageAsync is SendAsync for a message with headers, a timestamp or a
// partition. It sets m.Partition and m.Offset when the message has been acknowledged,
// before the callback gets m. Until then m and all that it points to belong to the
// producer, as key and value do in SendAsync.
func (p *Producer) SendMessageAsync(ctx context.Context, m *ProducerMessage, callback func(*ProducerMessage, error)) {
	s := p.newAsyncSend(callback)
	if m == nil {
		if p.sending.enter() {
			defer p.sending.leave()
		}
		s.end(errNoMessage)
		return
	}
	s.given = m
	m.copyTo(&s.message)
	s.start(ctx, m.ToPartition)
}

// An asyncSend is one SendAsync, from the call to the callback. It belongs to the
// call until the driver has accepted the message, to the driver until Ack, and then to
// the callbacks. It is used again once its message is in the log; after an error the
// driver may still read what belongs to the message.
type asyncSend struct {
	p        *Producer
	message  driver.Message
	given    *ProducerMessage // the caller's own, of SendMessageAsync
	callback func(*ProducerMessage, error)
	op       *sendOp // nil without hooks
	pending  uint64  // what the producer's pending has counted of it
	err      error
	next     *asyncSend // in the queue of callbacks, or in a chain of those to be used again
}

func (p *Producer) newAsyncSend(callback func(*ProducerMessage, error)) *asyncSend {
	s, _ := p.asyncSends.Get().(*asyncSend)
	switch {
	case s == nil:
		s = &asyncSend{p: p}
		s.message.Acker = s
	case s.next != nil:
		p.asyncSends.Put(s.next)
		s.next = nil
	}
	s.callback = callback
	return s
}

// start sends the message. After the driver has accepted it, s may be in use for
// another one already.
func (s *asyncSend) start(ctx context.Context, to *int32) {
	p := s.p
	// After the gate has closed, check refuses, and the callback is a late one.
	if p.sending.enter() {
		defer p.sending.leave()
	}
	s.pending = p.pending.begin(&s.message)
	op, ctx := p.beginSend(ctx, &s.message)
	err := p.check(ctx, &s.message, to, *p.cfg.EnableAsyncProducer)
	if err == nil {
		if s.op = op; op != nil {
			s.message.Headers = op.Headers()
		}
		if err = p.driver.Produce(ctx, &s.message); err == nil {
			return
		}
		op.refused(err)
		err = sendError(s.message.Topic, err)
	}
	s.end(op.ended(err))
}

// Ack queues the callback.
func (s *asyncSend) Ack(err error) {
	if s.op != nil {
		s.op.acknowledged(&s.message, err)
	}
	if m := s.given; m != nil {
		m.Partition, m.Offset = s.message.Partition, s.message.Offset
	}
	s.end(sendError(s.message.Topic, err))
}

// end passes s on to its callback, if it has one.
func (s *asyncSend) end(err error) {
	s.p.pending.end(s.pending)
	s.pending = 0
	switch s.err = err; {
	case s.callback != nil:
		s.p.callbacks.push(s)
	case err != nil:
		s.lose()
	default:
		s.reset()
		s.p.asyncSends.Put(s)
	}
}

// lose reports the failure of a message without a callback.
func (s *asyncSend) lose() {
	partition := int32(-1)
	if s.given != nil && s.given.ToPartition != nil {
		partition = *s.given.ToPartition
	}
	s.p.lose(s.message.Topic, partition, s.err)
}

// reset makes s ready to be used again. It clears one field after the other: while the
// collector runs, that costs a third of clearing s as a whole.
func (s *asyncSend) reset() {
	m := &s.message
	m.Topic, m.Key, m.Value = "", nil, nil
	if s.given != nil || s.op != nil {
		m.Headers, m.Timestamp = nil, time.Time{}
		s.given, s.op = nil, nil
	}
	s.callback, s.err = nil, nil
}

// answer returns what the callback gets: the caller's message, or one that the
// callback may keep.
func (s *asyncSend) answer() *ProducerMessage {
	if s.given != nil || s.err == errNoMessage {
		return s.given
	}
	return &ProducerMessage{
		Topic: s.message.Topic, Key: s.message.Key, Value: s.message.Value,
		Partition: s.message.Partition, Offset: s.message.Offset,
	}
}
