//go:build unix

package kafka_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

// An instant driver acknowledges a message as it is produced, on the sender's
// goroutine, and does nothing else: what is left is the core's own share of a send.
type instant struct{}

func (instant) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return nil, driver.ErrPermanent
}

func (instant) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return instant{}, nil
}

func (instant) Produce(_ context.Context, m *driver.Message) error {
	m.Partition, m.Offset = 0, 0
	m.Acker.Ack(nil)
	return nil
}

func (instant) Flush(context.Context) error { return nil }
func (instant) Close(context.Context) error { return nil }

// A batched producer acknowledges on a goroutine of its own, in batches of what has
// come meanwhile, as a driver with a network does.
type batched struct {
	instant
	mu      sync.Mutex
	waiting []*driver.Message
	wake    chan struct{}
	done    chan struct{}
}

// batchedDriver opens batched producers.
type batchedDriver struct{ instant }

func (batchedDriver) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	b := &batched{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go b.acknowledge()
	return b, nil
}

func (b *batched) acknowledge() {
	defer close(b.done)
	var batch []*driver.Message
	for range b.wake {
		b.mu.Lock()
		batch, b.waiting = b.waiting, batch[:0]
		b.mu.Unlock()
		for _, m := range batch {
			m.Partition, m.Offset = 0, 0
			m.Acker.Ack(nil)
		}
	}
}

func (b *batched) Produce(_ context.Context, m *driver.Message) error {
	b.mu.Lock()
	b.waiting = append(b.waiting, m)
	first := len(b.waiting) == 1
	b.mu.Unlock()
	if first {
		b.wake <- struct{}{}
	}
	return nil
}

func (b *batched) Close(context.Context) error {
	close(b.wake)
	<-b.done
	return nil
}

// BenchmarkSendCore is the core's share of a send: its time, and as cpu-ns/op the CPU
// time of all goroutines that take part.
func BenchmarkSendCore(b *testing.B) {
	value := make([]byte, 100)
	// Callbacks may lag by window messages, as they do behind a driver's buffer.
	const window = 1000
	async := func(send func(p *kafka.Producer, callback func(*kafka.ProducerMessage, error))) func(*testing.B, *kafka.Producer) {
		return func(b *testing.B, p *kafka.Producer) {
			caughtUp := make(chan struct{})
			n := 0
			callback := func(_ *kafka.ProducerMessage, err error) {
				if err != nil {
					b.Error(err)
				}
				if n++; n%window == 0 {
					caughtUp <- struct{}{}
				}
			}
			for i := range b.N {
				send(p, callback)
				if (i+1)%window == 0 {
					<-caughtUp
				}
			}
		}
	}
	m := &kafka.ProducerMessage{Topic: "bench", Value: value}
	for _, bench := range []struct {
		name string
		send func(*testing.B, *kafka.Producer)
	}{
		{"sync", func(b *testing.B, p *kafka.Producer) {
			for range b.N {
				if err := p.Send(b.Context(), "bench", nil, value); err != nil {
					b.Fatal(err)
				}
			}
		}},
		{"async", async(func(p *kafka.Producer, callback func(*kafka.ProducerMessage, error)) {
			p.SendAsync(b.Context(), "bench", nil, value, callback)
		})},
		{"async without a callback", func(b *testing.B, p *kafka.Producer) {
			for range b.N {
				p.SendAsync(b.Context(), "bench", nil, value, nil)
			}
		}},
		{"async one by one", func(b *testing.B, p *kafka.Producer) {
			answered := make(chan struct{})
			callback := func(*kafka.ProducerMessage, error) { answered <- struct{}{} }
			for range b.N {
				p.SendAsync(b.Context(), "bench", nil, value, callback)
				<-answered
			}
		}},
		{"message async", async(func(p *kafka.Producer, callback func(*kafka.ProducerMessage, error)) {
			p.SendMessageAsync(b.Context(), m, callback)
		})},
	} {
		for _, d := range []struct {
			name string
			driver.Driver
		}{{"instant", instant{}}, {"batched", batchedDriver{}}} {
			b.Run(d.name+"/"+bench.name, func(b *testing.B) {
				p, err := newManager(b, d.Driver).RegisterProducer(b.Context(), kafka.ProducerConfig{
					BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
				require.NoError(b, err)
				b.ReportAllocs()
				b.ResetTimer()
				before := testkit.CPUTime(b)
				bench.send(b, p)
				require.NoError(b, p.Close())
				b.ReportMetric(float64(testkit.CPUTime(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
