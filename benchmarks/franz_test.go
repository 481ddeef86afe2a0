package benchmarks

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeFranz reads with franz-go alone. It fetches as the driver does.
func consumeFranz(b *testing.B, addr string) {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumerGroup("bench"), kgo.ConsumeTopics(topic),
		kgo.Balancers(kgo.RoundRobinBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(1<<20))
	require.NoError(b, err)
	m := newMeter(b)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	measure(b, func() {
		go func() {
			defer close(ended)
			for ctx.Err() == nil {
				c.PollFetches(ctx).EachRecord(func(*kgo.Record) { m.add() })
			}
		}()
		<-m.all
	})
	cancel()
	<-ended
	c.Close()
}

func newFranzProducer(b *testing.B, addr string) *kgo.Client {
	b.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(b, err)
	return c
}

func produceFranz(b *testing.B, addr string) {
	c := newFranzProducer(b, addr)
	answered := func(_ *kgo.Record, err error) {
		if err != nil { // measured: assert costs time in each call
			assert.NoError(b, err)
		}
	}
	measure(b, func() {
		for range b.N {
			c.Produce(b.Context(), &kgo.Record{Topic: topic, Value: value}, answered)
		}
		require.NoError(b, c.Flush(b.Context()))
	})
	c.Close()
}

func produceFranzSync(b *testing.B, addr string, senders int) {
	c := newFranzProducer(b, addr)
	measure(b, func() {
		share(b, senders, func() error {
			return c.ProduceSync(b.Context(), &kgo.Record{Topic: topic, Value: value}).FirstErr()
		})
	})
	c.Close()
}
