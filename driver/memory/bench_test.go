package memory_test

import (
	"context"
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

// A counter is a Handler that counts records up to a number.
type counter struct {
	n, of int
	done  chan struct{}
}

func (c *counter) Assign([]*driver.Claim)                  {}
func (c *counter) Revoke(context.Context, []*driver.Claim) {}
func (c *counter) Lost([]*driver.Claim, error)             {}
func (c *counter) Error(error)                             {}
func (c *counter) Deliver(_ *driver.Claim, b driver.Batch) {
	c.n += len(b.Records)
	if c.n == c.of {
		close(c.done)
	}
}

// BenchmarkDeliver reads records of 100 bytes of one partition.
func BenchmarkDeliver(b *testing.B) {
	broker := newBroker(b, 1)
	m := &driver.Message{Topic: "t", Value: make([]byte, 100)}
	for range b.N {
		if err := broker.Send(m); err != nil {
			b.Fatal(err)
		}
	}
	c, err := broker.OpenConsumer(b.Context(), consumerConfig())
	if err != nil {
		b.Fatal(err)
	}
	h := &counter{of: b.N, done: make(chan struct{})}
	b.SetBytes(100)
	b.ReportAllocs()
	b.ResetTimer()
	end := make(chan error)
	go func() { end <- c.Run(h) }()
	<-h.done
	b.StopTimer()
	if err := c.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := <-end; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
}

type ignore struct{}

func (ignore) Ack(error) {}

// BenchmarkProduce appends records of 100 bytes to one partition.
func BenchmarkProduce(b *testing.B) {
	broker := newBroker(b, 1)
	p, err := broker.OpenProducer(b.Context(), producerConfig())
	if err != nil {
		b.Fatal(err)
	}
	m := &driver.Message{Topic: "t", Value: make([]byte, 100), Acker: ignore{}}
	b.SetBytes(100)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Produce(context.Background(), m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
	if err := p.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
