package sarama

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// has reports whether a live claim of the topic exists; the mutex must be held.
func (r *recorder) has(topic string) bool {
	for c := range r.live {
		if c.Topic == topic {
			return true
		}
	}
	return false
}

// codesOf returns the codes that were reported of a whole topic; the mutex must be
// held.
func (r *recorder) codesOf(topic string) (codes []string) {
	for _, err := range r.errs {
		var at *driver.PartitionError
		var de *driver.Error
		if errors.As(err, &at) && at.Topic == topic && at.Partition == -1 && errors.As(err, &de) {
			codes = append(codes, de.Code)
		}
	}
	return codes
}

// TestFault_B2_MissingTopicStopsNoOther: of several topics one is missing, and
// appears later.
func TestFault_B2_MissingTopicStopsNoOther(t *testing.T) {
	testkit.Slow(t, "waits for looks at the topics")
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		for _, initial := range []driver.InitialOffset{driver.OffsetOldest, driver.OffsetNewest} {
			t.Run(fmt.Sprintf("%s %s", strategy, initial), func(t *testing.T) {
				t.Parallel()
				h, _ := fakeHarness(t)
				cfg := consumerConfig(h.brokers)
				cfg.Topics, cfg.InitialOffset = []string{"missing", "t"}, initial
				cfg.BalanceStrategies = []driver.BalanceStrategy{strategy}
				r := newRecorder()
				start(t, Driver{}, cfg, r)
				r.waitFor(t, 5*time.Second, "a claim of the topic that exists", func() bool { return r.has("t") })
				r.wait(t, "the report", func() bool { return len(r.codesOf("missing")) > 0 })
				require.NoError(t, h.Send(t.Context(), "t", 0, driver.Record{Value: []byte("there")}))
				r.waitRecords(t, 1)

				require.NoError(t, h.CreateTopic(t.Context(), "missing", 1))
				require.NoError(t, h.Send(t.Context(), "missing", 0, driver.Record{Value: []byte("late")}))
				r.wait(t, "a claim of the topic that appeared", func() bool { return r.has("missing") && r.has("t") })
				r.mu.Lock()
				defer r.mu.Unlock()
				assert.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", r.codesOf("missing")[0])
				assert.Empty(t, r.lost)
			})
		}
	}
}

// TestFault_B2_AllTopicsMissing: Run waits until one of them exists.
func TestFault_B2_AllTopicsMissing(t *testing.T) {
	testkit.Slow(t, "waits for looks at the topics")
	t.Parallel()
	h, _ := fakeHarness(t)
	cfg := consumerConfig(h.brokers)
	cfg.Topics = []string{"a", "b"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the reports", func() bool { return len(r.codesOf("a")) > 0 && len(r.codesOf("b")) > 0 })
	time.Sleep(3 * time.Second) // some attempts
	select {
	case err := <-m.done:
		require.FailNow(t, "Run has returned", "%v", err)
	default:
	}
	require.NoError(t, h.CreateTopic(t.Context(), "b", 1))
	r.wait(t, "a claim", func() bool { return r.has("b") })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.LessOrEqual(t, len(r.codesOf("b")), 1, "reports within a minute: %v", r.codesOf("b"))
}

// TestFault_B2_TopicDisappears: a topic is deleted while it is consumed, and
// another goes on.
func TestFault_B2_TopicDisappears(t *testing.T) {
	testkit.Slow(t, "waits for looks at the topics")
	t.Parallel()
	h, _ := fakeHarness(t, kfake.SeedTopics(1, "t", "doomed"))
	cfg := consumerConfig(h.brokers)
	cfg.Topics = []string{"t", "doomed"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "both claims", func() bool { return len(r.live) == 2 })
	deleteTopic(t.Context(), t, h.Client, "doomed")
	r.wait(t, "the report", func() bool { return len(r.codesOf("doomed")) > 0 })
	for i := range 3 {
		require.NoError(t, h.Send(t.Context(), "t", 0, driver.Record{Value: fmt.Append(nil, i)}))
		r.waitRecords(t, i+1)
		time.Sleep(time.Second)
	}
	select {
	case err := <-m.done:
		require.FailNow(t, "Run has returned", "%v", err)
	default:
	}
}

// TestFault_B2_UnreadableTopicStopsNoOther: one topic may not be described, or may be
// described and not be fetched. If no topic may be read, Run ends.
func TestFault_B2_UnreadableTopicStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.Fetch} {
		t.Run(key.Name(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.SeedTopics(1, "t", "secret"))
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1})
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics = []string{"secret", "t"}
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.wait(t, "the report", func() bool { return slices.Contains(r.codesOf("secret"), "TOPIC_AUTHORIZATION_FAILED") })
			seed(t, cluster.ListenAddrs(), "t", 0, "there")
			r.waitRecords(t, 1)

			cfg.Group, cfg.Topics = "alone", []string{"secret"}
			alone := start(t, Driver{}, cfg, newRecorder())
			assert.ErrorIs(t, alone.ranOut(t), driver.ErrPermanent, "Run for that topic alone")
		})
	}
}

// TestFault_B3_ForeignTopicsStopNoLeader: the member that leads is asked to assign
// topics of another member that it cannot look up: one that is missing, one with an
// illegal name, one that it may not describe.
func TestFault_B3_ForeignTopicsStopNoLeader(t *testing.T) {
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			leadBeside(t, strategy, "t", "missing", "il/legal", "secret", "")
		})
	}
}

// TestFault_H8_SubscriptionsOfOthersStopNoLeader: another member subscribes to names
// that no broker would accept for a topic.
func TestFault_H8_SubscriptionsOfOthersStopNoLeader(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{
		"missing": "missing", "illegal": "il/legal", "empty": "", "dots": "..", "control": "a\n\x1b[2J\x00", "not UTF-8": "a\xff",
		"long": strings.Repeat("x", 30_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leadBeside(t, driver.RoundRobin, "t", topic)
		})
	}
}

// leadBeside leads a group which a member joins that subscribes to topics, of which
// "t" exists and "secret" may not be described.
func leadBeside(t *testing.T, strategy driver.BalanceStrategy, topics ...string) {
	t.Helper()
	cluster := fake(t, kfake.SeedTopics(2, "t", "secret"))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1})
	for _, topic := range topics {
		if topic != "t" && topic != "secret" && topic != "missing" && topic != "" { // a fault of "" is one of all topics
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: topic, Err: kerr.InvalidTopicException, Count: -1})
		}
	}
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.BalanceStrategies = []driver.BalanceStrategy{strategy}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the first assignment", func() bool { return len(r.live) == 2 })

	join := wiretest.JoinBeside(t, cluster, strategy.String(), topics...)
	r.wait(t, "the rebalance", func() bool { return len(r.revoked) > 0 && len(r.live) == 1 })
	assert.NoError(t, join(), "the other member")
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Empty(t, r.errs, "reports of topics that are not ours")
}

// TestFault_C1_StrategiesThatDoNotMeet: a member that offers another strategy is in
// the group. Run waits until it has left.
func TestFault_C1_StrategiesThatDoNotMeet(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.Sticky}
	first := newRecorder()
	other := start(t, Driver{}, cfg, first)
	first.wait(t, "the first assignment", func() bool { return len(first.live) == 1 })

	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.RoundRobin}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "some refusals", func() bool { return len(r.errs) >= 3 })
	wantError(t, r.errs[0], "INCONSISTENT_GROUP_PROTOCOL", false)
	select {
	case err := <-m.done:
		require.FailNow(t, "Run has returned", "%v", err)
	default:
	}
	other.stop(t)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
}

// TestFault_C1_BesideRawSarama: a member with Sarama's defaults, and one of ours,
// each own partitions; the old one leaves, and ours takes over.
func TestFault_C1_BesideRawSarama(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(4, "shared"))
	raw := startRaw(t, cluster.ListenAddrs(), "g", "shared")
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.BalanceStrategies = []string{"shared"}, []driver.BalanceStrategy{driver.RoundRobin, driver.Range}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "half of the partitions", func() bool { return len(r.live) == 2 })
	raw.waitClaims(t, 2)
	raw.close(t)
	r.wait(t, "all partitions", func() bool { return len(r.live) == 4 })
}

// TestPositionsAreAskedForBeforeASessionEnds: the time of a topic that was left alone is
// over, and its position cannot be read yet. The session goes on, and the topic is left
// alone again. It ends when the position can be read.
func TestPositionsAreAskedForBeforeASessionEnds(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "good", "bad"))
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "bad", Err: kerr.UnstableOffsetCommit, Count: -1})
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics = []string{"good", "bad"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "a claim of the good topic", func() bool { return r.has("good") })
	session := m.membership.current()
	lapse := func() denial {
		m.topics.mu.Lock()
		defer m.topics.mu.Unlock()
		d := m.topics.denied["bad"]
		d.until = time.Now()
		m.topics.denied["bad"] = d
		return d
	}
	before := lapse()
	m.topics.look(t.Context())
	assert.NoError(t, session.sess.Context().Err(), "the session was ended for a topic whose position cannot be read")
	m.topics.mu.Lock()
	assert.True(t, m.topics.denied["bad"].until.After(before.until), "the topic is left alone again")
	m.topics.mu.Unlock()

	fault.Remove()
	lapse()
	m.topics.look(t.Context())
	r.wait(t, "both claims", func() bool { return r.has("good") && r.has("bad") })
}

// TestPartialPollHasNoVotes: the context ends when two of three brokers have named the
// topic's ID. They may be those that are behind.
func TestPartialPollHasNoVotes(t *testing.T) {
	t.Parallel()
	cluster, gates := common.GatedBrokers(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.Len(t, m.topics.poll(within(t, patienceTest)), 3)
	heal := gates[(cluster.CoordinatorFor("g")+1)%3].Stall()
	defer heal()
	assert.Empty(t, m.topics.poll(within(t, 300*time.Millisecond)))
}
