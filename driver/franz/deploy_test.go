package franz

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
)

const fleet = 8

// A fleet of static members is restarted one after the other, as a deployment
// does. Each gets back its partition, and the others notice nothing.
func TestRollingDeploy(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(fleet, "fleet"))
	rollingDeploy(t, cluster.ListenAddrs(), "fleet")
}

func TestRealRollingDeploy(t *testing.T) {
	t.Parallel()
	cluster := shared.ForTest(t)
	topic := fmt.Sprintf("fleet-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, fleet, nil))
	rollingDeploy(t, strings.Split(cluster.Bootstrap(), ","), topic)
}

func rollingDeploy(t *testing.T, brokers []string, topic string) {
	member := func(i int) (*running, *recorder) {
		cfg := consumerConfig(brokers)
		cfg.Group, cfg.Topics, cfg.InstanceID = topic, []string{topic}, fmt.Sprintf("pod-%d", i)
		cfg.SessionTimeout = patienceTest
		r := newRecorder()
		return start(t, Driver{}, cfg, r), r
	}
	members, recorders := make([]*running, fleet), make([]*recorder, fleet)
	for i := range fleet {
		members[i], recorders[i] = member(i)
	}
	had := onePartitionEach(t, recorders)
	joins := make([]int, fleet)
	for i, r := range recorders {
		r.mu.Lock()
		joins[i] = r.joins
		r.mu.Unlock()
	}
	for i := range fleet {
		members[i].stop(t)
		members[i], recorders[i] = member(i)
		r := recorders[i]
		r.wait(t, "its partition again", func() bool { return len(r.live) == 1 })
		assert.NotNil(t, r.claim(had[i]), "member %d had partition %d and came back to another", i, had[i])
		joins[i] = 1
	}
	for i, r := range recorders {
		r.mu.Lock()
		assert.Equal(t, joins[i], r.joins, "joins of member %d", i)
		assert.Empty(t, r.revoked, "claims of member %d that were revoked", i)
		assert.Empty(t, r.lost, "claims that member %d lost", i)
		r.mu.Unlock()
	}
	seed(t, brokers, topic, had[0], "after")
	recorders[0].waitRecords(t, 1)
	assert.NoError(t, members[0].Commit(within(t, patienceTest), []driver.Mark{{Claim: recorders[0].claim(had[0]), Offset: 1}}), "after the deployment")
}

// onePartitionEach waits until all members have joined the same generation, and
// returns their partitions.
func onePartitionEach(t *testing.T, recorders []*recorder) []int32 {
	t.Helper()
	for began := time.Now(); time.Since(began) < patienceTest; time.Sleep(5 * time.Millisecond) {
		var had []int32
		generations := map[int32]bool{}
		for _, r := range recorders {
			r.mu.Lock()
			if len(r.live) == 1 {
				for c := range r.live {
					had = append(had, c.Partition)
					generations[c.Generation] = true
				}
			}
			r.mu.Unlock()
		}
		if len(had) == len(recorders) && len(generations) == 1 {
			return had
		}
	}
	require.FailNow(t, "the members never had one partition each")
	return nil
}
