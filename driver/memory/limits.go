package memory

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// limits are the limits of a topic for messages.
type limits struct {
	maxBytes int           // of one message; 0 is no limit
	maxAhead time.Duration // of a message's timestamp relative to now; 0 is no limit
}

// SetMaxMessageBytes makes a topic refuse each message of more than n bytes with
// MESSAGE_TOO_LARGE. 0 removes the limit.
func (b *Broker) SetMaxMessageBytes(name string, n int) error {
	return b.withTopic(name, func(t *topic) { t.limits.maxBytes = n })
}

// SetMaxTimestampAhead makes a topic refuse each message that is dated more than d in the
// future with INVALID_TIMESTAMP. 0 removes the limit.
func (b *Broker) SetMaxTimestampAhead(name string, d time.Duration) error {
	return b.withTopic(name, func(t *topic) { t.limits.maxAhead = d })
}

// Forbid denies all clients the right to use a topic, or grants it again. Claims of the
// topic live on but deliver nothing: a consumer gets the refusal with its next fetch.
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

// check returns the error of a message that exceeds the limits, or nil.
func (l limits) check(m *driver.Message) *driver.Error {
	n := size(&driver.Record{Key: m.Key, Value: m.Value, Headers: m.Headers})
	switch {
	case l.maxBytes > 0 && n > l.maxBytes:
		return failPermanently("MESSAGE_TOO_LARGE", "topic %q: %d bytes, more than its max.message.bytes %d", m.Topic, n, l.maxBytes)
	case !m.Timestamp.IsZero() && m.Timestamp.Before(time.Unix(0, 0)):
		return failPermanently("INVALID_TIMESTAMP", "topic %q: %v is before 1970", m.Topic, m.Timestamp)
	case l.maxAhead > 0 && time.Until(m.Timestamp) > l.maxAhead:
		return failPermanently("INVALID_TIMESTAMP", "topic %q: %v is more than %v ahead", m.Topic, m.Timestamp, l.maxAhead)
	}
	return nil
}
