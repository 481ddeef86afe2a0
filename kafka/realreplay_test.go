package kafka_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// TestRealReplay moves a group on a real Kafka: as a whole, one of three members under load,
// and a consumer to each kind of position. The records that come again are exactly those that
// were asked for, each once and in order.
func TestRealReplay(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	t.Run("group", func(t *testing.T) { realReplayOfGroup(t, cluster, kafka.ClassicProtocol) })
	t.Run("group of the consumer protocol", func(t *testing.T) {
		if _, fast := realDriver().(franz.Driver); !fast {
			t.Skipf("%T has no ConsumerProtocol", realDriver())
		}
		if version := os.Getenv("KAFKA_VERSION"); strings.HasPrefix(version, "3.") {
			t.Skipf("Kafka %s lacks the ConsumerProtocol", version)
		}
		realReplayOfGroup(t, cluster, kafka.ConsumerProtocol)
	})
	t.Run("one member", func(t *testing.T) { realReplayOfOneMember(t, cluster) })
	t.Run("positions", func(t *testing.T) { realReplayPositions(t, cluster) })
}

// A replay is a group, and what its members have handled since the last look.
type replay struct {
	cluster *kafkacluster.Cluster
	admin   outside.Client
	cfg     kafka.ConsumerConfig
	offsets
	partitions int
	members    []*kafka.Manager
}

// newReplay starts members of a group, and waits until they share the partitions.
func newReplay(t *testing.T, cluster *kafkacluster.Cluster, protocol kafka.GroupProtocol, partitions, members int) *replay {
	t.Helper()
	topic := fmt.Sprintf("replayed-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, partitions, nil))
	r := &replay{cluster: cluster, admin: outside.Of(strings.Split(cluster.Bootstrap(), ",")...), cfg: kafka.ConsumerConfig{
		JobName: "orders", Topic: topic, ConsumerGroup: topic, BootstrapServers: cluster.Bootstrap(),
		InitialOffset: kafka.OffsetOldest, GroupProtocol: protocol, CommitInterval: 200 * time.Millisecond,
	}}
	for range members {
		m := newManager(t, realDriver())
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(r.cfg, r.handle)))
		require.NoError(t, m.StartAllConsumers(context.Background()))
		r.members = append(r.members, m)
	}
	r.partitions = partitions
	r.switchOn(t)
	return r
}

// switchOn switches on all members, and waits until each has its share of the partitions.
func (r *replay) switchOn(t *testing.T) {
	t.Helper()
	for _, m := range r.members {
		require.NoError(t, m.SetConsumerSwitch("orders", true))
	}
	r.awaitShares(t)
}

// awaitShares waits until each member has its share of the partitions.
func (r *replay) awaitShares(t *testing.T) {
	t.Helper()
	for _, m := range r.members {
		eventually(t, m, "a share of the partitions", func(s kafka.ConsumerStatus) bool {
			return s.State == kafka.StateRunning && len(s.Partitions) == r.partitions/len(r.members)
		})
	}
}

func (r *replay) switchOff(t *testing.T, members ...*kafka.Manager) {
	t.Helper()
	for _, m := range members {
		require.NoError(t, m.SetConsumerSwitch("orders", false))
	}
	for _, m := range members {
		eventually(t, m, "off", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateOff })
	}
}

// send sends n records to each partition by a client that is not ours, with the timestamps
// that at says, if it is not nil.
func (r *replay) send(t *testing.T, n int, at func(partition, i int) time.Time) {
	t.Helper()
	client, err := r.cluster.Client(kgo.DefaultProduceTopic(r.cfg.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	for i := range n {
		for p := range r.partitions {
			record := &kgo.Record{Partition: int32(p), Value: []byte("order")}
			if at != nil {
				record.Timestamp = at(p, i)
			}
			client.Produce(context.Background(), record, func(_ *kgo.Record, err error) { assert.NoError(t, err) })
		}
	}
	require.NoError(t, client.Flush(t.Context()))
}

// committed returns where the group is, by partition.
func (r *replay) committed(t *testing.T) map[int32]int64 {
	t.Helper()
	all, err := r.cluster.CommittedOffsets(t.Context(), r.cfg.ConsumerGroup)
	require.NoError(t, err)
	return all[r.cfg.Topic]
}

// await waits until the group is at the ends of the logs, and at least n records of each
// partition have been handled.
func (r *replay) await(t *testing.T, ends map[int32]int64, n map[int32]int) {
	t.Helper()
	arrived := func() bool {
		for p, end := range ends {
			if r.count(p) < n[p] || r.committed(t)[p] != end {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(time.Minute); !arrived(); time.Sleep(50 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not within a minute: committed %v, of %v", r.committed(t), ends)
	}
}

// awaitHandled waits until exactly these records have been handled, in this order per
// partition, and the group is at the ends of the logs.
func (r *replay) awaitHandled(t *testing.T, ends map[int32]int64, want map[int32][]int64) {
	t.Helper()
	n := map[int32]int{}
	for p := range ends {
		n[p] = len(want[p])
	}
	r.await(t, ends, n)
	for p := range ends {
		assert.Equal(t, want[p], r.take(p), "partition %d", p)
	}
}

// A group whose members are all switched off is moved to a time by one of them. When all are
// switched on again, each record of that time or a later one comes once more. While one member
// is on, the brokers refuse to move the group.
func realReplayOfGroup(t *testing.T, cluster *kafkacluster.Cluster, protocol kafka.GroupProtocol) {
	const records = 100
	from := []int64{0, 1, 37, 50, 99, records} // the first record at or after the time
	partitions := len(from)
	r := newReplay(t, cluster, protocol, partitions, 3)
	fixed := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	r.send(t, records, func(p, i int) time.Time { // the record before from is 1 ms earlier
		return fixed.Add(time.Duration(int64(i)-from[p]) * time.Millisecond)
	})
	ends, moved, all, again := map[int32]int64{}, map[int32]int64{}, map[int32][]int64{}, map[int32][]int64{}
	for p := range int32(partitions) {
		ends[p], moved[p] = records, from[p]
		all[p], again[p] = span(0, records), span(from[p], records)
	}
	r.awaitHandled(t, ends, all)

	seek := func() error {
		return r.members[0].Seek(t.Context(), "orders", kafka.AtTime(fixed.Add(-400*time.Microsecond))) // rounded up
	}
	r.switchOff(t, r.members[:2]...)
	require.ErrorIs(t, seek(), kafka.ErrGroupHasMembers)
	require.Equal(t, ends, r.committed(t))
	r.switchOff(t, r.members[2])
	require.Equal(t, ends, r.committed(t))
	for p := range ends {
		require.Empty(t, r.take(p), "a seek that was refused moves nothing")
	}
	require.NoError(t, seek())
	require.Equal(t, moved, r.committed(t))
	r.switchOn(t)
	r.awaitHandled(t, ends, again)
}

// One of three members is moved to a time, under load. The records of its partitions come once
// more from there, those of the others do not, and the group is stable after that.
func realReplayOfOneMember(t *testing.T, cluster *kafkacluster.Cluster) {
	const partitions = 6
	r := newReplay(t, cluster, kafka.ClassicProtocol, partitions, 3)
	load := newLoad(t, cluster, r.cfg.Topic, partitions)
	handled := func(atLeast int) {
		t.Helper()
		require.Eventually(t, func() bool {
			for p := range int32(partitions) {
				if r.count(p) < atLeast {
					return false
				}
			}
			return true
		}, time.Minute, 5*time.Millisecond, "%d records of each partition are handled", atLeast)
	}
	handled(100)
	fixed := time.Now()
	handled(300)
	before, err := r.admin.Membership(t.Context(), r.cfg.ConsumerGroup)
	require.NoError(t, err)

	var mu sync.Mutex
	var events []kafka.PositionsMoved
	member := r.members[1]
	t.Cleanup(member.Subscribe(func(e kafka.Event) {
		if moved, ok := e.(kafka.PositionsMoved); ok {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, moved)
		}
	}))
	status, err := member.Consumer("orders")
	require.NoError(t, err)
	require.NoError(t, member.Seek(t.Context(), "orders", kafka.AtTime(fixed)))
	most := 0
	for p := range int32(partitions) {
		most = max(most, r.count(p))
	}
	handled(most + 100)
	r.awaitShares(t)
	group, err := r.admin.Membership(t.Context(), r.cfg.ConsumerGroup)
	require.NoError(t, err)
	require.Equal(t, "Stable", group.State)
	require.Len(t, group.Members, 3)
	if _, fast := realDriver().(franz.Driver); fast {
		require.Equal(t, before, group, "it seeks without a rejoin")
	}
	time.Sleep(time.Second) // of load
	ends, least := map[int32]int64{}, map[int32]int{}
	for p, end := range load.stop(t) {
		ends[int32(p)], least[int32(p)] = end, int(end)
	}
	r.await(t, ends, least)
	after, err := r.admin.Membership(t.Context(), r.cfg.ConsumerGroup)
	require.NoError(t, err)
	require.Equal(t, group, after)

	mu.Lock()
	defer mu.Unlock()
	require.Len(t, events, 1)
	to := map[int32]int64{}
	for i, p := range events[0].Partitions {
		assert.Equal(t, status.Partitions[i].Partition, p.Partition, "it is moved in what it owns")
		to[p.Partition] = p.Offset
	}
	require.Len(t, to, 2)
	again := int64(0)
	for p, end := range ends {
		seen := r.take(p)
		target, moved := to[p]
		if !moved {
			assert.Equal(t, span(0, end), seen, "partition %d of another member", p)
			continue
		}
		assert.Equal(t, r.firstAt(t, p, fixed), target, "partition %d", p)
		until := int64(len(seen)) - (end - target) // where the records that came once more end
		require.Greater(t, until, target, "partition %d has been handled beyond the target", p)
		assert.Equal(t, append(span(0, until), span(target, end)...), seen, "partition %d", p)
		again += until - target
	}
	t.Logf("%d records came once more; generation %d, then %d", again, before.Generation, after.Generation)
}

// firstAt returns the offset of the first record with that time or a later one.
func (r *replay) firstAt(t *testing.T, partition int32, at time.Time) int64 {
	t.Helper()
	records, err := r.admin.Read(t.Context(), r.cfg.Topic, partition)
	require.NoError(t, err)
	for _, record := range records {
		if !record.Timestamp.Before(at) {
			return record.Offset
		}
	}
	return int64(len(records))
}

// A running consumer is moved to each kind of position.
func realReplayPositions(t *testing.T, cluster *kafkacluster.Cluster) {
	r := newReplay(t, cluster, kafka.ClassicProtocol, 2, 1)
	m := r.members[0]
	one := kafka.TopicPartition{Topic: r.cfg.Topic, Partition: 0}
	ends := map[int32]int64{}
	send := func(n int64) {
		t.Helper()
		r.send(t, int(n), nil)
		ends[0] += n
		ends[1] += n
	}
	send(20)
	r.awaitHandled(t, ends, map[int32][]int64{0: span(0, 20), 1: span(0, 20)})
	require.NoError(t, r.admin.Truncate(t.Context(), r.cfg.Topic, 0, 5))

	seek := func(to kafka.Position, ps ...kafka.TopicPartition) {
		t.Helper()
		r.awaitShares(t) // of the seek before: a member that joins again owns nothing for a moment
		require.NoError(t, m.Seek(t.Context(), "orders", to, ps...))
	}
	for _, outside := range []int64{4, 21} {
		err := m.Seek(t.Context(), "orders", kafka.AtOffset(outside), one)
		wantCode(t, err, "OFFSET_OUT_OF_RANGE")
		require.ErrorContains(t, err, fmt.Sprintf("the log of %v begins at 5 and ends at 20", one))
		require.Equal(t, ends, r.committed(t))
	}
	seek(kafka.AtOffset(15), one)
	r.awaitHandled(t, ends, map[int32][]int64{0: span(15, 20)})
	seek(kafka.AtBeginning())
	r.awaitHandled(t, ends, map[int32][]int64{0: span(5, 20), 1: span(0, 20)})
	seek(kafka.AtOffset(20), one) // the end is a position

	require.NoError(t, m.Pause("orders"))
	send(5)
	seek(kafka.AtEnd())
	require.Equal(t, ends, r.committed(t))
	require.NoError(t, m.Resume("orders"))
	send(2)
	r.awaitHandled(t, ends, map[int32][]int64{0: span(25, 27), 1: span(25, 27)})
}
