package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Producer sends messages over one client, so that there is one order: the
// messages that one goroutine sends to a partition lie there in that order,
// whether it uses Send or SendAsync. Make one with RegisterProducer.
//
// All its methods may be called by several goroutines at once.
type Producer struct {
	m         *Manager
	id        string
	cfg       ProducerConfig
	driver    driver.Producer
	callbacks *callbacks
	syncSends sync.Pool // of *syncSend

	// For hooks.
	client  *Client
	sendOps sync.Pool // of *sendOp
	pending pending

	losses   losses
	sending  gate // async sends between their check and the driver's answer
	closing  sync.Once
	closed   chan struct{} // closed when closing has begun
	done     chan struct{} // closed when it has ended
	closeErr error         // read after done
}

// A ProducerMessage is one message to send, and afterwards where it lies.
type ProducerMessage struct {
	Topic   string
	Key     []byte // nil is none
	Value   []byte // nil is a tombstone
	Headers []Header

	// Timestamp is the record's creation time in milliseconds. The zero time
	// stands for now; a time before 1970 is refused.
	Timestamp time.Time

	// ToPartition names the partition to send to. Nil lets the key decide as
	// Java's client does; without a key any partition will do.
	ToPartition *int32

	// Partition and Offset are set when the message has been sent. Offset is -1
	// where the broker gives none, as with NoResponse.
	Partition int32
	Offset    int64
}

// allProducers returns the producers that are open, in order of ID.
func (m *Manager) allProducers() []*Producer {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Producer, 0, len(m.producers))
	for _, p := range m.producers {
		if p != nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *Producer) int { return strings.Compare(a.id, b.id) })
	return all
}

// ID returns the producer's name, unique in its manager: ProducerConfig.Name, or
// what took its place.
func (p *Producer) ID() string { return p.id }

// Send sends one message and waits until it is acknowledged or ctx ends. While
// the brokers refuse it or are away it is tried again, for DeliveryTimeout or as
// often as MaxRetries says, also after ctx has ended.
//
// A nil error means that the record is in the log as RequiredAcks asks. If the
// error wraps ErrUnknownOutcome the record may be there or not; then key and
// value must not be changed before Close has returned. Any other error means
// that it is not there. ctx's own error is wrapped where it ended the send.
func (p *Producer) Send(ctx context.Context, topic string, key, value []byte) error {
	return p.SendMessage(ctx, &ProducerMessage{Topic: topic, Key: key, Value: value})
}

// SendMessage is Send for a message with headers, a timestamp or a partition.
// It sets m.Partition and m.Offset.
func (p *Producer) SendMessage(ctx context.Context, m *ProducerMessage) error {
	op, ctx := p.beginSend(ctx, m)
	if err := p.check(ctx, m, *p.cfg.EnableSyncProducer); err != nil {
		return op.ended(err)
	}
	s := p.syncSends.Get().(*syncSend)
	s.message = driverMessage(m, s)
	if op != nil {
		s.message.Headers = op.Headers()
	}
	if err := p.driver.Produce(ctx, &s.message); err != nil {
		p.free(s)
		op.refused(err)
		return op.ended(sendError(m.Topic, err))
	}
	op.accepted()
	select {
	case err := <-s.acked:
		m.Partition, m.Offset = s.message.Partition, s.message.Offset
		op.placed(&s.message, err)
		p.free(s)
		return op.ended(sendError(m.Topic, err))
	case <-ctx.Done():
		// The driver still owns s, so it is not used again.
		return op.ended(fmt.Errorf("kafka: send to %s: %w: %w", quote(m.Topic), ErrUnknownOutcome, ctx.Err()))
	}
}

// SendAsync sends one message and returns as soon as it is buffered; it blocks
// for buffer space until ctx ends, which does not bound the delivery. callback,
// if it is not nil, is called exactly once, also for a message that was never
// accepted and across Close: with nil, or with an error as Send returns it. A
// message that fails without a callback is logged, an event (SendFailed), and
// part of the next answer of Flush or Close. The callback runs on a goroutine of the producer,
// one callback after the other, never on the caller's; it may send again, and
// close the producer. A panic in it is logged and harms nothing else.
//
// Key and value must not be changed before the callback.
func (p *Producer) SendAsync(ctx context.Context, topic string, key, value []byte, callback func(*ProducerMessage, error)) {
	s := &asyncSend{p: p, callback: callback, own: ProducerMessage{Topic: topic, Key: key, Value: value}}
	s.m = &s.own
	s.start(ctx)
}

// SendMessageAsync is SendAsync for a message with headers, a timestamp or a
// partition. It sets m.Partition and m.Offset before the callback gets m.
func (p *Producer) SendMessageAsync(ctx context.Context, m *ProducerMessage, callback func(*ProducerMessage, error)) {
	s := &asyncSend{p: p, m: m, callback: callback}
	s.start(ctx)
}

// Flush waits until every message that was accepted before the call has been
// acknowledged, or ctx ends. The callbacks of these may still be to come.
//
// The error wraps a *LostError if messages without a callback have failed since
// the last Flush that said so. It is ctx's own if ctx ended first; then the next
// Flush, or Close, reports what was lost. Inside a hook Flush waits for nothing
// and returns ErrInside.
func (p *Producer) Flush(ctx context.Context) error {
	if ctx == nil {
		return errors.New("kafka: flush: ctx is nil")
	}
	if isClosed(p.closed) {
		return fmt.Errorf("kafka: flush: %w", ErrClosed)
	}
	if p.m.insideHook() {
		return fmt.Errorf("kafka: flush inside a hook: %w", ErrInside)
	}
	if err := p.driver.Flush(ctx); err != nil {
		return err
	}
	return p.losses.take(p.id)
}

// Close sends what was accepted, waits for every acknowledgement and callback,
// and closes the client, within the manager's shutdown timeout. What is
// unanswered near its end ends with ErrUnknownOutcome. A send during or after
// Close gives ErrClosed; the callback of one that begins after Close is the only
// one that may still run when Close has returned. A second Close waits for the
// first and gives the same answer.
//
// The error wraps a *LostError if messages without a callback have failed since
// the last Flush that said so.
//
// Inside a callback of this producer, and inside a hook, Close begins the closing
// and waits for nothing: it returns nil in a callback and ErrInside in a hook.
func (p *Producer) Close() error {
	p.beginClose(p.m.shutdownTimeout * 9 / 10)
	switch {
	case p.callbacks.inside():
		return nil
	case p.m.insideHook():
		return fmt.Errorf("kafka: close producer %q inside a hook; it has begun to close: %w", p.id, ErrInside)
	}
	select {
	case <-p.done:
		return p.closeErr
	case <-time.After(p.m.shutdownTimeout):
		return fmt.Errorf("kafka: close producer %q: callbacks still run after %v", p.id, p.m.shutdownTimeout)
	}
}

// beginClose begins to close p, unless that has begun already. The flush is
// bounded by timeout, if that is not 0, and by the stage of a shutdown.
func (p *Producer) beginClose(timeout time.Duration) {
	p.closing.Do(func() {
		close(p.closed)
		go p.shut(timeout)
	})
}

// shut is the goroutine of the closing. It ends when the last callback has
// returned.
func (p *Producer) shut(timeout time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if timeout > 0 {
		defer time.AfterFunc(timeout, cancel).Stop()
	}
	defer context.AfterFunc(p.m.until(producersFlush), cancel)()
	if err := p.driver.Close(ctx); err != nil {
		p.closeErr = fmt.Errorf("kafka: close producer %q: %w", p.id, err)
	}
	<-p.sending.close()
	p.callbacks.wait()
	p.losses.end()
	p.closeErr = errors.Join(p.closeErr, p.losses.take(p.id))
	p.m.mu.Lock()
	delete(p.m.producers, foldName(p.id))
	p.m.mu.Unlock()
	close(p.done)
}

// check refuses what must not reach the driver.
func (p *Producer) check(ctx context.Context, m *ProducerMessage, enabled bool) error {
	switch {
	case m == nil:
		return errors.New("kafka: send: message is nil")
	case ctx == nil:
		return fmt.Errorf("kafka: send to %s: ctx is nil", quote(m.Topic))
	case !enabled:
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), ErrNotEnabled)
	case isClosed(p.closed):
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), ErrClosed)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if err := p.checkMessage(m); err != nil {
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), err)
	}
	return nil
}

// checkMessage refuses what a broker would, under the broker's name for it.
func (p *Producer) checkMessage(m *ProducerMessage) error {
	if err := validTopic(m.Topic); err != nil {
		return badMessage("INVALID_TOPIC_EXCEPTION", "message.Topic: %w", err)
	}
	if m.ToPartition != nil && *m.ToPartition < 0 {
		return badMessage("UNKNOWN_TOPIC_OR_PARTITION", "message.ToPartition: %d is negative", *m.ToPartition)
	}
	if !m.Timestamp.IsZero() && !storable(m.Timestamp) {
		return badMessage("INVALID_TIMESTAMP", "message.Timestamp: %v is outside 1970 to 292278994, which is what a record can hold", m.Timestamp)
	}
	size := len(m.Key) + len(m.Value)
	for i := range m.Headers {
		size += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	if size > p.cfg.MaxMessageBytes {
		return badMessage("MESSAGE_TOO_LARGE", "message of %d bytes is larger than MaxMessageBytes (%d)", size, p.cfg.MaxMessageBytes)
	}
	return nil
}

// storable reports whether t is a record's timestamp: milliseconds since 1970 in
// 63 bits. A negative one must not leave this process. In the middle of a batch
// the broker stores it; at the head of a batch it refuses the whole batch, and
// so the messages of other callers.
func storable(t time.Time) bool {
	s := t.Unix()
	return s >= 0 && s < math.MaxInt64/1000
}

func badMessage(code, format string, args ...any) error {
	return &driver.Error{Code: code, Kind: ErrPermanent, Err: fmt.Errorf(format, args...)}
}

// sendError adds what was attempted, but leaves a context's error untouched.
func sendError(topic string, err error) error {
	if err == nil || err == context.Canceled || err == context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("kafka: send to %s: %w", quote(topic), err)
}

func driverMessage(m *ProducerMessage, a driver.Acker) driver.Message {
	partition := int32(-1)
	if m.ToPartition != nil {
		partition = *m.ToPartition
	}
	return driver.Message{
		Topic:     m.Topic,
		Partition: partition,
		Key:       m.Key,
		Value:     m.Value,
		Headers:   m.Headers,
		Timestamp: m.Timestamp,
		Offset:    -1,
		Acker:     a,
	}
}

// A syncSend is one Send under way. It is used again, unless its Send gave up
// waiting: then the driver has it still.
type syncSend struct {
	message driver.Message
	acked   chan error // holds one
}

// Ack wakes the Send.
func (s *syncSend) Ack(err error) { s.acked <- err }

func (p *Producer) free(s *syncSend) {
	s.message = driver.Message{}
	p.syncSends.Put(s)
}

// An asyncSend is one SendAsync, from the call to the callback.
type asyncSend struct {
	p        *Producer
	m        *ProducerMessage // what the callback gets
	own      ProducerMessage  // m, if the caller brought none
	message  driver.Message
	callback func(*ProducerMessage, error)
	err      error
}

func (s *asyncSend) start(ctx context.Context) {
	// After the gate has closed, check refuses, and the callback is a late one.
	if s.p.sending.enter() {
		defer s.p.sending.leave()
	}
	op, ctx := s.p.beginSend(ctx, s.m)
	if err := s.p.check(ctx, s.m, *s.p.cfg.EnableAsyncProducer); err != nil {
		s.end(op.ended(err))
		return
	}
	s.message = driverMessage(s.m, s)
	if op != nil {
		s.message.Headers, s.message.Acker = op.Headers(), op
		op.message, op.acker = &s.message, s
	}
	// After nil the operation may have ended already.
	if err := s.p.driver.Produce(ctx, &s.message); err != nil {
		op.refused(err)
		s.end(op.ended(sendError(s.m.Topic, err)))
	}
}

// Ack queues the callback.
func (s *asyncSend) Ack(err error) {
	s.m.Partition, s.m.Offset = s.message.Partition, s.message.Offset
	s.end(sendError(s.m.Topic, err))
}

func (s *asyncSend) end(err error) {
	if s.callback == nil {
		if err != nil {
			s.p.lose(s, err)
		}
		return
	}
	s.err = err
	s.p.callbacks.push(s)
}

// lose notes that the message of s failed with err, of which its sender does not
// hear. It may run on a driver's goroutine and does not block.
func (p *Producer) lose(s *asyncSend, err error) {
	p.losses.add(err)
	failed := SendFailed{ProducerID: p.id, Partition: -1, Err: err}
	if s.m != nil {
		failed.Topic = s.m.Topic
		if s.m.ToPartition != nil {
			failed.Partition = *s.m.ToPartition
		}
	}
	p.m.event(failed)
}

func (p *Producer) logLost(n int, latest error) {
	p.m.log.Error("kafka: messages that have no callback were lost", "producer", p.id, "messages", n, "latest", latest)
}

func (p *Producer) callbackPanicked(err *PanicError) {
	p.m.log.Error("kafka: callback panicked", "producer", p.id, "error", loggable(err), "stack", string(err.Stack))
	p.m.event(CallbackPanicked{ProducerID: p.id, Err: err})
}
