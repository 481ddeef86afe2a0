package franz

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// recordBytes is the most that a record takes beside its key, its value and its headers.
	recordBytes = 36

	// headerBytes is the most that a header takes beside its key and its value.
	headerBytes = 10
)

// A slot is a message on its way to the broker. Slots are reused, so a message without headers
// costs no allocation.
//
// It is the context of its record until kgo puts the record into the buffer of a partition:
// so the partitioner and the hook find the slot of a record.
type slot struct {
	rec     kgo.Record
	m       *driver.Message
	topic   *topic
	lane    *lane // the partition in whose buffer kgo has put the record, or nil
	key     []byte
	value   []byte
	want    int32 // the partition to send to, or -1
	tries   int   // to find the partition
	broken  error // why no partition was chosen, or nil
	cost    int64
	size    int // on the wire, at most
	epoch   *epoch
	headers []kgo.RecordHeader
	promise func(*kgo.Record, error) // kgo's, which is the method answered

	pending  atomic.Bool // the message is not acknowledged
	accepted time.Time   // set only with DeliveryTimeout
	probes   bool        // kgo looks the topic up with it
}

var _ context.Context = (*slot)(nil)

// Deadline implements context.Context.
func (*slot) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (*slot) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (*slot) Err() error { return nil }

// Value implements context.Context.
func (*slot) Value(any) any { return nil }

// waiting is the context of a record that waits for its topic, which the driver can cut short.
type waiting struct {
	context.Context
	s *slot
}

// slotOf returns the slot of a record that has no partition yet.
func slotOf(r *kgo.Record) *slot {
	if w, ok := r.Context.(waiting); ok {
		return w.s
	}
	return r.Context.(*slot)
}

// cost returns how many bytes of the buffer m takes.
func cost(m *driver.Message) int64 {
	n := slotBytes + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return int64(n)
}

// fill makes m the message of the slot.
func (s *slot) fill(m *driver.Message, cost int64, e *epoch) {
	s.m, s.cost, s.epoch, s.want = m, cost, e, m.Partition
	s.key, s.value = m.Key, m.Value
	s.size = recordBytes + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		s.headers = append(s.headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		s.size += headerBytes + len(h.Key) + len(h.Value)
	}
	s.rec.Topic, s.rec.Key, s.rec.Value, s.rec.Headers, s.rec.Timestamp = m.Topic, m.Key, m.Value, s.headers, m.Timestamp
}

// take reports whether the caller must acknowledge the message, and may use it until then. The
// first caller must.
func (s *slot) take() bool { return s.pending.CompareAndSwap(true, false) }

// empty lets go of the message.
func (s *slot) empty() {
	clear(s.headers)
	s.headers = s.headers[:0]
	s.m, s.topic, s.lane, s.epoch, s.tries, s.broken = nil, nil, nil, nil, 0, nil
	s.key, s.value = nil, nil
	s.rec = kgo.Record{}
}

// again makes the record one that kgo has never seen. It keeps its date. It does not look at
// the message, which belongs to the application again if Close has abandoned it.
func (s *slot) again() {
	at := s.rec.Timestamp
	s.rec = kgo.Record{Topic: s.topic.name, Key: s.key, Value: s.value, Headers: s.headers, Timestamp: at}
	s.lane = nil
}

// refuse returns why this driver cannot send the message to any broker: one such message
// would spoil its batch.
func (s *slot) refuse(maxBytes int) error {
	m := s.m
	switch {
	case m.Topic == "":
		return refusal(kerr.InvalidTopicException, "the topic is empty")
	case s.size > maxBytes:
		return refusal(kerr.MessageTooLarge, "the message takes up to %d bytes; MaxMessageBytes is %d", s.size, maxBytes)
	case m.Timestamp.IsZero():
	case m.Timestamp.Before(time.Unix(0, 0)), m.Timestamp.After(lastTime()):
		return refusal(kerr.InvalidTimestamp, "Timestamp %v is not between 1970 and %d", m.Timestamp, lastTime().Year())
	}
	if m.Partition < -1 {
		return wrap(kerr.UnknownTopicOrPartition)
	}
	return nil
}

// lastTime is the last time that kgo can write: it counts nanoseconds.
func lastTime() time.Time { return time.Unix(0, math.MaxInt64) }

// refusal returns a permanent refusal by the driver itself, under the broker's code.
func refusal(code *kerr.Error, format string, args ...any) error {
	return &driver.Error{
		Code: code.Message, Kind: driver.ErrPermanent,
		Err: fmt.Errorf("%w: %s", code, fmt.Sprintf(format, args...)),
	}
}
