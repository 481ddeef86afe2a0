package kafka_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// pauseFor is longer than the session of a member, and than an end of a log may be old.
var pauseFor = flag.Duration("pausefor", 25*time.Second, "how long TestRealPause pauses a consumer")

// youngEnd is how old the end of a log may be in a status here. A driver asks for it every
// five seconds if it is older than eight; its contract has half a minute.
const youngEnd = 20 * time.Second

// TestRealPause pauses one of two members under load. There is no rebalance meanwhile,
// nothing is handed out, and the lag is true; after that all is handed out in order. 25
// seconds prove it, since an end of a log that froze at the pause would be too old after 20,
// and a member that sent no heartbeats would be gone after 6. For a minute:
//
//	go test ./kafka -run TestRealPause -args -pausefor 1m
func TestRealPause(t *testing.T) {
	require.Greater(t, *pauseFor, youngEnd, "-pausefor")
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	const partitions = 4
	topic := fmt.Sprintf("paused-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, partitions, nil))
	paused, other := newPausable(t, cluster, topic), newPausable(t, cluster, topic)
	for _, c := range []*pausable{paused, other} {
		eventually(t, c.Manager, "two partitions each", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateRunning && len(s.Partitions) == 2 })
	}
	load := newLoad(t, cluster, topic, partitions)
	for _, c := range []*pausable{paused, other} {
		eventually(t, c.Manager, "records are handled", func(kafka.ConsumerStatus) bool { return c.begun.Load() > 200 })
	}
	admin := outside.Of(strings.Split(cluster.Bootstrap(), ",")...)
	group, err := admin.Membership(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, "Stable", group.State)
	require.Len(t, group.Members, 2)
	before, err := paused.Consumer("orders")
	require.NoError(t, err)
	for _, c := range []*pausable{paused, other} {
		t.Cleanup(c.Subscribe(c.rebalanced))
	}

	require.NoError(t, paused.Pause("orders"))
	began, begun := time.Now(), paused.begun.Load()
	sent := []sent{load.sent()}
	for tick := 0; time.Since(began) < *pauseFor; tick++ {
		time.Sleep(time.Second)
		sent = append(sent, load.sent())
		paused.isPaused(t, before, sent, load)
		if tick%5 == 0 {
			low := load.sent()
			all, err := paused.Lag(t.Context(), "orders")
			require.NoError(t, err)
			require.Len(t, all, partitions)
			for i, l := range all {
				require.NoError(t, l.Err)
				require.Equal(t, l.End-l.Committed, l.Lag)
				require.GreaterOrEqual(t, l.End, low.acked[i], "end of %d", i)
				require.LessOrEqual(t, l.End, load.sent().begun[i], "end of %d", i)
			}
		}
		if tick%10 == 0 {
			now, err := admin.Membership(t.Context(), topic)
			require.NoError(t, err)
			require.Equal(t, group, now)
		}
	}
	end := load.stop(t)
	eventually(t, paused.Manager, "the lag is what was sent", func(s kafka.ConsumerStatus) bool {
		for _, p := range s.Partitions {
			if p.HighWatermark != end[p.Partition] || p.Lag != end[p.Partition]-p.Position || p.Committed != p.Position {
				return false
			}
		}
		return len(s.Partitions) == 2
	})
	exact := time.Since(began) - *pauseFor
	eventually(t, other.Manager, "the other member goes on", isCommitted(end))
	all, err := paused.Lag(t.Context(), "orders")
	require.NoError(t, err)
	s, err := paused.Consumer("orders")
	require.NoError(t, err)
	lag := int64(0)
	for _, p := range s.Partitions {
		lag += p.Lag
		require.Equal(t, kafka.PartitionLag{Topic: topic, Partition: p.Partition, Committed: p.Position, Start: p.Position, End: end[p.Partition], Lag: p.Lag}, all[p.Partition])
	}
	require.Greater(t, lag, int64(1000), "there is load")
	require.LessOrEqual(t, paused.begun.Load()-begun, int64(2), "calls that have begun since the pause: one may have been on its way per partition")
	handed := paused.begun.Load()

	now, err := admin.Membership(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, group, now)
	require.NoError(t, paused.Resume("orders"))
	eventually(t, paused.Manager, "all is handled", isCommitted(end))
	now, err = admin.Membership(t.Context(), topic)
	require.NoError(t, err)
	require.Equal(t, group, now)
	require.Equal(t, lag, paused.begun.Load()-handed, "calls after the pause")
	for _, c := range []*pausable{paused, other} {
		c.mu.Lock()
		require.Empty(t, c.rebalances)
		for p, next := range c.next {
			require.Equal(t, end[p], next, "what was handled in order of %d", p)
		}
		require.Len(t, c.next, 2)
		c.mu.Unlock()
	}
	t.Logf("paused for %v: %d records waited, the status was exact %v after the last one, generation %d", *pauseFor, lag, exact.Round(time.Second), group.Generation)
}

// isCommitted reports whether all partitions of a member are handled and committed.
func isCommitted(end []int64) func(kafka.ConsumerStatus) bool {
	return func(s kafka.ConsumerStatus) bool {
		for _, p := range s.Partitions {
			if p.Committed != end[p.Partition] {
				return false
			}
		}
		return len(s.Partitions) == 2
	}
}

// A pausable is a member that asserts that each partition is handled in order, once.
type pausable struct {
	*kafka.Manager
	begun atomic.Int64 // calls

	mu         sync.Mutex
	next       map[int32]int64 // by partition, the offset that comes next
	rebalances []kafka.Event
}

func newPausable(t *testing.T, cluster *kafkacluster.Cluster, topic string) *pausable {
	c := &pausable{Manager: newManager(t, realDriver()), next: map[int32]int64{}}
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: topic, ConsumerGroup: topic, BootstrapServers: cluster.Bootstrap(),
		InitialOffset: kafka.OffsetOldest, SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second,
	}
	require.NoError(t, c.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
		c.begun.Add(1)
		c.mu.Lock()
		defer c.mu.Unlock()
		assert.Equal(t, c.next[m.Partition], m.Offset, "the next record of partition %d", m.Partition)
		c.next[m.Partition] = m.Offset + 1
		return nil
	})))
	require.NoError(t, c.SetConsumerSwitch("orders", true))
	require.NoError(t, c.StartAllConsumers(context.Background()))
	return c
}

// rebalanced notes the events of a rebalance.
func (c *pausable) rebalanced(e kafka.Event) {
	switch e.(type) {
	case kafka.PartitionsAssigned, kafka.PartitionsRevoked, kafka.PartitionsLost, kafka.StateChanged:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rebalances = append(c.rebalances, e)
	}
}

// isPaused asserts that the status is that of a paused member whose lag is young.
func (c *pausable) isPaused(t *testing.T, before kafka.ConsumerStatus, history []sent, load *load) {
	t.Helper()
	s, err := c.Consumer("orders")
	require.NoError(t, err)
	require.Equal(t, kafka.StateRunning, s.State)
	require.True(t, s.Paused)
	require.Len(t, s.Partitions, 2)
	most := load.sent().begun
	for i, p := range s.Partitions {
		require.Equal(t, before.Partitions[i].Partition, p.Partition)
		require.Contains(t, p.PausedBy, kafka.PausedByOperator)
		require.Equal(t, p.HighWatermark-p.Position, p.Lag)
		require.LessOrEqual(t, p.HighWatermark, most[p.Partition])
		for _, then := range history {
			if time.Since(then.at) > youngEnd {
				require.GreaterOrEqual(t, p.HighWatermark, then.acked[p.Partition], "the end of %d is older than %v", p.Partition, youngEnd)
			}
		}
	}
}

// A load sends to all partitions until it is stopped.
type load struct {
	client       *kgo.Client
	begun, acked []atomic.Int64
	quit         func()
	running      sync.WaitGroup
}

// sent is how much of a load has been sent by a time, by partition.
type sent struct {
	at           time.Time
	begun, acked []int64
}

func newLoad(t *testing.T, cluster *kafkacluster.Cluster, topic string, partitions int) *load {
	client, err := cluster.Client(kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	quit := make(chan struct{})
	l := &load{client: client, begun: make([]atomic.Int64, partitions), acked: make([]atomic.Int64, partitions), quit: sync.OnceFunc(func() { close(quit) })}
	t.Cleanup(func() {
		l.quit()
		l.running.Wait()
		assert.NoError(t, client.Flush(context.Background()))
	})
	l.running.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for i := range 4 * partitions {
				p := i % partitions
				l.begun[p].Add(1)
				client.Produce(context.Background(), &kgo.Record{Partition: int32(p), Value: make([]byte, 100)}, func(r *kgo.Record, err error) {
					assert.NoError(t, err)
					l.acked[p].Store(r.Offset + 1)
				})
			}
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	})
	return l
}

func (l *load) sent() sent {
	s := sent{at: time.Now()}
	for p := range l.acked {
		s.acked = append(s.acked, l.acked[p].Load()) // in this order, so that acked is no more than begun
		s.begun = append(s.begun, l.begun[p].Load())
	}
	return s
}

// stop ends the load and returns the ends of the partitions.
func (l *load) stop(t *testing.T) []int64 {
	t.Helper()
	l.quit()
	l.running.Wait()
	require.NoError(t, l.client.Flush(t.Context()))
	s := l.sent()
	require.Equal(t, s.begun, s.acked)
	return s.acked
}
