package driver

import "time"

// What not every backend can do is an interface of one method. The core asks
// for each in one place (kafka/abilities.go).

// A ConsumerValidator is a Driver that can tell, without opening a socket,
// whether it can honour a configuration. The core asks at registration.
type ConsumerValidator interface {
	ValidateConsumer(cfg ConsumerConfig) error
}

// A ProducerValidator is the same for producers.
type ProducerValidator interface {
	ValidateProducer(cfg ProducerConfig) error
}

// A HighWatermarker is a Consumer that knows, without a round trip, the high
// watermark of a claim's partition: the offset after the last record that is
// replicated, records of open transactions included. What it returns must be at
// most 30 seconds old while a leader answers, also for a claim that is paused,
// and for one whose next record belongs to an open transaction. It returns -1 if
// it does not know yet.
type HighWatermarker interface {
	HighWatermark(c *Claim) int64
}

// A SessionDeadliner is a Consumer that knows until when it is certainly a
// member of its group: SessionTimeout after the latest heartbeat that was
// answered had been sent. It returns the zero time while it is no member. The
// deadline is read without a round trip and without a lock, since the core
// compares it with the clock each time that it takes a chunk of records to hand
// out: a process that was frozen finds it passed before a timer fires.
type SessionDeadliner interface {
	SessionDeadline() time.Time
}
