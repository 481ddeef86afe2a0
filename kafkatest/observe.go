package kafkatest

import (
	"context"
	"slices"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A consumer is what is known of one consumer of the manager. The mutex of its
// Kafka guards it.
type consumer struct {
	job      string // ClientID, which is the job's name by default, until Start knows better
	group    string
	clientID string
	topics   []string

	records map[position]*history
	inHand  map[memory.TopicPartition][]*history // the handler's latest call in each partition
}

type position struct {
	memory.TopicPartition
	offset int64
}

// A history is what has happened to one record.
type history struct {
	attempts int // times handed out
	failures int
	handled  bool
	err      error // of the latest failure
}

func positionOf(m *kafka.Message) position {
	return position{memory.TopicPartition{Topic: m.Topic, Partition: m.Partition}, m.Offset}
}

// learn hears of a consumer at its registration, just before its handler is
// wrapped by observe.
func (k *Kafka) learn(cfg driver.ConsumerConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.latest = &consumer{
		job:      cfg.ClientID,
		group:    cfg.Group,
		clientID: cfg.ClientID,
		topics:   cfg.Topics,
		records:  make(map[position]*history),
		inHand:   make(map[memory.TopicPartition][]*history),
	}
}

// observe is a middleware: it notes what goes into a handler and what is done.
// Failures are told by the core, which alone knows what counts as one.
func (k *Kafka) observe(next kafka.HandlerFunc) kafka.HandlerFunc {
	c := k.enlist()
	return func(ctx context.Context, ms []*kafka.Message) error {
		k.begin(c, ms)
		err := next(ctx, ms)
		if err == nil {
			k.finish(c, ms)
		}
		return err
	}
}

// enlist adds the consumer that is being registered. One whose name is taken
// is going to be refused, unless that is only its ClientID: see nameLatest.
func (k *Kafka) enlist() *consumer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.find(k.latest.job) == nil {
		k.consumers = append(k.consumers, k.latest)
	}
	return k.latest
}

// nameLatest gives the consumer that was registered last its job's name.
func (k *Kafka) nameLatest(job string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.latest.job = job
	if !slices.Contains(k.consumers, k.latest) {
		k.consumers = append(k.consumers, k.latest)
	}
}

// find returns a consumer by name, or nil. The caller holds the mutex.
func (k *Kafka) find(job string) *consumer {
	for _, c := range k.consumers {
		if strings.EqualFold(c.job, job) {
			return c
		}
	}
	return nil
}

// begin notes that records are handed out.
func (k *Kafka) begin(c *consumer, ms []*kafka.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hs := make([]*history, len(ms))
	for i, m := range ms {
		pos := positionOf(m)
		if c.records[pos] == nil {
			c.records[pos] = new(history)
		}
		hs[i] = c.records[pos]
		hs[i].attempts++
	}
	c.inHand[positionOf(ms[0]).TopicPartition] = hs
	k.fire()
}

// finish notes that records have been handled.
func (k *Kafka) finish(c *consumer, ms []*kafka.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range ms {
		c.records[positionOf(m)].handled = true
	}
	k.fire()
}

// failed notes that the handler's latest call in a partition has failed. The
// caller holds the mutex.
func (k *Kafka) failed(e kafka.HandlerFailed) {
	c := k.find(e.JobName)
	if c == nil {
		return
	}
	for _, h := range c.inHand[memory.TopicPartition{Topic: e.Topic, Partition: e.Partition}] {
		h.failures++
		h.err = e.Err
	}
}

// A hook wakes the waits for everything that happens in the manager.
type hook struct {
	kafka.NopHook
	k *Kafka
}

func (h hook) Event(e kafka.Event) {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	switch e := e.(type) {
	case kafka.HandlerFailed:
		h.k.failed(e)
	case kafka.StateChanged:
		h.k.states = append(h.k.states, e)
	}
	h.k.fire()
}

// fire wakes all waits. The caller holds the mutex; closing a channel under it
// blocks nobody.
func (k *Kafka) fire() {
	close(k.changed)
	k.changed = make(chan struct{})
}
