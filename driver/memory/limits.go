package memory

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// limits are what a topic takes from producers.
type limits struct {
	maxBytes int           // of one message; 0 is any
	maxAhead time.Duration // of a message's time before that of the broker; 0 is any
}

// SetMaxMessageBytes has a topic refuse messages of more than n bytes with
// MESSAGE_TOO_LARGE, each alone. 0 ends that.
func (b *Broker) SetMaxMessageBytes(name string, n int) error {
	return b.withTopic(name, func(t *topic) { t.limits.maxBytes = n })
}

// SetMaxTimestampAhead has a topic refuse messages that are dated more than d in
// the future with INVALID_TIMESTAMP, each alone. 0 ends that.
func (b *Broker) SetMaxTimestampAhead(name string, d time.Duration) error {
	return b.withTopic(name, func(t *topic) { t.limits.maxAhead = d })
}

// Forbid takes from all clients the right to use a topic, or gives it back. Its
// claims live on and deliver nothing, as one that has read before finds out when it
// fetches next.
func (b *Broker) Forbid(name string, forbidden bool) error {
	return b.withTopic(name, func(t *topic) {
		t.forbidden = forbidden
		for _, l := range t.partitions {
			l.changed.fire()
		}
		b.metadataChanged(name)
	})
}

func (b *Broker) withTopic(name string, f func(*topic)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[name]
	if t == nil {
		return errUnknownTopic(name)
	}
	f(t)
	return nil
}

// check holds a message against the limits.
func (l limits) check(m *driver.Message) *driver.Error {
	n := size(&driver.Record{Key: m.Key, Value: m.Value, Headers: m.Headers})
	switch {
	case l.maxBytes > 0 && n > l.maxBytes:
		return failForGood("MESSAGE_TOO_LARGE", "topic %q: %d bytes, more than its max.message.bytes %d", m.Topic, n, l.maxBytes)
	case !m.Timestamp.IsZero() && m.Timestamp.Before(time.Unix(0, 0)):
		return failForGood("INVALID_TIMESTAMP", "topic %q: %v is before 1970", m.Topic, m.Timestamp)
	case l.maxAhead > 0 && time.Until(m.Timestamp) > l.maxAhead:
		return failForGood("INVALID_TIMESTAMP", "topic %q: %v is more than %v ahead", m.Topic, m.Timestamp, l.maxAhead)
	}
	return nil
}
