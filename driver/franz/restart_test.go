package franz

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestRestartWaitsForNoOtherPartition: a topic was created again. One of its partitions has no
// leader yet, or one broker does not know the new topic yet. The claims of other partitions
// begin, and stay.
func TestRestartWaitsForNoOtherPartition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		trouble func(t *testing.T, cluster *kfake.Cluster) (end func())
		code    string
		waits   []int32 // the partitions that begin later
	}{
		{"a partition without a leader", func(_ *testing.T, cluster *kfake.Cluster) func() {
			return cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "re", Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: -1,
			}).Remove
		}, "LEADER_NOT_AVAILABLE", []int32{1}},
		{"a broker that is behind", func(t *testing.T, cluster *kfake.Cluster) func() {
			return holdBack(t, cluster, (cluster.CoordinatorFor("g")+1)%3)
		}, "INCONSISTENT_TOPIC_ID", []int32{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "re"))
			direct := outside.Of(cluster.ListenAddrs()...)
			ctx := within(t, 4*patienceTest)
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics = []string{"re", "t"}
			r := newRecorder()
			m := start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 3 })

			end := c.trouble(t, cluster)
			deleteTopic(ctx, t, direct, "re")
			makeAgain(ctx, t, direct, "re", 2)
			has := func(topic string, id int32) bool {
				for c := range r.live {
					if c.Topic == topic && c.Partition == id {
						return c.Backend.(*claim).era == m.topics.known.Era(topic)
					}
				}
				return false
			}
			r.wait(t, "reports", func() bool { return len(r.waiting(c.code)) == len(c.waits) })
			r.wait(t, "the claims of the others", func() bool {
				return has("t", 0) && len(r.live) == 3-len(c.waits)
			})
			r.mu.Lock()
			assert.ElementsMatch(t, c.waits, r.waiting(c.code))
			ended := len(r.revoked) + len(r.lost)
			r.mu.Unlock()
			end()
			r.wait(t, "all claims", func() bool { return has("t", 0) && has("re", 0) && has("re", 1) })
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, ended, len(r.revoked)+len(r.lost), "claims that ended")
			for _, gap := range r.gaps() {
				assert.Equal(t, driver.DataLossError{
					Topic: "re", Partition: gap.Partition, From: gap.From, Begin: gap.Begin, End: gap.End, Recreated: true,
				}, gap)
			}
			assert.Len(t, r.gaps(), 2)
		})
	}
}

// waiting returns the partitions of the topic "re" that have been reported with a code; the
// mutex must be held.
func (r *recorder) waiting(code string) (ids []int32) {
	for _, p := range r.troubles() {
		if p.Topic == "re" && p.Partition >= 0 && testkit.Code(p) == code && !slices.Contains(ids, p.Partition) {
			ids = append(ids, p.Partition)
		}
	}
	return ids
}

// holdBack makes a broker answer as if nothing has changed, until end is called.
func holdBack(t *testing.T, cluster *kfake.Cluster, node int32) (end func()) {
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	old, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), client)
	require.NoError(t, err)
	var over atomic.Bool
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if over.Load() {
			return nil, nil, false
		}
		cluster.KeepControl()
		if cluster.CurrentNode() != node {
			return nil, nil, false
		}
		answer := *old
		answer.Version = req.GetVersion()
		return &answer, nil, true
	})
	return func() { over.Store(true) }
}

// makeAgain creates a topic again while some brokers do not answer truly: CreateTopic waits
// for all of them.
func makeAgain(ctx context.Context, t *testing.T, cluster outside.Client, topic string, partitions int32) {
	t.Helper()
	for made := false; !made; {
		creating, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		err := cluster.CreateTopic(creating, topic, partitions)
		made = err == nil || errors.Is(err, kerr.TopicAlreadyExists)
		cancel()
		require.NoError(t, ctx.Err())
	}
}
