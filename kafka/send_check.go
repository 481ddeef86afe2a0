package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// check refuses what must not reach the driver. to is ProducerMessage.ToPartition.
func (p *Producer) check(ctx context.Context, m *driver.Message, to *int32, enabled bool) error {
	switch {
	case ctx == nil:
		return fmt.Errorf("kafka: send to %s: ctx is nil", quote(m.Topic))
	case !enabled:
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), ErrNotEnabled)
	case isClosed(p.closed):
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.checkMessage(m, to); err != nil {
		return fmt.Errorf("kafka: send to %s: %w", quote(m.Topic), err)
	}
	return nil
}

// errNoMessage refuses a nil message.
var errNoMessage = errors.New("kafka: send: message is nil")

// checkMessage refuses what a broker would, under the broker's name for it.
func (p *Producer) checkMessage(m *driver.Message, to *int32) error {
	if err := validTopic(m.Topic); err != nil {
		return badMessage("INVALID_TOPIC_EXCEPTION", "message.Topic: %w", err)
	}
	if to != nil && *to < 0 {
		return badMessage("UNKNOWN_TOPIC_OR_PARTITION", "message.ToPartition: %d is negative", *to)
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
