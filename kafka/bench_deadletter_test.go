package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// An awaiting hook closes all when so many records are dead letters.
type awaiting struct {
	kafka.NopHook
	left atomic.Int64
	all  chan struct{}
}

func (h *awaiting) Event(e kafka.Event) {
	if _, dead := e.(kafka.RecordForwarded); dead && h.left.Add(-1) == 0 {
		close(h.all)
	}
}

// BenchmarkDeadLetters is a record that its handler sends to the dead letters, from
// the handler to the acknowledgement, on one partition.
func BenchmarkDeadLetters(b *testing.B) {
	value := make([]byte, 100)
	b.Run("memory", func(b *testing.B) {
		broker := memory.NewBroker()
		check(b, broker.CreateTopic("bench", 1))
		check(b, broker.CreateTopic("bench.dlq", 1))
		for range b.N {
			check(b, broker.Send("bench", nil, value))
		}
		b.ReportMetric(deadLetterRate(b, broker, "localhost:9092", "bench", b.N), "dead-letters/s")
	})
	b.Run("kafka", func(b *testing.B) {
		cluster := kafkacluster.ForTest(b, kafkacluster.Config{})
		b.ReportMetric(realDeadLetterRate(b, cluster, b.N), "dead-letters/s")
	})
}

// deadLetterRate returns how many records per second of a topic with n records become
// dead letters.
func deadLetterRate(t testing.TB, d driver.Driver, brokers, topic string, n int) float64 {
	t.Helper()
	h := &awaiting{all: make(chan struct{})}
	h.left.Store(int64(n))
	m := newManager(t, d, kafka.WithHook(h))
	cfg := kafka.ConsumerConfig{
		JobName: "bench", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
		Failure: kafka.FailurePolicy{DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq", MaxInARow: kafka.Unlimited}},
	}
	bad := kafka.DeadLetter(errors.New("bad"))
	var began atomic.Int64
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error {
		if began.Load() == 0 {
			began.CompareAndSwap(0, time.Now().UnixNano())
		}
		return bad
	})))
	require.NoError(t, m.SetConsumerSwitch("bench", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	<-h.all
	return float64(n) / time.Since(time.Unix(0, began.Load())).Seconds()
}

// realDeadLetterRate is deadLetterRate for one partition of a real Kafka.
func realDeadLetterRate(t testing.TB, cluster *kafkacluster.Cluster, n int) float64 {
	t.Helper()
	topic := fmt.Sprintf("rate-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
	require.NoError(t, cluster.CreateTopic(t.Context(), topic+".dlq", 1, nil))
	client, err := cluster.Client(kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	defer client.Close()
	for range n {
		client.Produce(t.Context(), &kgo.Record{Value: make([]byte, 100)}, nil)
	}
	require.NoError(t, client.Flush(t.Context()))
	return deadLetterRate(t, sarama.Driver{}, cluster.Bootstrap(), topic, n)
}
