package kafka

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What only some drivers can do is asked for here, and nowhere else.

// checkConsumer asks the driver whether it can honour cfg.
func checkConsumer(d driver.Driver, cfg driver.ConsumerConfig) error {
	if v, ok := d.(driver.ConsumerValidator); ok {
		return v.ValidateConsumer(cfg)
	}
	return nil
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
