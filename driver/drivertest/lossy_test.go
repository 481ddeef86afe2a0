package drivertest_test

import (
	"context"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A lossy broker is one in memory that can lose its answers to producers. It answers
// within a call, so this makes both attempts of a client: the first appends, and the
// second is refused.
type lossy struct {
	*memory.Broker
	mu      sync.Mutex
	topic   string   // whose answers are lost
	pending []func() // the outcomes, when the second attempts are made
}

// LoseAnswers implements drivertest.AnswerLoser.
func (h *memoryHarness) LoseAnswers(_ context.Context, topic string) (func(context.Context) error, error) {
	h.lossy.mu.Lock()
	defer h.lossy.mu.Unlock()
	h.lossy.topic = topic
	return func(context.Context) error { return h.lossy.refuse() }, nil
}

func (b *lossy) refuse() error {
	b.mu.Lock()
	topic, pending := b.topic, b.pending
	b.topic, b.pending = "", nil
	b.mu.Unlock()
	for _, answer := range pending {
		answer()
	}
	return b.SetMaxMessageBytes(topic, 1000)
}

func (b *lossy) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	p, err := b.Broker.OpenProducer(ctx, cfg)
	return &lossyProducer{p, b}, err
}

type lossyProducer struct {
	driver.Producer
	b *lossy
}

func (p *lossyProducer) Produce(ctx context.Context, m *driver.Message) error {
	p.b.mu.Lock()
	loses := m.Topic == p.b.topic
	p.b.mu.Unlock()
	if !loses {
		return p.Producer.Produce(ctx, m)
	}
	sent := *m
	sent.Acker = testkit.AckFunc(func(error) {
		p.b.mu.Lock()
		defer p.b.mu.Unlock()
		p.b.pending = append(p.b.pending, func() {
			m.Acker.Ack(&driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrUnknownOutcome})
		})
	})
	return p.Producer.Produce(ctx, &sent)
}

// FindTopic implements driver.TopicFinder.
func (p *lossyProducer) FindTopic(ctx context.Context, topic string) error {
	return p.Producer.(driver.TopicFinder).FindTopic(ctx, topic)
}
