package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What only some drivers can do is asked for here, and nowhere else.

// checkConsumer asks the driver whether it can honour cfg, which is that of the consumer
// of that name.
func checkConsumer(d driver.Driver, name string, cfg driver.ConsumerConfig) error {
	if p := cfg.GroupProtocol; !supportsGroupProtocol(d, p) {
		return &FieldError{
			Kind: "consumer", Name: name, Field: "GroupProtocol",
			Problem: fmt.Sprintf("%v is not supported by the driver %T", p, d),
		}
	}
	if v, ok := d.(driver.ConsumerValidator); ok {
		if err := v.ValidateConsumer(cfg); err != nil {
			return fmt.Errorf("kafka: consumer %q: %w", name, err)
		}
	}
	return nil
}

func supportsGroupProtocol(d driver.Driver, p GroupProtocol) bool {
	if s, ok := d.(driver.GroupProtocolSupporter); ok {
		return s.SupportsGroupProtocol(p)
	}
	return p == ClassicProtocol
}

// checkProducer asks the driver whether it can honour cfg.
func checkProducer(d driver.Driver, cfg driver.ProducerConfig) error {
	if v, ok := d.(driver.ProducerValidator); ok {
		return v.ValidateProducer(cfg)
	}
	return nil
}

// sessionDeadline returns the driver's way to say until when d is certainly a member
// of its group, or nil if it has none.
func sessionDeadline(d driver.Consumer) func() time.Time {
	if s, ok := d.(driver.SessionDeadliner); ok {
		return s.SessionDeadline
	}
	return nil
}

// highWatermark returns the end of c's partition as of the latest fetch, or -1.
func highWatermark(d driver.Consumer, c *driver.Claim) int64 {
	if h, ok := d.(driver.HighWatermarker); ok {
		return h.HighWatermark(c)
	}
	return -1
}

// findTopic asks whether a topic exists, without creating it. Where the driver cannot
// tell, it does.
func findTopic(ctx context.Context, p driver.Producer, topic string) error {
	f, ok := p.(driver.TopicFinder)
	if !ok {
		return nil
	}
	return guard(func() error { return f.FindTopic(ctx, topic) })
}

// seekerOf returns d if it can move the positions of its claims.
func seekerOf(d driver.Consumer) (driver.Seeker, bool) {
	s, ok := d.(driver.Seeker)
	return s, ok
}

// findOffsets looks offsets up: the ends of logs, and the first at or after t.
func findOffsets(ctx context.Context, g driver.Group, of map[string][]int32, t time.Time) (all []driver.FoundOffsets, err error) {
	f, ok := g.(driver.OffsetFinder)
	if !ok {
		return nil, fmt.Errorf("%T finds no offsets by time: %w", g, ErrUnsupported)
	}
	err = guard(func() (err error) {
		all, err = f.FindOffsets(ctx, of, t)
		return err
	})
	return all, err
}

// openGroup returns a view of cfg's group from outside.
func openGroup(ctx context.Context, d driver.Driver, cfg driver.ConsumerConfig) (g driver.Group, err error) {
	reader, ok := d.(driver.GroupReader)
	if !ok {
		return nil, fmt.Errorf("the driver %T cannot read groups from outside: %w", d, ErrUnsupported)
	}
	err = guard(func() (err error) {
		g, err = reader.OpenGroup(ctx, cfg)
		return err
	})
	return g, err
}

// everyPartition names all partitions of topics, for findOffsets.
func everyPartition(topics []string) map[string][]int32 {
	of := make(map[string][]int32, len(topics))
	for _, topic := range topics {
		of[topic] = nil
	}
	return of
}
