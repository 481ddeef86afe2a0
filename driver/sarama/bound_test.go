package sarama

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// E3: a partition of large records whose handler is slow keeps in memory what
// MaxBufferedBytes says, one fetch on top, and what Sarama holds of the answer that
// was under way. What compresses well counts as it is after decompression, of which
// one fetch brings at most eight times MaxMessageBytes.
func TestRealFault_E3_APartitionHoldsItsBoundAndOneFetch(t *testing.T) {
	cluster := shared.ForTest(t)
	const size, records = 900_000, 100
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, c := range []struct {
		name        string
		value       []byte
		compression kafka.Compression
		most        int
	}{
		{"records as they are", noise, kafka.CompressionNone, 10 << 20},
		{"records that compress well", bytes.Repeat([]byte("0123456789"), size/10), kafka.CompressionZSTD, 24 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			topic := fmt.Sprintf("large-%d", time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
			m := kafka.New(Driver{}, kafka.WithLogger(slog.New(slog.DiscardHandler)))
			defer func() { assert.NoError(t, m.Shutdown(context.WithoutCancel(t.Context()))) }()
			brokers := cluster.Bootstrap()
			p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: brokers, Compression: c.compression})
			require.NoError(t, err)
			for range records {
				require.NoError(t, p.Send(t.Context(), topic, nil, c.value))
			}
			before := liveHeap()
			release := make(chan struct{})
			var handled atomic.Int32
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(kafka.ConsumerConfig{
				JobName: "large", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
			}, func(ctx context.Context, _ *kafka.Message) error {
				select {
				case <-release:
				case <-ctx.Done():
				case <-time.After(25 * time.Millisecond): // a fetch is faster
				}
				handled.Add(1)
				return ctx.Err()
			})))
			require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
			require.NoError(t, m.SetConsumerSwitch("large", true))
			peak, buffered := 0, 0
			for ctx := within(t, patienceTest); handled.Load() < records*8/10; time.Sleep(10 * time.Millisecond) {
				require.NoError(t, ctx.Err(), "%d records were handled", handled.Load())
				peak = max(peak, liveHeap()-before)
				status, err := m.Consumer("large")
				require.NoError(t, err)
				for _, part := range status.Partitions {
					buffered = max(buffered, part.BufferedBytes)
				}
			}
			close(release)
			t.Logf("%s: %.1f MiB of heap more at most, %.1f MiB in the queue", c.name, float64(peak)/(1<<20), float64(buffered)/(1<<20))
			assert.Less(t, peak, c.most, "bytes of heap")
			assert.Greater(t, buffered, 3<<20, "the queue was never full: nothing was tested")
		})
	}
}

// liveHeap returns the bytes of reachable objects.
func liveHeap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
