package memory

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A SendOption changes what [Broker.Send] and [Transaction.Send] append.
type SendOption func(*sending)

// A sending is one Send under way.
type sending struct {
	m         driver.Message
	partition *int32 // of Placed, or nil
	offset    *int64
}

// ToPartition appends to one partition, regardless of the key. With -1 the key decides,
// as without this option.
func ToPartition(partition int32) SendOption {
	return func(s *sending) { s.m.Partition = partition }
}

// Headers sets the headers of the record. Send copies them.
func Headers(headers ...driver.Header) SendOption {
	return func(s *sending) { s.m.Headers = headers }
}

// Timestamp dates the record. The zero time, which is the default, stands for now.
func Timestamp(at time.Time) SendOption {
	return func(s *sending) { s.m.Timestamp = at }
}

// Placed sets partition and offset to those of the record. A Send that fails sets
// neither.
func Placed(partition *int32, offset *int64) SendOption {
	return func(s *sending) { s.partition, s.offset = partition, offset }
}

// Send appends a record without a producer, also while the broker is stopped. A key
// chooses the partition as Java's client does. With a nil key the partitions take turns.
// A nil value is a tombstone. Send copies its arguments.
func (b *Broker) Send(topic string, key, value []byte, opts ...SendOption) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sendFromOutside(nil, topic, key, value, opts)
}

// sendFromOutside appends a record for Send, as part of tx if that is not nil.
func (b *Broker) sendFromOutside(tx *Transaction, topic string, key, value []byte, opts []SendOption) error {
	s := sending{m: driver.Message{Topic: topic, Partition: -1, Key: key, Value: value}}
	for _, o := range opts {
		o(&s)
	}
	if err := b.send(&s.m, tx, nil); err != nil {
		return err
	}
	if s.partition != nil {
		*s.partition = s.m.Partition
	}
	if s.offset != nil {
		*s.offset = s.m.Offset
	}
	return nil
}

// send appends m. turn is the next partition for messages without a key; nil stands for
// the topic's own turn.
func (b *Broker) send(m *driver.Message, tx *Transaction, turn *int32) error {
	t := b.ensureTopic(m.Topic)
	if t == nil {
		return errNoTopic(m.Topic)
	}
	if err := t.limits.check(m); err != nil {
		return err
	}
	if turn == nil {
		turn = &t.next
	}
	p := choose(m, len(t.partitions), turn)
	if p < 0 || int(p) >= len(t.partitions) {
		return errUnknownPartition(m.Topic, p)
	}
	m.Partition, m.Offset = p, t.partitions[p].append(record(m), tx)
	if tx != nil {
		tx.touch(t.partitions[p])
	}
	return nil
}

// choose returns the partition of m: its own, that of its key, or the next one.
func choose(m *driver.Message, n int, turn *int32) int32 {
	switch {
	case m.Partition != -1:
		return m.Partition
	case m.Key != nil:
		return partitionOf(m.Key, n)
	}
	p := *turn % int32(n)
	*turn = p + 1
	return p
}

func record(m *driver.Message) driver.Record {
	at := m.Timestamp
	if at.IsZero() {
		at = time.Now()
	}
	return driver.Record{
		Timestamp: at.Truncate(time.Millisecond),
		Key:       m.Key,
		Value:     m.Value,
		Headers:   m.Headers,
	}
}
