package memory_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A counter is a Handler that counts records up to a number.
type counter struct {
	testkit.Idle
	n, of int
	done  chan struct{}
}

func (c *counter) Deliver(_ *driver.Claim, b driver.Batch) {
	c.n += len(b.Records)
	if c.n == c.of {
		close(c.done)
	}
}

// BenchmarkDeliver reads records of 100 bytes of one partition.
func BenchmarkDeliver(b *testing.B) {
	broker := newBroker(b, 1)
	value := make([]byte, 100)
	for range b.N {
		require.NoError(b, broker.Send("t", nil, value))
	}
	c, err := broker.OpenConsumer(b.Context(), consumerConfig())
	require.NoError(b, err)
	h := &counter{of: b.N, done: make(chan struct{})}
	b.SetBytes(100)
	b.ReportAllocs()
	b.ResetTimer()
	end := make(chan error)
	go func() { end <- c.Run(h) }()
	<-h.done
	b.StopTimer()
	require.NoError(b, c.Close(b.Context()))
	require.NoError(b, <-end)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
}

// BenchmarkProduce appends records of 100 bytes to one partition.
func BenchmarkProduce(b *testing.B) {
	broker := newBroker(b, 1)
	p, err := broker.OpenProducer(b.Context(), producerConfig())
	require.NoError(b, err)
	m := &driver.Message{Topic: "t", Value: make([]byte, 100), Acker: testkit.AckFunc(func(error) {})}
	b.SetBytes(100)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Produce(context.Background(), m); err != nil { // require costs more than Produce
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
	require.NoError(b, p.Close(b.Context()))
}
