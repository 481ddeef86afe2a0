package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// byEpochs makes a consumer one of the ConsumerProtocol.
func byEpochs(cfg *driver.ConsumerConfig) {
	cfg.GroupProtocol, cfg.BalanceStrategies, cfg.HeartbeatInterval = driver.ConsumerProtocol, nil, 0
	cfg.SessionTimeout = 45 * time.Second
}

func TestBrokerSupportsBothProtocolsAndNoOther(t *testing.T) {
	b := memory.NewBroker()
	assert.True(t, b.SupportsGroupProtocol(driver.ClassicProtocol))
	assert.True(t, b.SupportsGroupProtocol(driver.ConsumerProtocol))
	assert.False(t, b.SupportsGroupProtocol(driver.ConsumerProtocol+1))
}

// A member gives up only what moves. The other member gets it when the first one has
// given it up, and not before. Meanwhile the first one commits in its old epoch.
func TestPartitionsMoveWhenTheyAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 4)
		for p := range int32(4) {
			send(t, b, p, "a", "b")
		}
		r1 := run(t, b, byEpochs)
		require.Equal(t, []string{"t/0", "t/1", "t/2", "t/3"}, r1.held(), "alone")
		epoch := r1.claim(0).Generation
		kept := r1.claim(0)
		release := make(chan struct{})
		r1.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			<-release
			assert.NoError(t, r1.Commit(ctx, mark(cs[0], 1)), "commit in the old epoch")
		}
		r1.takeLog()

		r2 := run(t, b, byEpochs)
		require.Empty(t, r2.held(), "before the first member has given anything up")
		require.Equal(t, 1, r2.joins, "the second is a member")
		assert.NoError(t, r1.Commit(t.Context(), mark(kept, 1)), "commit of a claim that stays")
		close(release)
		synctest.Wait()
		require.Equal(t, []string{"revoke t/2", "revoke t/3"}, r1.takeLog())
		require.Equal(t, []string{"t/2", "t/3"}, r2.held())
		require.Equal(t, epoch+1, r2.claim(2).Generation)
		assert.NoError(t, r1.Commit(t.Context(), mark(kept, 2)), "commit in the next epoch")
		require.Equal(t, 1, r1.joins, "the first has joined once")

		require.NoError(t, r2.Close(t.Context()))
		synctest.Wait()
		require.Equal(t, []string{"assign t/2", "assign t/3"}, r1.takeLog(), "the second has left")
		require.Same(t, kept, r1.claim(0), "the claim that stays")
	})
}

// A member whose revocation takes longer than its rebalance timeout is removed.
func TestRevocationIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		slow := func(cfg *driver.ConsumerConfig) {
			byEpochs(cfg)
			cfg.RebalanceTimeout, cfg.DrainTimeout = 10*time.Second, time.Minute
		}
		r1 := run(t, b, slow)
		causes := make(chan error, 1)
		r1.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
		}
		r2 := run(t, b, slow)
		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Empty(t, r2.held(), "before the rebalance timeout")
		time.Sleep(time.Nanosecond)
		cause := <-causes
		require.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(cause))
		synctest.Wait()
		require.Equal(t, []int{1, 1}, []int{len(r1.held()), len(r2.held())}, "the removed member has come back")
	})
}

// The assignor is a setting of the broker.
func TestAssignors(t *testing.T) {
	for _, tt := range []struct {
		assignor      memory.Assignor
		first, second []string
	}{
		{memory.Uniform, []string{"t/0"}, []string{"u/0"}},
		{memory.RangeAssign, []string{"t/0", "u/0"}, []string{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1, memory.WithConsumerGroups(memory.ConsumerGroups{Assignor: tt.assignor}))
			require.NoError(t, b.CreateTopic("u", 1))
			r1 := run(t, b, byEpochs, topics("t", "u"))
			kept := r1.claim(0)
			r2 := run(t, b, byEpochs, topics("t", "u"))
			require.Equal(t, tt.first, r1.held())
			require.Equal(t, tt.second, r2.held())
			require.Same(t, kept, r1.claim(0))
		})
	}
}

// The group waits for a silent member as long as the broker's settings say, and the member
// ends its claims when its own timeout has passed.
func TestSessionOfTheBrokerAndFenceOfTheMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1, memory.WithConsumerGroups(memory.ConsumerGroups{SessionTimeout: time.Minute, HeartbeatInterval: time.Second}))
		r1 := run(t, b, byEpochs)
		r2 := run(t, b, byEpochs)
		c := r1.claim(0)
		b.Members("g")[0].Cut()
		time.Sleep(45*time.Second - time.Nanosecond)
		synctest.Wait()
		require.Len(t, r1.held(), 1)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Empty(t, r1.held(), "after the member's timeout")
		require.Equal(t, "SESSION_TIMED_OUT", testkit.Code(r1.lost[0]))
		require.Empty(t, r2.held(), "before the broker's")
		time.Sleep(15*time.Second + time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"t/0"}, r2.held(), "after the broker's")
		assert.ErrorIs(t, r1.Commit(t.Context(), mark(c, 1)), driver.ErrClaimEnded)
	})
}

// A member whose epoch is no longer the group's loses its claims, and enters again under the
// same ID.
func TestEpochFences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b, byEpochs)
		r2 := run(t, b, byEpochs)
		m := b.Members("g")[0]
		old := r1.claim(0)
		m.Cut()
		m.Fence()
		synctest.Wait()
		require.Equal(t, []string{"t/0"}, r1.held(), "a member that is cut off does not know")
		require.Equal(t, []string{"t/1"}, r2.held(), "the coordinator shares for two")
		m.Heal()
		synctest.Wait()
		require.Equal(t, "FENCED_MEMBER_EPOCH", testkit.Code(r1.lost[0]))
		require.ErrorIs(t, r1.lost[0], driver.ErrMembershipLost)
		require.Equal(t, 2, r1.joins)
		require.Equal(t, []string{"t/0"}, r1.held())
		require.NotSame(t, old, r1.claim(0))
		require.Equal(t, m.ID, b.Members("g")[0].ID, "the member ID")
		require.Greater(t, r1.claim(0).Generation, old.Generation, "the epoch")
	})
}

// A static member that has closed keeps its place. The next member of its instance takes
// that at once, and no other claim moves.
func TestStaticMemberOfEpochsComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b, byEpochs, instance("one"))
		r2 := run(t, b, byEpochs, instance("two"))
		held := r1.held()
		r2.takeLog()
		require.NoError(t, r1.Close(t.Context()))
		synctest.Wait()
		require.Empty(t, r2.takeLog(), "nothing moves while its place is kept")
		r3 := run(t, b, byEpochs, instance("one"))
		require.Equal(t, held, r3.held(), "what the instance had")
		require.Empty(t, r2.takeLog(), "nothing moves")

		require.NoError(t, r3.Close(t.Context()))
		time.Sleep(50 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r2.held(), "after the session")
	})
}

// A newcomer with the instance of a live member waits, until that has closed or is gone.
func TestTakenInstanceRefusesTheNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1 := run(t, b, byEpochs, instance("one"))
		r2 := run(t, b, byEpochs, instance("one"))
		require.Equal(t, []string{"t/0"}, r1.held(), "the older member")
		require.Zero(t, r2.joins)
		require.Len(t, r2.errs, 1)
		require.Equal(t, "UNRELEASED_INSTANCE_ID", testkit.Code(r2.errs[0]))
		assert.NotErrorIs(t, r2.errs[0], driver.ErrPermanent)

		zombie := b.Members("g")[0]
		zombie.Cut()
		zombie.Expire()
		synctest.Wait()
		require.Equal(t, []string{"t/0"}, r2.held(), "the newcomer, after the group has removed the older one")
		zombie.Heal()
		<-r1.done
		require.Equal(t, "FENCED_INSTANCE_ID", testkit.Code(r1.err), "Run of the older one")
		require.ErrorIs(t, r1.err, driver.ErrPermanent)
	})
}

// A group has members of one protocol at a time. A member of the other one waits.
func TestMixedProtocols(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second func(*driver.ConsumerConfig)
		want          string
	}{
		{"consumer after classic", func(*driver.ConsumerConfig) {}, byEpochs, "GROUP_ID_NOT_FOUND"},
		{"classic after consumer", byEpochs, func(*driver.ConsumerConfig) {}, "INCONSISTENT_GROUP_PROTOCOL"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			r1, r2 := run(t, b, tt.first), run(t, b, tt.second)
			require.Equal(t, []string{"t/0"}, r1.held(), tt.name)
			require.Zero(t, r2.joins, tt.name)
			require.Len(t, r2.errs, 1, tt.name)
			require.Equal(t, tt.want, testkit.Code(r2.errs[0]), tt.name)
			require.NoError(t, r1.Close(t.Context()), tt.name)
			synctest.Wait()
			require.Equal(t, []string{"t/0"}, r2.held(), "%s: once the group is empty", tt.name)
		})
	}
}

// A topic that is created later is shared without another join.
func TestEpochsFollowTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, byEpochs, topics("t", "later"))
		kept := r.claim(0)
		require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(r.errs[0]))
		require.NoError(t, b.CreateTopic("later", 2))
		synctest.Wait()
		require.Equal(t, []string{"later/0", "later/1", "t/0"}, r.held())
		require.NoError(t, b.RecreateTopic("later", 1))
		synctest.Wait()
		require.Equal(t, []string{"later/0", "t/0"}, r.held())
		require.Contains(t, r.takeLog(), "lost later/1")
		require.Same(t, kept, r.claimOf("t/0"))
		require.NoError(t, b.DeleteTopic("later"))
		synctest.Wait()
		require.Equal(t, []string{"t/0"}, r.held())
	})
}

func (r *recorder) claimOf(partition string) *driver.Claim {
	for _, c := range r.claims {
		if name(c) == partition {
			return c
		}
	}
	return nil
}

// Sequence: a member that is cut off ends its claims; it is closed; its link comes back
// before the group has removed it. The next member must not wait for it.
func TestClosedMemberThatHadFencedItselfHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1, memory.WithConsumerGroups(memory.ConsumerGroups{SessionTimeout: time.Minute}))
		r1 := run(t, b, byEpochs)
		m := b.Members("g")[0]
		m.Cut()
		time.Sleep(46 * time.Second)
		synctest.Wait()
		require.Empty(t, r1.held())
		closed := make(chan error, 1)
		go func() { closed <- r1.Close(t.Context()) }()
		synctest.Wait()
		m.Heal()
		require.NoError(t, <-closed)
		r2 := run(t, b, byEpochs)
		require.Equal(t, []string{"t/0"}, r2.held())
	})
}
