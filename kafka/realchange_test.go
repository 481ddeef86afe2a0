package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// A service of three processes is changed from one driver to the other, process by process,
// and back, under load. Nothing is lost, no consumer is disabled, and the first deliveries
// of each partition are in order.
func TestRealChangeOfDriver(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	for name, strategies := range map[string][]kafka.BalanceStrategy{
		"eager": nil, "cooperative": {kafka.CooperativeSticky},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, cluster, strategies)
			var members []*kafka.Manager
			for range serviceMembers {
				members = append(members, s.start(t, sarama.Driver{}))
			}
			s.await(t, members)
			stop := s.load(t)
			for _, d := range []driver.Driver{franz.Driver{}, sarama.Driver{}} {
				for i, old := range members {
					require.NoError(t, old.Shutdown(t.Context()))
					members[i] = s.start(t, d)
					s.await(t, members)
				}
			}
			stop()
			s.finished(t)
		})
	}
}

const serviceMembers, servicePartitions = 3, 6

// A service is a group of managers that consume a topic.
type service struct {
	cluster *kafkacluster.Cluster
	cfg     kafka.ConsumerConfig
	sent    [servicePartitions]int64 // offsets; the load's until it has stopped

	mu     sync.Mutex
	next   [servicePartitions]int64 // that have been handed out
	again  int                      // records handed out more than once
	broken []string
}

func newService(t *testing.T, cluster *kafkacluster.Cluster, strategies []kafka.BalanceStrategy) *service {
	t.Helper()
	topic := fmt.Sprintf("changed-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, servicePartitions, nil))
	return &service{cluster: cluster, cfg: kafka.ConsumerConfig{
		JobName: "orders", Topic: topic, ConsumerGroup: topic, BootstrapServers: cluster.Bootstrap(),
		InitialOffset: kafka.OffsetOldest, BalanceStrategies: strategies,
	}}
}

func (s *service) start(t *testing.T, d driver.Driver) *kafka.Manager {
	t.Helper()
	m := kafka.New(d, kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithHook(disablements{s}))
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(s.cfg, s.handle)))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	return m
}

func (s *service) handle(_ context.Context, m *kafka.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch next := &s.next[m.Partition]; {
	case m.Offset < *next:
		s.again++
	case m.Offset > *next:
		s.broken = append(s.broken, fmt.Sprintf("%d of partition %d is handed out, and %d has not been", m.Offset, m.Partition, *next))
		fallthrough
	default:
		*next = m.Offset + 1
	}
	return nil
}

// disablements is a hook that notes that a consumer has been disabled.
type disablements struct{ s *service }

func (disablements) Start(ctx context.Context, _ *kafka.Op) (context.Context, kafka.OpToken) {
	return ctx, nil
}
func (disablements) End(kafka.OpToken, *kafka.Op) {}
func (disablements) Attach(kafka.View) func()     { return nil }
func (d disablements) Event(e kafka.Event) {
	if c, ok := e.(kafka.StateChanged); ok && c.To == kafka.StateDisabled {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		d.s.broken = append(d.s.broken, fmt.Sprintf("disabled: %v", c))
	}
}

// await waits until the members have all partitions between them, and each has one.
func (s *service) await(t *testing.T, members []*kafka.Manager) {
	t.Helper()
	require.Eventually(t, func() bool {
		sum := 0
		for _, m := range members {
			c, err := m.Consumer("orders")
			if err != nil || len(c.Partitions) == 0 {
				return false
			}
			sum += len(c.Partitions)
		}
		return sum == servicePartitions
	}, time.Minute, 20*time.Millisecond, "the members share the partitions")
}

// load sends records to all partitions until the function that it returns is called.
func (s *service) load(t *testing.T) (stop func()) {
	t.Helper()
	client, err := s.cluster.Client(kgo.DefaultProduceTopic(s.cfg.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer client.Close()
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			for p := range s.sent {
				client.Produce(context.Background(), &kgo.Record{Partition: int32(p), Value: []byte("order")}, func(_ *kgo.Record, err error) {
					assert.NoError(t, err)
				})
				s.sent[p]++
			}
			select {
			case <-tick.C:
			case <-ending:
				tick.Stop()
				assert.NoError(t, client.Flush(context.Background()))
				return
			}
		}
	}()
	return func() {
		close(ending)
		<-ended
	}
}

// finished waits until everything is committed.
func (s *service) finished(t *testing.T) {
	t.Helper()
	sum := int64(0)
	for _, n := range s.sent {
		sum += n
	}
	require.Eventually(t, func() bool {
		offsets, err := s.cluster.CommittedOffsets(t.Context(), s.cfg.Topic)
		committed := int64(0)
		for _, o := range offsets[s.cfg.Topic] {
			committed += max(o, 0)
		}
		return err == nil && committed == sum
	}, time.Minute, 100*time.Millisecond, "everything is committed")
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, s.sent, s.next, "handed out")
	assert.Empty(t, s.broken)
	t.Logf("%d records, %d of them handed out again", sum, s.again)
}
