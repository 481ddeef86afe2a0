package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// A Broker is a Kafka cluster in memory, and the [driver.Driver] of its clients.
// Its methods beside those of a Driver are the hands of a test: they act on the
// broker from outside, at once, and also while it is stopped. All are safe for
// use by several goroutines.
type Broker struct {
	autoCreate int
	observer   *observer // or nil

	mu        sync.Mutex // guards all below, and all that hangs on it
	stopped   bool
	topics    map[string]*topic
	groups    []*group // in order of creation
	members   int      // member IDs given out
	topicIDs  int      // topic IDs given out
	producers []*producer
}

var _ driver.Driver = (*Broker)(nil)

// An Option changes a new Broker.
type Option func(*Broker)

// WithAutoCreate makes a topic that is asked for come into being with so many
// partitions. Without it, such a topic is unknown.
func WithAutoCreate(partitions int) Option {
	return func(b *Broker) { b.autoCreate = partitions }
}

// WithCommitObserver has f called for each commit that the broker has applied, in
// this order, and before the consumer learns of it. Calls do not overlap; f must
// neither commit nor wait for a commit.
func WithCommitObserver(f func(Commit)) Option {
	return func(b *Broker) { b.observer = newObserver(f) }
}

// NewBroker returns a broker without topics. It starts no goroutine: those that
// there are belong to its consumers and producers and end with them.
func NewBroker(opts ...Option) *Broker {
	b := &Broker{topics: make(map[string]*topic)}
	for _, o := range opts {
		o(b)
	}
	return b
}

// OpenConsumer returns a consumer, or a CONNECTION_FAILED while the broker is
// stopped, or an INVALID_TOPIC_EXCEPTION.
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

// OpenProducer returns a producer, or a CONNECTION_FAILED while the broker is
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

// Stop cuts the broker off from all its clients, as an outage of the network
// before it does. What is stored stays, and sessions run out. Opening fails;
// consumers tell their handler CONNECTION_FAILED and wait; commits wait for the
// end of their context; messages wait as long as MaxRetries and RetryBackoff
// say, and then fail, as nothing was sent.
func (b *Broker) Stop() { b.setStopped(true) }

// Start ends what Stop began. Members whose session has run out meanwhile find
// their claims lost and join anew.
func (b *Broker) Start() { b.setStopped(false) }

func (b *Broker) setStopped(stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = stopped
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
