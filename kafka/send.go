package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

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

// Send sends one message and waits until it is acknowledged or ctx ends. While
// the brokers refuse it or are away it is tried again, for DeliveryTimeout or as
// often as MaxRetries says, also after ctx has ended.
//
// A nil error means that the record is in the log as RequiredAcks asks. If the
// error wraps ErrUnknownOutcome the record may be there or not; then key, value
// and headers must not be changed before Close has returned. Any other error means
// that it is not there. ctx's own error is wrapped where it ended the send.
func (p *Producer) Send(ctx context.Context, topic string, key, value []byte) error {
	return p.SendMessage(ctx, &ProducerMessage{Topic: topic, Key: key, Value: value})
}

// SendMessage is Send for a message with headers, a timestamp or a partition.
// It sets m.Partition and m.Offset when the message has been acknowledged.
func (p *Producer) SendMessage(ctx context.Context, m *ProducerMessage) error {
	if m == nil {
		return errNoMessage
	}
	s := p.syncSends.Get().(*syncSend)
	m.copyTo(&s.message)
	s.message.Acker = s
	defer p.pending.end(p.pending.begin(&s.message))
	op, ctx := p.beginSend(ctx, &s.message)
	if err := p.check(ctx, &s.message, m.ToPartition, *p.cfg.EnableSyncProducer); err != nil {
		p.free(s)
		return op.ended(err)
	}
	if op != nil {
		s.message.Headers = op.Headers()
	}
	if err := p.driver.Produce(ctx, &s.message); err != nil {
		p.free(s)
		op.refused(err)
		return op.ended(sendError(m.Topic, err))
	}
	op.accepted()
	err, acked := s.wait(ctx)
	if !acked { // the driver still owns s, so it is not used again
		return op.ended(fmt.Errorf("kafka: send to %s: %w: %w", quote(m.Topic), ErrUnknownOutcome, ctx.Err()))
	}
	m.Partition, m.Offset = s.message.Partition, s.message.Offset
	op.placed(&s.message, err)
	if err == nil {
		p.free(s)
	}
	return op.ended(sendError(m.Topic, err))
}

// copyTo makes d what the driver gets of m. Its Acker stays.
func (m *ProducerMessage) copyTo(d *driver.Message) {
	d.Topic, d.Partition = m.Topic, -1
	if m.ToPartition != nil {
		d.Partition = *m.ToPartition
	}
	d.Key, d.Value, d.Headers = m.Key, m.Value, m.Headers
	d.Timestamp, d.Offset = m.Timestamp, -1
}

// A syncSend is one Send under way. It is used again once its message is in the log, or
// was never accepted. After an error, or when its Send gave up waiting, the driver may
// still read it.
type syncSend struct {
	message driver.Message
	acked   chan error // holds one
}

// wait returns the answer of the driver, or false if it has not come when ctx ends.
func (s *syncSend) wait(ctx context.Context) (err error, acked bool) {
	select {
	case err = <-s.acked:
		return err, true
	case <-ctx.Done():
	}
	select {
	case err = <-s.acked: // it has come together with the end
		return err, true
	default:
		return nil, false
	}
}

// Ack wakes the Send.
func (s *syncSend) Ack(err error) { s.acked <- err }

func (p *Producer) free(s *syncSend) {
	s.message = driver.Message{}
	p.syncSends.Put(s)
}
