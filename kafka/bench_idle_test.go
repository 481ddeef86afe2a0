package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

// BenchmarkIdle is a millisecond of a process whose consumers have nothing to do. It reports
// the processor time of all goroutines. Those of the broker in memory, which sends
// heartbeats, are among them.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{0, 500} {
		b.Run(fmt.Sprintf("consumers=%d", n), func(b *testing.B) {
			broker := memory.NewBroker()
			check(b, broker.CreateTopic("orders", 1))
			m := newManager(b, broker)
			for i := range n {
				name := fmt.Sprintf("idle-%d", i)
				cfg := kafka.ConsumerConfig{
					JobName: name, Topic: "orders", ConsumerGroup: name, BootstrapServers: "localhost:9092",
					Order: kafka.OrderByKey, Parallelism: 64, InitialOffset: kafka.OffsetOldest,
				}
				check(b, m.RegisterConsumer(b.Context(), kafka.NewConsumer(cfg, handleNothing)))
				check(b, m.SetConsumerSwitch(name, true))
			}
			check(b, m.StartAllConsumers(context.Background()))
			for _, s := range m.Consumers() {
				for s.State != kafka.StateRunning || len(s.Partitions) == 0 {
					time.Sleep(time.Millisecond)
					s, _ = m.Consumer(s.JobName)
				}
			}
			b.ResetTimer()
			began := testkit.CPUTime(b)
			time.Sleep(time.Duration(b.N) * time.Millisecond)
			b.StopTimer()
			b.ReportMetric(float64(testkit.CPUTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}
