package sarama

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A recreation is one way in which a topic is deleted and created again.
type recreation struct {
	name     string
	initial  driver.InitialOffset
	strategy driver.BalanceStrategy
	pause    time.Duration // between the two
	records  int           // in the new topic; the group's position in the old one is 50
	handling bool          // records of the old topic are handled meanwhile
}

var recreations = []recreation{
	{name: "idle, newest, longer", initial: driver.OffsetNewest, records: 100},
	{name: "idle, oldest, shorter", initial: driver.OffsetOldest, records: 20},
	{name: "idle, cooperative, longer", initial: driver.OffsetNewest, strategy: driver.CooperativeSticky, records: 100},
	{name: "handling, newest, longer", initial: driver.OffsetNewest, records: 100, handling: true},
	{name: "handling, oldest, shorter", initial: driver.OffsetOldest, records: 20, handling: true},
	{name: "ten seconds apart, newest, longer", initial: driver.OffsetNewest, pause: 10 * time.Second, records: 100},
	{name: "ten seconds apart, handling, shorter", initial: driver.OffsetNewest, pause: 10 * time.Second, records: 20, handling: true},
}

// TestFault_A1_RecreatedTopicStartsAtItsBeginning: the topic's ID identifies it, not its
// name.
func TestFault_A1_RecreatedTopicStartsAtItsBeginning(t *testing.T) {
	testkit.Slow(t, "waits between the topic and its successor")
	t.Parallel()
	for _, r := range recreations {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if r.pause > 0 {
				testkit.Slow(t, "waits for ten seconds")
			}
			brokers := fake(t).ListenAddrs()
			recreateUnder(t, outside.Of(brokers...), brokers, "re", r)
		})
	}
}

// TestRealFault_A1_RecreatedTopicStartsAtItsBeginning is the same on a real Kafka:
// with KAFKA_VERSION=3.9.1 on the oldest.
func TestRealFault_A1_RecreatedTopicStartsAtItsBeginning(t *testing.T) {
	t.Parallel()
	cluster := shared.ForTest(t)
	brokers := strings.Split(cluster.Bootstrap(), ",")
	t.Logf("version %q", os.Getenv("KAFKA_VERSION"))
	for i, r := range recreations {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			recreateUnder(t, outside.Of(brokers...), brokers, fmt.Sprintf("re-%d-%d", i, time.Now().UnixNano()), r)
		})
	}
}

func recreateUnder(t *testing.T, cluster outside.Client, brokers []string, topic string, form recreation) {
	ctx := within(t, 8*patienceTest)
	require.NoError(t, cluster.CreateTopic(ctx, topic, 1))
	cfg := consumerConfig(brokers)
	cfg.Topics, cfg.Group, cfg.InitialOffset = []string{topic}, topic, form.initial
	cfg.BalanceStrategies = []driver.BalanceStrategy{form.strategy}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.NoError(t, sendMany(ctx, cluster, topic, "old", 60))
	r.waitRecords(t, 60)
	old := r.claim(0)
	require.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: old, Offset: 50}}))

	deleteTopic(ctx, t, cluster, topic)
	time.Sleep(form.pause)
	createAgain(ctx, t, cluster, topic)
	require.NoError(t, sendMany(ctx, cluster, topic, "new", form.records))
	if form.handling { // marks of the old topic must not be committed to the new one
		var refused *driver.CommitError
		assert.ErrorAs(t, m.Commit(ctx, []driver.Mark{{Claim: old, Offset: 60}}), &refused, "a commit of the old topic")
	}
	fresh := func() (values []string) {
		for _, g := range r.records {
			if g.claim != old && strings.HasPrefix(g.value, "new") {
				values = append(values, g.value)
			}
		}
		return values
	}
	r.waitFor(t, 4*patienceTest, "the records of the new topic", func() bool { return len(fresh()) >= form.records })
	claim := r.claim(0)
	require.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: claim, Offset: int64(form.records)}}))
	at, err := cluster.Committed(ctx, topic, topic, 0)
	assert.NoError(t, err)
	assert.EqualValues(t, form.records, at, "committed")

	r.mu.Lock()
	defer r.mu.Unlock()
	want := make([]string, form.records)
	for i := range want {
		want[i] = fmt.Sprint("new", i)
	}
	assert.Equal(t, want, fresh(), "records of the new topic, from its beginning")
	assert.True(t, slices.Contains(r.lost, old),
		"the claim of the old topic was not lost; revoked %d, lost %d, errors %v", len(r.revoked), len(r.lost), r.errs)
	if gaps := r.gaps(); assert.Len(t, gaps, 1, "gaps among %v", r.errs) {
		gap := gaps[0]
		assert.Equal(t, driver.DataLossError{Topic: topic, From: 50, To: 0, Begin: gap.Begin, End: gap.End, Recreated: true}, gap)
	}
}

// TestFault_A1_EachPartitionIsOutOfRange: the new log of each partition ends before the old
// position, which is an error per partition. The first has the topic recognized as another,
// and the others must not be judged by the new topic: OutOfRangeStop would end Run.
func TestFault_A1_EachPartitionIsOutOfRange(t *testing.T) {
	t.Parallel()
	const partitions = 8
	brokers := fake(t).ListenAddrs()
	cluster, ctx := outside.Of(brokers...), within(t, 2*patienceTest)
	require.NoError(t, cluster.CreateTopic(ctx, "re", partitions))
	cfg := consumerConfig(brokers)
	cfg.Topics = []string{"re"}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == partitions })
	for p := range int32(partitions) {
		require.NoError(t, cluster.Send(ctx, "re", p, driver.Record{Value: []byte("old")}))
	}
	r.waitRecords(t, partitions)
	require.NoError(t, cluster.RecreateTopic(ctx, "re", partitions))
	r.waitFor(t, patienceTest, "the assignment of the new topic", func() bool {
		return len(r.lost) == partitions && len(r.live) == partitions
	})
	for p := range int32(partitions) {
		require.NoError(t, cluster.Send(ctx, "re", p, driver.Record{Value: []byte("new")}))
	}
	r.waitRecords(t, 2*partitions)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.records[partitions:] {
		assert.Equal(t, got{g.claim, g.partition, 0, "new"}, g)
	}
	assert.Len(t, r.gaps(), partitions)
}

// TestOutOfRangeErrorOfAnOldTopicMayComeLate: Sarama reports the error of a claim in the old
// topic when the claim in the new one has begun. The new position is in the log, so the error
// must not end Run.
func TestOutOfRangeErrorOfAnOldTopicMayComeLate(t *testing.T) {
	t.Parallel()
	brokers := fake(t).ListenAddrs()
	cluster, ctx := outside.Of(brokers...), within(t, 2*patienceTest)
	require.NoError(t, cluster.CreateTopic(ctx, "re", 1))
	cfg := consumerConfig(brokers)
	cfg.Topics = []string{"re"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.NoError(t, sendMany(ctx, cluster, "re", "old", 1))
	r.waitRecords(t, 1)
	require.NoError(t, cluster.RecreateTopic(ctx, "re", 1))
	r.waitFor(t, patienceTest, "the assignment of the new topic", func() bool { return len(r.lost) == 1 && len(r.live) == 1 })
	before := r.claim(0)
	m.handle(m.wrap(ibm.ErrOffsetOutOfRange), partition{Topic: "re"})
	r.wait(t, "the next claim", func() bool { return len(r.live) == 1 && !r.live[before] })
	require.NoError(t, sendMany(ctx, cluster, "re", "new", 1))
	r.waitRecords(t, 2)
	assert.Equal(t, []string{"old0", "new0"}, r.values())
}

// gaps returns the losses of data that were reported; the mutex must be held.
func (r *recorder) gaps() (gaps []driver.DataLossError) {
	for _, err := range r.errs {
		var gap *driver.DataLossError
		if errors.As(err, &gap) {
			gaps = append(gaps, *gap)
		}
	}
	return gaps
}

// sendMany appends n records whose values are a prefix and a number.
func sendMany(ctx context.Context, cluster outside.Client, topic, prefix string, n int) error {
	records := make([]driver.Record, n)
	for i := range records {
		records[i].Value = fmt.Append(nil, prefix, i)
	}
	return cluster.Send(ctx, topic, 0, records...)
}

func deleteTopic(ctx context.Context, t testing.TB, cluster outside.Client, topic string) {
	t.Helper()
	cl, err := cluster.New()
	require.NoError(t, err)
	defer cl.Close()
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Topics, req.TopicNames = append(req.Topics, rt), []string{topic}
	resp, err := req.RequestWith(ctx, cl)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
}

// createAgain creates a topic whose deletion may not be over yet.
func createAgain(ctx context.Context, t testing.TB, cluster outside.Client, topic string) {
	t.Helper()
	var err error
	for ctx.Err() == nil {
		if err = cluster.CreateTopic(ctx, topic, 1); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.NoError(t, err)
	require.NoError(t, ctx.Err(), "before the topic was created again")
}

// TestFault_A1_RestartAtTheAssignment: between the sessions the commit of the beginning
// fails, since the group is rebalancing. Meanwhile the position of the old topic has been
// committed to the new one.
func TestFault_A1_RestartAtTheAssignment(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	var refused atomic.Int32
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "re", Err: kerr.RebalanceInProgress, Count: 1,
		When: func(r kmsg.Request) bool { // the attempt between the sessions
			if r.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Offset != 0 {
				return false
			}
			refused.Add(1)
			return true
		},
	})
	recreateUnder(t, outside.Of(brokers...), brokers, "re", recreation{
		initial: driver.OffsetNewest, records: 100, handling: true,
	})
	assert.NotZero(t, refused.Load(), "no attempt was refused")
}

// TestRefusedBeginningStopsNoOtherTopic: between the sessions the coordinator refuses
// permanently the beginning of a topic that was created again. The topic is reported and
// left out, and the other topic is consumed.
func TestRefusedBeginningStopsNoOtherTopic(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "good", "re"))
	brokers := cluster.ListenAddrs()
	admin := outside.Of(brokers...)
	ctx := within(t, 4*patienceTest)
	cfg := consumerConfig(brokers)
	cfg.Topics = []string{"good", "re"}
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "both claims", func() bool { return len(r.live) == 2 })
	require.NoError(t, sendMany(ctx, admin, "re", "old", 10))
	r.waitRecords(t, 10)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "re", Err: kerr.TopicAuthorizationFailed, Count: -1})
	deleteTopic(ctx, t, admin, "re")
	createAgain(ctx, t, admin, "re")
	r.wait(t, "the report", func() bool { return slices.Contains(r.codesOf("re"), "TOPIC_AUTHORIZATION_FAILED") })
	r.wait(t, "a claim of the good topic alone", func() bool { return r.has("good") && !r.has("re") })
	require.NoError(t, sendMany(ctx, admin, "good", "new", 1))
	r.waitRecords(t, 11)
	fault.Remove()
	m.topics.deny("re", kerr.TopicAuthorizationFailed, 0)
	m.topics.lookSoon()
	r.wait(t, "both claims again", func() bool { return r.has("good") && r.has("re") })
}

// TestBeginningWithoutAnAnswerKeepsNoMemberFromJoining: a join waits some seconds for a
// leader that does not say where the log of a topic begins that was created again. Then it
// reports the partition, and goes on. A claim must not begin so.
func TestBeginningWithoutAnAnswerKeepsNoMemberFromJoining(t *testing.T) {
	testkit.Slow(t, "waits for a leader")
	t.Parallel()
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: -1})
	m.positions.restarts.Begin("t", map[partition]int64{{Topic: "t"}: 5})
	_, err := m.positions.restartHeld(t.Context(), m.topics.known.Eras(), []string{"t"})
	assert.NoError(t, err)
	r.mu.Lock()
	if assert.Len(t, r.troubles(), 1) {
		assert.Equal(t, "LEADER_NOT_AVAILABLE", testkit.Code(r.troubles()[0]))
	}
	r.mu.Unlock()
	assert.ErrorIs(t, m.positions.restartAssigned(m.membership.current()), ibm.ErrLeaderNotAvailable)
	away.Remove()
	assert.NoError(t, m.positions.restartAssigned(m.membership.current()))
	assert.Empty(t, m.positions.restarts.Held([]string{"t"}))
}

// TestPassingRefusalOfABeginningKeepsTheMemberFromJoining, since the commit may have been
// applied, or may be at the next attempt.
func TestPassingRefusalOfABeginningKeepsTheMemberFromJoining(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "t", Err: kerr.RequestTimedOut, Count: 1})
	m.positions.restarts.Begin("t", map[partition]int64{{Topic: "t"}: 5})
	by, _ := m.membership.member()
	m.membership.mu.Lock()
	m.membership.latest = by // as between two sessions
	m.membership.mu.Unlock()
	_, err := m.positions.restartHeld(t.Context(), m.topics.known.Eras(), []string{"t"})
	assert.ErrorIs(t, err, ibm.ErrRequestTimedOut)
	_, err = m.positions.restartHeld(t.Context(), m.topics.known.Eras(), []string{"t"})
	assert.NoError(t, err)
	assert.Empty(t, m.positions.restarts.Held([]string{"t"}))
}

// TestPositionsAreReleasedAtAnAssignment: the member has a position of an old topic in a
// partition that it is not assigned. It must not move that back later.
func TestPositionsAreReleasedAtAnAssignment(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	m.positions.restarts.Begin("t", map[partition]int64{{Topic: "t", ID: 1}: 5}) // of the new topic it has no partition 1
	require.NotEmpty(t, m.positions.restarts.Held([]string{"t"}))
	session := m.membership.current()
	m.membership.end(errTopicsChanged)
	r.wait(t, "the next assignment", func() bool {
		for c := range r.live {
			return c.Backend.(*claim).session != session
		}
		return false
	})
	assert.Empty(t, m.positions.restarts.Held([]string{"t"}))
}
