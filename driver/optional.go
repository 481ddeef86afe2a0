package driver

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

// A HighWatermarker is a Consumer that knows, without a round trip, the offset
// after the last record of a claim's partition as of the latest fetch.
// It returns -1 if it does not know yet.
type HighWatermarker interface {
	HighWatermark(c *Claim) int64
}
