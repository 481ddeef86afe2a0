package drivertest

import (
	"context"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A sender is one producer of a case.
type sender struct {
	e        *env
	producer driver.Producer
	closed   bool // the case has closed it and has checked the result

	mu       sync.Mutex
	sent     []*sent
	silenced bool // Close has returned
}

// A sent is an accepted message and its Acker.
type sent struct {
	p    *sender
	m    *driver.Message
	then func(err error) // called by the first Ack
	done chan struct{}   // closed by the first Ack

	mu   sync.Mutex
	acks int
	err  error
}

// Ack implements driver.Acker.
func (s *sent) Ack(err error) {
	s.p.mu.Lock()
	silenced := s.p.silenced
	s.p.mu.Unlock()
	if silenced {
		s.p.e.breach(ruleAckSilence, "message %s was acknowledged after Close had returned", showBytes(s.m.Value))
	}
	if err != nil {
		s.p.e.judgeError("the error of an acknowledgement", err)
	}
	if s.count(err) > 1 {
		s.p.e.breach(ruleAckOnce, "message %s was acknowledged again, with %v", showBytes(s.m.Value), err)
		return
	}
	if s.then != nil {
		s.then(err)
	}
	close(s.done)
}

func (s *sent) count(err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acks++; s.acks == 1 {
		s.err = err
	}
	return s.acks
}

func (s *sent) acked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks > 0
}

// outcome waits for the acknowledgement.
func (s *sent) outcome() error {
	s.p.e.t.Helper()
	if !s.p.e.ends(ruleAckOnce, s.p.e.Patience, "the wait for the acknowledgement of "+showBytes(s.m.Value), s.done) {
		s.p.e.fatalf("a message was not acknowledged")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (e *env) producerConfig() driver.ProducerConfig {
	return driver.ProducerConfig{
		Brokers:         e.h.Brokers(),
		ClientID:        "drivertest",
		RequiredAcks:    driver.WaitForAll,
		Idempotent:      true,
		MaxRetries:      1000,
		RetryBackoff:    20 * time.Millisecond,
		MaxMessageBytes: 1 << 20,
	}
}

// producer opens a producer and closes it at the end of the case.
func (e *env) producer(adapt ...func(*driver.ProducerConfig)) *sender {
	e.t.Helper()
	cfg := e.producerConfig()
	for _, a := range adapt {
		a(&cfg)
	}
	p, err := e.h.Driver().OpenProducer(e.context(), cfg)
	if err != nil {
		e.fatalf("OpenProducer: %v", err)
	}
	return e.adoptProducer(p)
}

func (e *env) adoptProducer(p driver.Producer) *sender {
	s := &sender{e: e, producer: p}
	e.t.Cleanup(s.tidy)
	return s
}

// tidy closes the producer, unless the case has closed it, and checks that every
// message was acknowledged.
func (p *sender) tidy() {
	p.e.restore()
	if !p.closed {
		p.stop()
	}
	p.mu.Lock()
	sent := p.sent
	p.mu.Unlock()
	var missing []string
	for _, s := range sent {
		if !s.acked() {
			missing = append(missing, showBytes(s.m.Value))
		}
	}
	if len(missing) > 0 {
		p.e.breach(ruleAckOnce, "not acknowledged after Close had returned: %s", brief(missing))
	}
}

// stop closes the producer, which must succeed.
func (p *sender) stop() {
	p.e.t.Helper()
	if err, returned := p.close(ruleProducerCloseInTime, p.e.Patience); returned && err != nil {
		p.e.breach(ruleProducerCloseWaits, "Close returned %v, want nil", err)
	}
}

// close calls Close with a context that ends after d.
func (p *sender) close(rule string, d time.Duration) (err error, returned bool) {
	p.e.t.Helper()
	p.closed = true
	ctx := p.e.within(d)
	err, returned = answerBy(p.e, rule, d, "Close of the producer", func() error { return p.producer.Close(ctx) })
	if returned {
		p.mu.Lock()
		p.silenced = true
		p.mu.Unlock()
	}
	return err, returned
}

// try sends a message and returns the result of Produce. The driver must not
// acknowledge a message that it did not accept.
func (p *sender) try(ctx context.Context, m *driver.Message, then func(error)) (*sent, error) {
	s := &sent{p: p, m: m, then: then, done: make(chan struct{})}
	m.Acker = s
	if err := p.call(ctx, m); err != nil {
		return s, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, s)
	return s, nil
}

// call calls Produce, which must return by the end of ctx.
func (p *sender) call(ctx context.Context, m *driver.Message) error {
	p.e.t.Helper()
	left := p.e.Patience
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	err, returned := answerBy(p.e, ruleProduceInTime, left, "Produce", func() error { return p.producer.Produce(ctx, m) })
	if !returned {
		return errNoAnswer
	}
	return err
}

// produce sends a message, which the driver must accept. Any goroutine may call it.
func (p *sender) produce(ctx context.Context, m *driver.Message) *sent {
	p.e.t.Helper()
	s, err := p.try(ctx, m, nil)
	if err != nil {
		p.e.errorf("Produce of %s: %v", showBytes(m.Value), err)
		close(s.done)
	}
	return s
}

// produceAll sends a message without a key for each value.
func (p *sender) produceAll(topic string, partition int32, values ...string) []*sent {
	p.e.t.Helper()
	var all []*sent
	for _, v := range values {
		all = append(all, p.produce(p.e.context(), &driver.Message{Topic: topic, Partition: partition, Value: []byte(v)}))
	}
	return all
}

// flush calls Flush, which must succeed.
func (p *sender) flush() {
	p.e.t.Helper()
	err, returned := answerBy(p.e, ruleFlush, p.e.Patience, "Flush", func() error { return p.producer.Flush(p.e.context()) })
	if returned && err != nil {
		p.e.breach(ruleFlush, "Flush: %v", err)
	}
}

// wantDelivered reports a message that was not acknowledged with nil.
func wantDelivered(e *env, sent ...*sent) {
	e.t.Helper()
	for _, s := range sent {
		if err := s.outcome(); err != nil {
			e.errorf("message %s was acknowledged with %v, want nil", showBytes(s.m.Value), err)
		}
	}
}

// wantStored reports a message that is not stored as it was sent, at the partition and
// the offset of its acknowledgement.
func wantStored(e *env, s *sent) {
	e.t.Helper()
	want := driver.Record{
		Offset: s.m.Offset, Timestamp: s.m.Timestamp, Key: s.m.Key, Value: s.m.Value, Headers: s.m.Headers,
	}
	for _, got := range e.read(s.m.Topic, s.m.Partition) {
		if got.Offset != s.m.Offset {
			continue
		}
		if want.Timestamp.IsZero() {
			want.Timestamp = got.Timestamp
		}
		if !sameRecord(got, want) {
			e.errorf("partition %d holds %s, want %s", s.m.Partition, show(got), show(want))
		}
		return
	}
	e.errorf("message %s was acknowledged at offset %d of partition %d, where no record is stored",
		showBytes(s.m.Value), s.m.Offset, s.m.Partition)
}
