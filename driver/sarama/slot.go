package sarama

import (
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// A slot is one accepted message on its way to the broker. Slots are reused, so a message
// without headers costs no allocation.
type slot struct {
	message ibm.ProducerMessage // for the partitioner; Value is the slot
	record  ibm.Record          // for the wire
	user    *driver.Message
	bytes   int // of the buffer
	size    int // on the wire, at most

	// accepted is the time of acceptance; it is set only if the message depends on it.
	accepted time.Time

	// pending is true from acceptance until the message is acknowledged: only the
	// goroutine that makes it false may do so.
	pending atomic.Bool

	epoch int64 // belongs to the buffer
}

// Encode implements Sarama's Encoder for the value.
func (s *slot) Encode() ([]byte, error) { return s.user.Value, nil }

// Length implements Sarama's Encoder for the value.
func (s *slot) Length() int { return len(s.user.Value) }

// A slotKey is the slot as Sarama's Encoder for the key.
type slotKey slot

func (k *slotKey) Encode() ([]byte, error) { return k.user.Key, nil }
func (k *slotKey) Length() int             { return len(k.user.Key) }

// cost returns how many bytes of the buffer m takes.
func cost(m *driver.Message) int {
	n := slotBytes + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// fill makes m the message of the slot. It writes only fields that change.
func (s *slot) fill(m *driver.Message) {
	s.user, s.accepted = m, time.Time{}
	out := &s.message
	out.Partition, out.Offset = m.Partition, -1
	if out.Topic != m.Topic {
		out.Topic = m.Topic
	}
	if out.Timestamp != m.Timestamp {
		out.Timestamp = m.Timestamp
	}
	switch { // Sarama recognizes a nil key by the interface
	case m.Key == nil && out.Key != nil:
		out.Key = nil
	case m.Key != nil && out.Key == nil:
		out.Key = (*slotKey)(s)
	}
	s.record.Key, s.record.Value = m.Key, m.Value
	if len(m.Headers) > 0 {
		out.Headers = make([]ibm.RecordHeader, len(m.Headers))
		s.record.Headers = make([]*ibm.RecordHeader, len(m.Headers))
		for i, h := range m.Headers {
			out.Headers[i] = ibm.RecordHeader{Key: []byte(h.Key), Value: h.Value}
			s.record.Headers[i] = &out.Headers[i]
		}
	}
	s.size = out.ByteSize(recordVersion)
	s.pending.Store(true)
}

// empty lets go of the message.
func (s *slot) empty() {
	s.user = nil
	s.record.Key, s.record.Value = nil, nil
	if s.message.Headers != nil {
		s.message.Headers, s.record.Headers = nil, nil
	}
}

// refuse returns why this driver cannot send the message to any broker: one such message
// would spoil its batch.
func (s *slot) refuse(maxBytes int) error {
	m := s.user
	switch {
	case s.size > maxBytes:
		return refusal(ibm.ErrMessageSizeTooLarge, "the message takes up to %d bytes; MaxMessageBytes is %d", s.size, maxBytes)
	case m.Timestamp.IsZero():
	case m.Timestamp.Before(time.Unix(0, 0)), m.Timestamp.After(lastTime()):
		return refusal(ibm.ErrInvalidTimestamp, "Timestamp %v is not between 1970 and %d", m.Timestamp, lastTime().Year())
	}
	if m.Partition < -1 {
		return wrap(ibm.ErrUnknownTopicOrPartition)
	}
	return nil
}

// lastTime is the last time that Sarama can write: it counts nanoseconds.
func lastTime() time.Time { return time.Unix(0, 1<<63-1) }
