package sarama

import (
	"context"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/internal/outside"
)

// TestSilentLeaderIsLeft: the leader of a partition does not answer. A claim that asks it for
// the log waits no longer than its context lasts.
func TestSilentLeaderIsLeft(t *testing.T) {
	t.Parallel()
	cluster, gates := common.GatedBrokers(t)
	brokers, where := cluster.ListenAddrs(), partition{Topic: "t"}
	silent := (cluster.CoordinatorFor("g") + 1) % 3
	require.NoError(t, cluster.MoveTopicPartition("t", 0, silent))
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	commitAsNoMember(t, brokers, 3)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 7)
	heal := gates[silent].Stall()
	defer heal()
	for name, ask := range map[string]func(context.Context){
		"end":     func(ctx context.Context) { assert.EqualValues(t, -1, m.positions.end(ctx, where, nil)) },
		"outside": func(ctx context.Context) { assert.NoError(t, m.positions.outside(ctx, where, ibm.ErrOffsetOutOfRange)) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		ask(ctx)
		cancel()
		assert.Less(t, time.Since(began), surveyTimeout/2, name)
	}
}

// TestEndsAreAskedForOnce: positions of many partitions have metadata. Each leader is asked once
// for the ends of all its logs, and each claim has its own.
func TestEndsAreAskedForOnce(t *testing.T) {
	t.Parallel()
	const partitions = 5
	cluster := fake(t, kfake.SeedTopics(partitions, "many"))
	direct, ctx := outside.Of(cluster.ListenAddrs()...), within(t, patienceTest)
	for p := range int32(partitions) {
		seed(t, cluster.ListenAddrs(), "many", p, numbered(0, 10+int(p))...)
		require.NoError(t, direct.SetCommitted(ctx, "g", "many", p, 3, "text"))
	}
	asked := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets}, Count: -1, Observe: true,
		When: func(req kmsg.Request) bool {
			for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
				if len(topic.Partitions) == partitions {
					return true
				}
			}
			return false
		},
	})
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics = []string{"many"}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the claims", func() bool { return len(r.assigned) == partitions })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.assigned {
		assert.Equal(t, "text", c.Metadata, "metadata of %d", c.Partition)
		assert.EqualValues(t, 10+c.Partition, c.End, "end of %d", c.Partition)
	}
	assert.EqualValues(t, 1, asked.Hits(), "questions for all ends")
}
