package differential

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// A wrongSystem is the broker in memory behind a driver with one mistake. A nil
// field is right.
type wrongSystem struct {
	inMemory
	config  func(*driver.ConsumerConfig)
	handler func(driver.Handler) driver.Handler
	mark    func(*driver.Mark)
	refusal func(error) error // of commits
	message func(*driver.Message)
	ack     func(error) error
}

// TestDifferencesAreFound shows that a driver with a mistake does not pass.
func TestDifferencesAreFound(t *testing.T) {
	for name, wrong := range map[string]wrongSystem{
		"commits the record's own offset":    {mark: func(m *driver.Mark) { m.Offset-- }},
		"commits for every member":           {refusal: func(error) error { return nil }},
		"starts at the beginning":            {config: func(c *driver.ConsumerConfig) { c.InitialOffset = driver.OffsetOldest }},
		"skips what is gone unheard":         {handler: func(h driver.Handler) driver.Handler { return deaf{h} }},
		"passes over a claim's first record": {handler: func(h driver.Handler) driver.Handler { return hasty{h} }},
		"takes a loss for a revocation":      {handler: func(h driver.Handler) driver.Handler { return gentle{h} }},
		"sends all keys to one partition": {message: func(m *driver.Message) {
			if m.Partition == -1 {
				m.Partition = 0
			}
		}},
		"sends nothing for empty": {message: func(m *driver.Message) {
			if len(m.Value) == 0 {
				m.Value = nil
			}
		}},
		"forgets a header":         {message: func(m *driver.Message) { m.Headers = m.Headers[:min(2, len(m.Headers))] }},
		"answers that all is well": {ack: func(error) error { return nil }},
		"answers that the outcome is unknown": {ack: func(err error) error {
			if err != nil {
				err = &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome, Err: err}
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 3000
			seed := fresh()
			// A wrong driver may never report that the topic was created again, which takes
			// a sequence all of its patience.
			for i := range most {
				wrong.inMemory = newMemory().(inMemory)
				if differ(sequences.Example(seed+i).withoutRecreations(), newMemory(), wrong, new(tally)) != "" {
					t.Logf("found by sequence %d", i+1)
					return
				}
			}
			assert.Fail(t, "not found", "%d sequences from -seed=%d", most, seed)
		})
	}
}

// settleTime is short: a driver that is wrong may never come to rest.
func (wrongSystem) settleTime() time.Duration { return 2 * time.Second }

func (s wrongSystem) Driver() driver.Driver { return wrongDriver{s} }

type wrongDriver struct{ wrongSystem }

func (d wrongDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if d.config != nil {
		d.config(&cfg)
	}
	c, err := d.broker.OpenConsumer(ctx, cfg)
	return wrongConsumer{c, d.wrongSystem}, err
}

func (d wrongDriver) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	p, err := d.broker.OpenProducer(ctx, cfg)
	return wrongProducer{p, d.wrongSystem}, err
}

type wrongConsumer struct {
	driver.Consumer
	s wrongSystem
}

func (c wrongConsumer) Run(h driver.Handler) error {
	if c.s.handler != nil {
		h = c.s.handler(h)
	}
	return c.Consumer.Run(h)
}

func (c wrongConsumer) Commit(ctx context.Context, marks []driver.Mark) error {
	if c.s.mark != nil {
		for i := range marks {
			c.s.mark(&marks[i])
		}
	}
	err := c.Consumer.Commit(ctx, marks)
	if c.s.refusal != nil {
		return c.s.refusal(err)
	}
	return err
}

type wrongProducer struct {
	driver.Producer
	s wrongSystem
}

func (p wrongProducer) Produce(ctx context.Context, m *driver.Message) error {
	if p.s.message != nil {
		p.s.message(m)
	}
	if p.s.ack != nil {
		m.Acker = wrongAcker{m.Acker, p.s.ack}
	}
	return p.Producer.Produce(ctx, m)
}

type wrongAcker struct {
	driver.Acker
	answer func(error) error
}

func (a wrongAcker) Ack(err error) { a.Acker.Ack(a.answer(err)) }

// deaf hears of no gap.
type deaf struct{ driver.Handler }

func (deaf) Error(error) {}

// hasty passes over the first record of each claim.
type hasty struct{ driver.Handler }

func (h hasty) Deliver(c *driver.Claim, b driver.Batch) {
	if len(b.Records) > 0 && b.Records[0].Offset == c.Start {
		b.Next = b.Records[len(b.Records)-1].Offset + 1
		b.Records = b.Records[1:]
	}
	h.Handler.Deliver(c, b)
}

// gentle takes a loss for a revocation.
type gentle struct{ driver.Handler }

func (g gentle) Lost(claims []*driver.Claim, _ error) { g.Handler.Revoke(context.Background(), claims) }
