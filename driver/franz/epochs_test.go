package franz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// epochConfig is consumerConfig with the ConsumerProtocol.
func epochConfig(brokers []string) driver.ConsumerConfig {
	cfg := consumerConfig(brokers)
	wiretest.Epochs.Set(&cfg)
	return cfg
}

// TestBrokersWithoutTheConsumerProtocol: the consumer ends with a reason, and does not fall
// back to the ClassicProtocol.
func TestBrokersWithoutTheConsumerProtocol(t *testing.T) {
	t.Parallel()
	upTo := func(version int16) kfake.Opt {
		v := kversion.Stable()
		v.SetMaxKeyVersion(kmsg.ConsumerGroupHeartbeat.Int16(), version)
		return kfake.MaxVersions(v)
	}
	for name, opts := range map[string][]kfake.Opt{
		"no such request": {upTo(-1)}, "an early version": {upTo(0)}, "refused": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, opts...)
			if opts == nil {
				cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Err: kerr.UnsupportedVersion, Count: -1})
			}
			var joins atomic.Int32
			cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				joins.Add(1)
				return nil, nil, false
			})
			err := start(t, Driver{}, epochConfig(cluster.ListenAddrs()), newRecorder()).ranOut(t)
			wantError(t, err, "UNSUPPORTED_VERSION", true)
			assert.ErrorContains(t, err, "GroupProtocol")
			assert.Zero(t, joins.Load(), "requests of the other protocol")
		})
	}
}

// TestFault_H3_RefusedHeartbeatsArePaced: a coordinator refuses every heartbeat, or every one
// of a member that it has let join.
func TestFault_H3_RefusedHeartbeatsArePaced(t *testing.T) {
	testkit.Slow(t, "waits for joins that are paced")
	t.Parallel()
	for _, c := range []struct {
		code   *kerr.Error
		joined bool
	}{
		{kerr.UnknownMemberID, false}, {kerr.FencedMemberEpoch, false},
		{kerr.UnknownMemberID, true}, {kerr.FencedMemberEpoch, true}, {kerr.StaleMemberEpoch, true}, {kerr.FencedInstanceID, true},
	} {
		t.Run(fmt.Sprintf("%s/%v", c.code.Message, c.joined), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, wiretest.EpochBrokers(6*time.Second))
			var joins atomic.Int32
			var healed atomic.Bool
			cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				req := r.(*kmsg.ConsumerGroupHeartbeatRequest)
				if req.MemberEpoch == 0 {
					joins.Add(1)
				}
				if healed.Load() || req.MemberEpoch < 0 || c.joined != (req.MemberEpoch > 0) {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
				resp.ErrorCode = c.code.Code
				return resp, nil, true
			})
			r := newRecorder()
			start(t, Driver{}, epochConfig(cluster.ListenAddrs()), r)
			const watched = 5 * time.Second
			time.Sleep(watched)
			assert.LessOrEqual(t, joins.Load(), int32(10+10*watched.Seconds()), "joins within %v", watched)
			assert.Greater(t, joins.Load(), int32(3), "joins within %v", watched)
			r.mu.Lock()
			assert.NotEmpty(t, r.errs)
			for _, cause := range r.causes {
				assert.ErrorIs(t, cause, driver.ErrMembershipLost)
				assert.ErrorIs(t, cause, c.code)
			}
			lost := func(err error) bool { return errors.Is(err, driver.ErrMembershipLost) }
			assert.True(t, slices.ContainsFunc(r.errs, lost), "reports of a lost membership: %v", r.errs)
			r.mu.Unlock()
			healed.Store(true)
			r.wait(t, "an assignment that lasts", func() bool { return len(r.live) == 1 })
			seed(t, cluster.ListenAddrs(), "t", 0, "v")
			r.wait(t, "a record", func() bool { return len(r.records) > 0 })
		})
	}
}

// TestFault_E1_DrainingCostsNoSession: a member drains for longer than the session. It sends
// heartbeats meanwhile, keeps what it does not drain, and commits before the other member has
// what it has drained.
func TestFault_E1_DrainingCostsNoSession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	const session = 2 * time.Second
	cluster := fake(t, kfake.SeedTopics(2, "two"), wiretest.EpochBrokers(session))
	cfg := epochConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.SessionTimeout, cfg.DrainTimeout = []string{"two"}, session, 10*time.Second
	seed(t, cluster.ListenAddrs(), "two", 0, numbered(0, 10)...)
	seed(t, cluster.ListenAddrs(), "two", 1, numbered(0, 10)...)
	first, second := newRecorder(), newRecorder()
	var m *running
	var committed atomic.Int64
	first.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
		time.Sleep(2 * session)
		for _, c := range cs {
			assert.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: c, Offset: 7}}))
		}
		committed.Store(time.Now().UnixNano())
	}
	m = start(t, Driver{}, cfg, first)
	first.wait(t, "both partitions", func() bool { return len(first.live) == 2 })
	second.onAssign = func(cs []*driver.Claim) {
		if len(cs) > 0 {
			assert.NotZero(t, committed.Load(), "a partition was given up before the commit")
		}
	}
	start(t, Driver{}, cfg, second)
	second.wait(t, "one partition", func() bool { return len(second.live) == 1 })
	second.mu.Lock()
	assert.EqualValues(t, 7, second.assigned[0].Start)
	second.mu.Unlock()
	first.mu.Lock()
	defer first.mu.Unlock()
	assert.Empty(t, first.lost, "claims lost, for %v", first.causes)
	assert.Len(t, first.live, 1)
	assert.Empty(t, first.errs)
}

// TestCloseLeavesNoMember: a member that closes at any moment of its first join is in no group
// afterwards.
func TestCloseLeavesNoMember(t *testing.T) {
	t.Parallel()
	cluster := fake(t, wiretest.EpochBrokers(time.Minute))
	cfg := epochConfig(cluster.ListenAddrs())
	for i := range 40 {
		m := start(t, Driver{}, cfg, newRecorder())
		time.Sleep(time.Duration(i) * time.Millisecond / 2)
		require.NoError(t, m.stop(t))
		if g := cluster.GroupInfo("g"); g != nil {
			require.Empty(t, g.Members, "after %d/2 ms", i)
		}
	}
}

// TestGroupSessionCounts: the group has a shorter session timeout than the member.
func TestGroupSessionCounts(t *testing.T) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		brokers := fake(t, wiretest.EpochBrokers(time.Minute)).ListenAddrs()
		cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
		require.NoError(t, err)
		defer cl.Close()
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = groupTimeout, kmsg.StringPtr("7000")
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "g"
		resource.Configs = append(resource.Configs, config)
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Resources = append(req.Resources, resource)
		resp, err := req.RequestWith(t.Context(), cl)
		require.NoError(t, err)
		require.NoError(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
		groupSessionCounts(t, brokers, "t", 7*time.Second)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		testkit.DriversTurn(t, "franz")
		needsKafka4(t)
		cluster := kafkacluster.ForTest(t, kafkacluster.Config{Properties: epochSettings})
		require.NoError(t, cluster.CreateTopic(t.Context(), "t", 1, nil))
		groupSessionCounts(t, strings.Split(cluster.Bootstrap(), ","), "t", 6*time.Second)
	})
}

func groupSessionCounts(t *testing.T, brokers []string, topic string, want time.Duration) {
	cfg := epochConfig(brokers)
	cfg.Topics, cfg.SessionTimeout = []string{topic}, 45*time.Second
	var logged lockedBuffer
	cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	left := time.Until(m.SessionDeadline())
	assert.LessOrEqual(t, left, want)
	assert.Greater(t, left, want/2)
	assert.Contains(t, logged.String(), "SessionTimeout is longer than the group's")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestDeadCoordinatorKeepsTheSession: the coordinator of a group of the ConsumerProtocol goes
// away, and another broker has the group. Kgo by itself would try the first one until the
// metadata lack it.
func TestDeadCoordinatorKeepsTheSession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	const session = 5 * time.Second
	cluster, gates := common.GatedBrokers(t, wiretest.EpochBrokers(session))
	cfg := epochConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = session
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	dead := cluster.CoordinatorFor("g")
	require.NoError(t, cluster.MoveTopicPartition("t", 0, (dead+1)%3))
	heal := gates[dead].Cut()
	defer heal()
	wiretest.MoveCoordinator(cluster, "g", dead)
	time.Sleep(session + time.Second)
	heal()
	seed(t, cluster.ListenAddrs(), "t", 0, "v")
	r.waitRecords(t, 1)
	wantOneSession(t, r)
}

// TestAssignorThatBrokersLack: the reason is reported, and the member waits.
func TestAssignorThatBrokersLack(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ConsumerGroupHeartbeat}, Err: kerr.UnsupportedAssignor, Count: -1})
	r := newRecorder()
	start(t, Driver{}, epochConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the reason", func() bool {
		return slices.ContainsFunc(r.errs, func(err error) bool { return testkit.Code(err) == "UNSUPPORTED_ASSIGNOR" })
	})
	fault.Remove()
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
}

// TestRetryBackoff: a session has room for many attempts, and none follows at once.
func TestRetryBackoff(t *testing.T) {
	for _, session := range []time.Duration{time.Second, 6 * time.Second, 45 * time.Second} {
		backoff := retryBackoff(session)
		for failures := range 20 {
			wait := backoff(failures)
			assert.GreaterOrEqual(t, wait, firstInterval/2, "session %v, failure %d", session, failures)
			assert.LessOrEqual(t, wait, max(session/20, firstInterval)+1, "session %v, failure %d", session, failures)
		}
	}
}

// TestRealBrokersWithoutTheConsumerProtocol is TestBrokersWithoutTheConsumerProtocol on the
// oldest version of Kafka.
func TestRealBrokersWithoutTheConsumerProtocol(t *testing.T) {
	testkit.DriversTurn(t, "franz")
	t.Parallel()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Version: kafkacluster.OldestVersion})
	require.NoError(t, cluster.CreateTopic(t.Context(), "t", 1, nil))
	cfg := epochConfig(strings.Split(cluster.Bootstrap(), ","))
	err := start(t, Driver{}, cfg, newRecorder()).ranOut(t)
	wantError(t, err, "UNSUPPORTED_VERSION", true)
}
