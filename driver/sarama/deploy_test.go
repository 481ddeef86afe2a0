package sarama

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

const fleet = 8

// A fleet of static members is restarted one after the other, as a deployment
// does. Each gets back what it had, and the others do not hear of it.
func TestRollingDeploy(t *testing.T) {
	cluster := fake(t, kfake.SeedTopics(fleet, "fleet"))
	rollingDeploy(t, cluster.ListenAddrs(), "fleet")
}

func TestRealRollingDeploy(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	topic := fmt.Sprintf("fleet-%d", time.Now().UnixNano())
	if err := cluster.CreateTopic(t.Context(), topic, fleet, nil); err != nil {
		t.Fatal(err)
	}
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
		if r.claim(had[i]) == nil {
			t.Errorf("member %d had partition %d and came back to another", i, had[i])
		}
		joins[i] = 1
	}
	for i, r := range recorders {
		r.mu.Lock()
		if r.joins != joins[i] || len(r.lost) > 0 || len(r.revoked) > 0 {
			t.Errorf("member %d: joined %d times, want %d; %d revoked, %d lost", i, r.joins, joins[i], len(r.revoked), len(r.lost))
		}
		r.mu.Unlock()
	}
	seed(t, brokers, topic, had[0], "after")
	recorders[0].waitRecords(t, 1)
	if err := members[0].Commit(within(t, patienceTest), []driver.Mark{{Claim: recorders[0].claim(had[0]), Offset: 1}}); err != nil {
		t.Errorf("Commit after the deployment = %v", err)
	}
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
	t.Fatal("the members never had one partition each")
	return nil
}
