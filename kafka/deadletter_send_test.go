package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// Answers that have arrived by the end of the context count: a copy that is acknowledged
// is not sent again.
func TestAnswersAtTheEndOfASend(t *testing.T) {
	for i := range 40 { // each time the answers and the end are there together
		n := 1 + 2*(i%2)
		synctest.Test(t, func(t *testing.T) {
			p, f := newProducer(t, both())
			ctx, cancel := context.WithCancel(t.Context())
			p.driver = &endingProducer{fakeProducer: f, left: n, end: cancel}
			letters := make([]*letter, n)
			for i := range letters {
				letters[i] = &letter{message: &ProducerMessage{Topic: "dead"}, answer: &forwarded{}}
			}
			d := outbox{producer: p}
			d.send(ctx, letters)
			for _, l := range letters {
				assert.NoError(t, l.answer.err)
			}
		})
	}
}

// An endingProducer ends a context after some messages have been acknowledged.
type endingProducer struct {
	*fakeProducer
	left int
	end  func()
}

func (p *endingProducer) Produce(ctx context.Context, m *driver.Message) error {
	err := p.fakeProducer.Produce(ctx, m)
	if p.left--; p.left == 0 {
		time.Sleep(time.Second) // the callbacks have run
		p.end()
	}
	return err
}
