package kafka_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

type counter struct {
	cfg  kafka.ConsumerConfig
	want int64
	n    atomic.Int64
	all  chan struct{}
}

func (c *counter) GetConfig() *kafka.ConsumerConfig { return &c.cfg }

func (c *counter) Handle(context.Context, []byte) error {
	if c.n.Add(1) == c.want {
		close(c.all)
	}
	return nil
}

type messageCounter struct{ *counter }

func (c messageCounter) HandleMessage(ctx context.Context, m *kafka.Message) error {
	return c.Handle(ctx, m.Value)
}

type batchCounter struct{ *counter }

func (c batchCounter) HandleBatch(_ context.Context, ms []*kafka.Message) error {
	if c.n.Add(int64(len(ms))) == c.want {
		close(c.all)
	}
	return nil
}

func consumerConfig() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          "bench",
		Topic:            "bench",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "bench",
		InitialOffset:    kafka.OffsetOldest,
	}
}

// BenchmarkConsume is the way of a record from the log of the memory broker to
// a trivial handler and to its commit: 100-byte values in one partition.
func BenchmarkConsume(b *testing.B) {
	for _, kind := range handlerKinds {
		b.Run(kind.name, func(b *testing.B) {
			broker := memory.NewBroker()
			check(b, broker.CreateTopic("bench", 1))
			value := make([]byte, 100)
			for range b.N {
				check(b, broker.Send("bench", nil, value))
			}
			m := newManager(b, broker)
			n := &counter{cfg: consumerConfig(), want: int64(b.N), all: make(chan struct{})}
			check(b, m.RegisterConsumer(b.Context(), kind.of(n)))
			check(b, m.SetConsumerSwitch("bench", true))
			b.ReportAllocs()
			b.ResetTimer()
			check(b, m.StartAllConsumers(context.Background()))
			<-n.all
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkSend is a sync send, alone and by many goroutines, and an async one.
func BenchmarkSend(b *testing.B) {
	producer := func(b *testing.B) *kafka.Producer {
		broker := memory.NewBroker()
		check(b, broker.CreateTopic("bench", 1))
		p, err := newManager(b, broker).RegisterProducer(b.Context(), kafka.ProducerConfig{
			BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
		check(b, err)
		b.ReportAllocs()
		b.ResetTimer()
		return p
	}
	value := make([]byte, 100)
	b.Run("sync", func(b *testing.B) {
		p := producer(b)
		for range b.N {
			check(b, p.Send(b.Context(), "bench", nil, value))
		}
	})
	b.Run("sync-parallel", func(b *testing.B) {
		p := producer(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				check(b, p.Send(b.Context(), "bench", nil, value))
			}
		})
	})
	b.Run("async", func(b *testing.B) {
		p := producer(b)
		for range b.N {
			p.SendAsync(b.Context(), "bench", nil, value, func(_ *kafka.ProducerMessage, err error) { check(b, err) })
		}
		check(b, p.Close())
	})
}

// BenchmarkSwitchOff is the time from the switch to the group left, with
// nothing to handle.
func BenchmarkSwitchOff(b *testing.B) {
	broker := memory.NewBroker()
	check(b, broker.CreateTopic("bench", 8))
	m := newManager(b, broker)
	check(b, m.RegisterConsumer(b.Context(), &counter{cfg: consumerConfig()}))
	check(b, m.StartAllConsumers(context.Background()))
	await := func(s kafka.State) {
		for {
			got, err := m.Consumer("bench")
			check(b, err)
			if got.State == s {
				return
			}
			time.Sleep(time.Microsecond)
		}
	}
	var off time.Duration
	for range b.N {
		check(b, m.SetConsumerSwitch("bench", true))
		await(kafka.StateRunning)
		began := time.Now()
		check(b, m.SetConsumerSwitch("bench", false))
		await(kafka.StateOff)
		off += time.Since(began)
	}
	b.ReportMetric(float64(off.Nanoseconds())/float64(b.N), "ns/off")
}

// check is require.NoError without its cost: a benchmark calls it for each record.
func check(b *testing.B, err error) {
	if err != nil {
		b.Helper()
		b.Fatal(err)
	}
}
