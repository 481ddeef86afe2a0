package differential

import (
	"fmt"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A send is one message by the lane's producer.
type send struct {
	partition int32 // -1 lets the key decide
	record    record
}

// A record is a driver's record that shows itself.
type record driver.Record

func sends(partitions int32) *rapid.Generator[operation] {
	return draws(func(t *rapid.T) send {
		return send{
			partition: rapid.Int32Range(-1, partitions).Draw(t, "partition"),
			record: record{
				Key:       content.Draw(t, "key"),
				Value:     content.Draw(t, "value"),
				Headers:   rapid.SliceOfN(headers, 0, 3).Draw(t, "headers"),
				Timestamp: rapid.SampledFrom(timestamps).Draw(t, "timestamp"),
			},
		}
	})
}

// content is nothing, empty or something.
var content = rapid.OneOf(
	rapid.Just([]byte(nil)),
	rapid.Just([]byte{}),
	rapid.SliceOfN(rapid.Byte(), 1, 12),
)

var headers = rapid.Custom(func(t *rapid.T) driver.Header {
	return driver.Header{
		Key:   rapid.SampledFrom([]string{"", "a", "a", "b", "\xff", "ü"}).Draw(t, "header"),
		Value: content.Draw(t, "header's value"),
	}
})

// timestamps that are not now lie before long.
var (
	long       = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	timestamps = []time.Time{{}, {}, time.UnixMilli(0), time.UnixMilli(1), time.UnixMicro(1_500_000_000_123_456)}
)

func (s send) String() string { return fmt.Sprintf("send to %d: %v", s.partition, s.record) }

func (s send) do(l *lane) {
	m := &driver.Message{
		Topic: l.topic, Partition: s.partition,
		Key: s.record.Key, Value: s.record.Value, Headers: s.record.Headers, Timestamp: s.record.Timestamp,
	}
	if m.Key == nil && m.Partition < 0 && l.partitions > 1 {
		m.Partition = 0 // any would do, and they would differ
	}
	if err := l.produce(m); err != nil {
		l.note("refused: %s", class(err))
		return
	}
	l.appended(m.Partition, m.Offset)
	l.note("at %d/%d", m.Partition, m.Offset)
}

// produce sends a message and waits for its acknowledgement.
func (l *lane) produce(m *driver.Message) error {
	answer := make(acker, 1)
	m.Acker = answer
	if err := l.producer.Produce(l.ctx, m); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

type acker chan error

func (a acker) Ack(err error) { a <- err }

// String shows a record but for the time at which it was sent.
func (r record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s=%s", show(r.Key), show(r.Value))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %q:%s", h.Key, show(h.Value))
	}
	if at := r.Timestamp; !at.IsZero() && at.Before(long) {
		fmt.Fprintf(&b, " at %d ms", at.UnixMilli())
	}
	return b.String()
}

func show(b []byte) string {
	if b == nil {
		return "nil"
	}
	return fmt.Sprintf("%q", b)
}
