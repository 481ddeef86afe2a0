package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// A1 on a real Kafka: a consumer is switched off at position 50, its topic is deleted
// and created again with 100 records, and the consumer is switched on. The broker has
// dropped the position together with the old topic. With OffsetOldest every record of
// the new topic is handled. With OffsetNewest an event reports the records that are
// passed over, and later records are handled.
func TestRealFault_A1_SwitchedOffMeanwhile(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	for _, initial := range []kafka.InitialOffset{kafka.OffsetNewest, kafka.OffsetOldest} {
		t.Run(initial.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			topic := fmt.Sprintf("off-%s-%d", initial, time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(ctx, topic, 1, nil))
			r := startRecreated(t, cluster.Bootstrap(), topic, initial)
			r.await(t, "running", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateRunning && len(s.Partitions) == 1 })
			produce(t, cluster, topic, 0, 50)
			r.await(t, "the old records", func(kafka.ConsumerStatus) bool { return r.count() == 50 })
			require.NoError(t, r.m.SetConsumerSwitch("orders", false))
			r.await(t, "off", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateOff })

			outside := outside.Of(strings.Split(cluster.Bootstrap(), ",")...)
			position := func() int64 {
				at, err := outside.Committed(ctx, topic, topic, 0)
				require.NoError(t, err)
				return at
			}
			require.Equal(t, int64(50), position())
			require.NoError(t, outside.RecreateTopic(ctx, topic, 1))
			produce(t, cluster, topic, 1000, 1100)
			for position() != -1 { // the coordinator notices the deletion after the client
				require.NoError(t, ctx.Err(), "the broker keeps the position of the old topic")
				time.Sleep(10 * time.Millisecond)
			}
			r.forget()
			require.NoError(t, r.m.SetConsumerSwitch("orders", true))
			r.await(t, "running again", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateRunning && len(s.Partitions) == 1 })
			produce(t, cluster, topic, 1100, 1110)
			from := 1000
			if initial == kafka.OffsetNewest {
				from = 1100
			}
			r.await(t, "the new records", func(kafka.ConsumerStatus) bool { return r.count() >= 1110-from })
			r.await(t, "the position", func(kafka.ConsumerStatus) bool { return position() == 110 })

			r.mu.Lock()
			defer r.mu.Unlock()
			var want []string
			for i := from; i < 1110; i++ {
				want = append(want, fmt.Sprint(i))
			}
			assert.Equal(t, want, r.handled)
			assert.Empty(t, kafka.EventsOf[kafka.DataLoss](&r.events))
			if initial == kafka.OffsetNewest {
				starts := kafka.EventsOf[kafka.NoPosition](&r.events)
				require.Len(t, starts, 1, "the start that passes over 100 records is reported once")
				assert.Equal(t, [2]int64{100, 0}, [2]int64{starts[0].Start, starts[0].Begin}, "start and beginning")
			}
		})
	}
}

// A switchable is a consumer that records what it handles and what is reported.
type switchable struct {
	m      *kafka.Manager
	events kafka.Recorder

	mu      sync.Mutex
	handled []string
}

func startRecreated(t *testing.T, brokers, topic string, initial kafka.InitialOffset) *switchable {
	t.Helper()
	r := new(switchable)
	r.m = newManager(t, realDriver(), kafka.WithHook(&r.events))
	require.NoError(t, r.m.RegisterConsumer(t.Context(), kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "orders", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers, InitialOffset: initial,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second,
	}, func(_ context.Context, m *kafka.Message) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.handled = append(r.handled, string(m.Value))
		return nil
	})))
	require.NoError(t, r.m.SetConsumerSwitch("orders", true))
	require.NoError(t, r.m.StartAllConsumers(context.Background()))
	return r
}

func (r *switchable) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.handled)
}

// forget drops what was recorded of the old topic.
func (r *switchable) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handled = nil
	r.events.Forget()
}

func (r *switchable) await(t *testing.T, what string, ok func(kafka.ConsumerStatus) bool) {
	t.Helper()
	eventually(t, r.m, what, ok)
}
