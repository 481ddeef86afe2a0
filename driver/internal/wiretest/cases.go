package wiretest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// numbered returns n records whose values are a prefix and a number.
func numbered(prefix string, n int) []driver.Record {
	records := make([]driver.Record, n)
	for i := range records {
		records[i].Value = fmt.Append(nil, prefix, i)
	}
	return records
}

// CommitIsTriedAgain: a coordinator fails for a reason that may pass, or leaves the partition
// out of its answer.
func (s Suite) CommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	const failures = 2
	for _, c := range []struct {
		name  string
		fault kfake.Fault
		empty int32 // answers without a partition
	}{
		{name: "UNKNOWN_SERVER_ERROR", fault: kfake.Fault{Err: kerr.UnknownServerError, Count: failures}},
		{name: "an incomplete answer", empty: failures},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t)
			direct, ctx := outside.Of(cluster.ListenAddrs()...), testkit.Within(t, patience)
			require.NoError(t, direct.Send(ctx, "t", 0, numbered("v", 10)...))
			m := s.start(t, s.Config(cluster.ListenAddrs()), nil)
			claim := m.waitRecords(t, 10)
			if c.fault.Count > 0 {
				c.fault.Keys = []kmsg.Key{kmsg.OffsetCommit}
				cluster.Fault(c.fault)
			}
			var asked atomic.Int32
			cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				return req.ResponseKind(), nil, asked.Add(1) <= c.empty
			})
			require.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: claim, Offset: 5}}))
			assert.EqualValues(t, failures+1, asked.Load(), "attempts")
			at, err := direct.Committed(ctx, "g", "t", 0)
			assert.NoError(t, err)
			assert.EqualValues(t, 5, at)
		})
	}
}

// RefusedMetadataIsReportedAtClose: the last commit of a consumer is the first whose metadata
// the broker refuses. The position is committed without, and the refusal is reported once.
func (s Suite) RefusedMetadataIsReportedAtClose(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t)
	outside.LimitMetadata(cluster)
	direct, ctx := outside.Of(cluster.ListenAddrs()...), testkit.Within(t, patience)
	require.NoError(t, direct.Send(ctx, "t", 0, numbered("v", 10)...))
	m := s.start(t, s.Config(cluster.ListenAddrs()), nil)
	claim := m.waitRecords(t, 10)
	m.change(func() {
		m.onRevoke = func(ctx context.Context) {
			mark := driver.Mark{Claim: claim, Offset: 5, Metadata: strings.Repeat("m", 5000)}
			assert.NoError(t, m.Commit(ctx, []driver.Mark{mark}))
		}
	})
	require.NoError(t, m.Close(ctx))
	m.mu.Lock()
	defer m.mu.Unlock()
	var refusals []error
	for _, err := range m.errs {
		if testkit.Code(err) == "OFFSET_METADATA_TOO_LARGE" {
			refusals = append(refusals, err)
		}
	}
	assert.Len(t, refusals, 1, "refusals among %v", m.errs)
	at, err := direct.Committed(ctx, "g", "t", 0)
	assert.NoError(t, err)
	assert.EqualValues(t, 5, at)
}

// OutOfRangeOfAReplicaAlone: the replica that answers a fetch has the position outside its
// log. The leader has it inside. That is reported, and ends Run with no policy.
func (s Suite) OutOfRangeOfAReplicaAlone(t *testing.T) {
	t.Parallel()
	for _, policy := range []driver.OutOfRange{driver.OutOfRangeStop, driver.OutOfRangeOldest, driver.OutOfRangeNewest} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t)
			direct, ctx := outside.Of(cluster.ListenAddrs()...), testkit.Within(t, patience)
			require.NoError(t, direct.Send(ctx, "t", 0, numbered("v", 10)...))
			require.NoError(t, direct.SetCommitted(ctx, "g", "t", 0, 0, ""))
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 2})
			cfg := s.Config(cluster.ListenAddrs())
			cfg.OutOfRange = policy
			m := s.start(t, cfg, nil)
			m.waitRecords(t, 10)
			m.mu.Lock()
			defer m.mu.Unlock()
			require.NotEmpty(t, m.errs, "no error was reported")
			for _, err := range m.errs {
				assert.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(err), "code of %v", err)
			}
			assert.Empty(t, m.lost)
		})
	}
}

// OutOfRangeAtAStartingCoordinator: a broker that has just started refuses a position, and does
// not know the group yet. The claim is lost, and not revoked, once it does.
func (s Suite) OutOfRangeAtAStartingCoordinator(t *testing.T) {
	t.Parallel()
	const loading = 1500 * time.Millisecond
	cluster := s.Fake(t)
	direct, ctx := outside.Of(cluster.ListenAddrs()...), testkit.Within(t, patience)
	require.NoError(t, direct.Send(ctx, "t", 0, numbered("v", 20)...))
	require.NoError(t, direct.SetCommitted(ctx, "g", "t", 0, 3, ""))
	m := s.start(t, s.Config(cluster.ListenAddrs()), nil)
	m.waitRecords(t, 17)
	require.NoError(t, direct.Truncate(ctx, "t", 0, 10))
	var began time.Time
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "t", Err: kerr.CoordinatorLoadInProgress, Count: -1,
		When: func(kmsg.Request) bool {
			if began.IsZero() {
				began = time.Now()
			}
			return time.Since(began) < loading
		},
	})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
	var known *driver.Error
	require.ErrorAs(t, m.ranOut(t), &known)
	assert.Equal(t, "OFFSET_OUT_OF_RANGE", known.Code)
	assert.Equal(t, driver.ErrPermanent, known.Kind)
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Len(t, m.lost, 1, "claims lost")
	assert.Empty(t, m.revoked, "claims revoked")
}

// FailedRunLeavesTheGroup: a position is not in the log, which ends Run, and the handler is stuck
// in the Revoke of another claim. The member leaves the group when the window of that Revoke has
// ended, and not when Run has returned, or its session has timed out.
func (s Suite) FailedRunLeavesTheGroup(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t)
	direct, ctx := outside.Of(cluster.ListenAddrs()...), testkit.Within(t, 2*patience)
	require.NoError(t, direct.CreateTopic(ctx, "two", 2))
	require.NoError(t, direct.Send(ctx, "two", 0, numbered("v", 20)...))
	require.NoError(t, direct.SetCommitted(ctx, "g", "two", 0, 3, ""))
	cfg := s.Config(cluster.ListenAddrs())
	cfg.Topics = []string{"two"}
	cfg.SessionTimeout, cfg.RebalanceTimeout, cfg.DrainTimeout = 2*patience, 2*patience, 500*time.Millisecond
	m := s.start(t, cfg, nil)
	stuck, released := make(chan struct{}, 2), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	m.mu.Lock()
	m.onRevoke = func(context.Context) {
		stuck <- struct{}{}
		<-released
	}
	m.mu.Unlock()
	m.waitRecords(t, 17)
	m.wait(t, "two claims", func() bool { return len(m.live) == 2 })
	require.NoError(t, direct.Truncate(ctx, "two", 0, 10))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "two", Partitions: []int32{0}, Err: kerr.OffsetOutOfRange, Count: 1})
	select {
	case <-stuck:
	case <-ctx.Done():
		require.FailNow(t, "no claim is revoked")
	}

	cfg.OutOfRange = driver.OutOfRangeOldest
	other := s.start(t, cfg, nil)
	other.waitFor(t, patience/2, "the claims of the member that has failed", func() bool { return len(other.live) == 2 })
	assert.Empty(t, m.ran, "Run has returned")
	release()
	assert.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(m.ranOut(t)))
}

// IdleMemberTakesOver: a member that has no claim does not notice by itself that the topic was
// created again. When it is assigned a partition, its session may have lasted since before.
// Its first claim belongs to the new topic all the same: it is not lost, and what is committed
// under it counts.
func (s Suite) IdleMemberTakesOver(t *testing.T) {
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			brokers := s.Fake(t).ListenAddrs()
			direct, ctx := outside.Of(brokers...), testkit.Within(t, 2*patience)
			require.NoError(t, direct.CreateTopic(ctx, "re", 1))
			cfg := s.Config(brokers)
			cfg.Topics, cfg.BalanceStrategies = []string{"re"}, []driver.BalanceStrategy{strategy}
			var members [2]*member
			reader := make(chan int, 8)
			for i := range members {
				m := s.start(t, cfg, func(r driver.Record) {
					if string(r.Value) == "old0" {
						reader <- i
					}
				})
				m.wait(t, "the join", func() bool { return m.joins > 0 })
				members[i] = m
			}
			require.NoError(t, direct.Send(ctx, "re", 0, numbered("old", 1)...))
			var i int
			select {
			case i = <-reader:
			case <-ctx.Done():
				require.FailNow(t, "no member reads")
			}
			busy, idle := members[i], members[1-i]

			require.NoError(t, direct.RecreateTopic(ctx, "re", 1))
			require.NoError(t, busy.Close(ctx))
			idle.wait(t, "a claim", func() bool { return len(idle.live) == 1 })
			require.NoError(t, direct.Send(ctx, "re", 0, numbered("new", 2)...))
			idle.wait(t, "the records of the new topic", func() bool {
				n := len(idle.records)
				return n > 0 && idle.records[n-1].value == "new1"
			})
			idle.mu.Lock()
			got, lost := idle.records, idle.lost
			idle.mu.Unlock()
			claim := got[len(got)-1].claim
			assert.Equal(t, []delivered{{claim, 0, "new0"}, {claim, 1, "new1"}}, got)
			assert.Empty(t, lost)
			assert.NoError(t, idle.Commit(ctx, []driver.Mark{{Claim: claim, Offset: 2}}))
			at, err := direct.Committed(ctx, cfg.Group, "re", 0)
			assert.NoError(t, err)
			assert.EqualValues(t, 2, at, "committed")
		})
	}
}
