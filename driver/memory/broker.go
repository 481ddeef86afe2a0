package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// A Broker is a Kafka cluster in memory, and the [driver.Driver] of its clients. Its
// other methods are for tests: they take effect at once, also while the broker is
// stopped. All methods are safe for concurrent use by several goroutines.
type Broker struct {
	autoCreate     int
	consumerGroups ConsumerGroups
	observer       *observer // or nil

	mu        sync.Mutex // guards the fields below and everything that they point to
	stopped   bool
	reached   signal // fired when stopped changes
	topics    map[string]*topic
	groups    []*group // in order of creation
	members   int      // member IDs that were assigned
	topicIDs  int      // topic IDs that were assigned
	producers []*producer
}

var _ interface {
	driver.Driver
	driver.GroupProtocolSupporter
	driver.GroupReader
} = (*Broker)(nil)

// An Option changes a new Broker.
type Option func(*Broker)

// WithAutoCreate makes the broker create an unknown topic, with that many partitions,
// when a client uses it. Without this option the topic remains unknown.
func WithAutoCreate(partitions int) Option {
	return func(b *Broker) { b.autoCreate = partitions }
}

// WithCommitObserver calls f for each offset that the broker commits, in the order of
// the commits, before the Commit of the consumer returns and before claims that begin there
// are assigned. Calls do not overlap. f must neither commit nor wait for a commit.
func WithCommitObserver(f func(Commit)) Option {
	return func(b *Broker) { b.observer = newObserver(f) }
}

// NewBroker returns a broker without topics. A broker needs no Close: all goroutines
// belong to its consumers and producers and end with them.
func NewBroker(opts ...Option) *Broker {
	b := &Broker{topics: make(map[string]*topic), consumerGroups: ConsumerGroups{}.withDefaults()}
	for _, o := range opts {
		o(b)
	}
	return b
}

// SupportsGroupProtocol implements [driver.GroupProtocolSupporter]: the broker has all of
// them.
func (b *Broker) SupportsGroupProtocol(p driver.GroupProtocol) bool { return p.String() != "" }

// OpenConsumer returns a consumer. It fails with CONNECTION_FAILED while the broker is
// stopped, and with INVALID_TOPIC_EXCEPTION for a topic name that Kafka refuses.
func (b *Broker) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	for _, name := range cfg.Topics {
		if err := checkTopicName(name); err != nil {
			return nil, err
		}
	}
	if err := b.reach(ctx); err != nil {
		return nil, err
	}
	return newConsumer(b, cfg), nil
}

// OpenProducer returns a producer. It fails with CONNECTION_FAILED while the broker is
// stopped.
func (b *Broker) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	if err := b.reach(ctx); err != nil {
		return nil, err
	}
	return newProducer(b, cfg), nil
}

func (b *Broker) reach(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return errUnreachable()
	}
	return nil
}

// Stop cuts the broker off from all its clients, like a network outage. The broker keeps
// its data, and sessions run out. OpenConsumer and OpenProducer fail. Consumers report
// CONNECTION_FAILED to their Handler and wait. Commits wait for the end of their context.
// Messages wait for as long as MaxRetries and RetryBackoff, or DeliveryTimeout, allow.
// Then they fail, and their outcome is certain, because nothing was sent.
func (b *Broker) Stop() { b.setStopped(true) }

// Start reconnects the clients after Stop. Members whose session has run out lose their
// claims and rejoin.
func (b *Broker) Start() { b.setStopped(false) }

func (b *Broker) setStopped(stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = stopped
	b.reached.fire()
	for _, g := range b.groups {
		g.linksChanged()
	}
	for _, p := range b.producers {
		p.changed.fire()
	}
}

func (b *Broker) addProducer(p *producer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.producers = append(b.producers, p)
}

func (b *Broker) removeProducer(p *producer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.producers = slices.DeleteFunc(b.producers, func(q *producer) bool { return q == p })
}
