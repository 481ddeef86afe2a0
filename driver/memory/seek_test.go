package memory_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// eachProtocol runs f in a bubble per group protocol.
func eachProtocol(t *testing.T, f func(t *testing.T, change func(*driver.ConsumerConfig))) {
	for name, change := range map[string]func(*driver.ConsumerConfig){
		"eager": func(*driver.ConsumerConfig) {},
		"cooperative": func(cfg *driver.ConsumerConfig) {
			cfg.BalanceStrategies = []driver.BalanceStrategy{driver.CooperativeSticky}
		},
		"epochs": byEpochs,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, change) })
		})
	}
}

func (r *runner) seek(ctx context.Context, to ...driver.Mark) error {
	return r.Consumer.(driver.Seeker).Seek(ctx, to)
}

// failures returns the marks of a CommitError and their errors.
func failures(t *testing.T, err error) (all []driver.MarkError) {
	t.Helper()
	var ce *driver.CommitError
	require.ErrorAs(t, err, &ce)
	return ce.Failed
}

func TestSeek(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		var seen []memory.Commit
		b := newBroker(t, 2, memory.WithCommitObserver(func(c memory.Commit) { seen = append(seen, c) }))
		send(t, b, 0, "a", "b", "c", "d")
		send(t, b, 1, "x")
		r := run(t, b, change)
		old, other := r.claim(0), r.claim(1)
		r.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			assert.Equal(t, []*driver.Claim{old}, cs, "revoked")
			assert.NoError(t, r.Commit(ctx, mark(old, 3)), "commit of a claim that is drained")
		}
		joins := r.joins
		require.NoError(t, r.seek(t.Context(), driver.Mark{Claim: old, Offset: 1, Metadata: "m"}))
		require.Equal(t, int64(1), b.Committed("g", "t", 0))
		assert.ErrorIs(t, r.Commit(t.Context(), mark(old, 4)), driver.ErrClaimEnded)
		synctest.Wait()
		now := r.claim(0)
		require.Equal(t, []any{int64(1), "m", int64(4)}, []any{now.Start, now.Metadata, now.End})
		require.Equal(t, []string{"b", "c", "d"}, r.got(now))
		require.Same(t, other, r.claim(1), "another claim")
		require.Equal(t, joins+1, r.joins, "calls of Assign")
		require.Len(t, seen, 2)
		require.Equal(t, []any{int64(1), "m", true}, []any{seen[1].Offset, seen[1].Metadata, seen[1].Seek})

		// A claim that has ended is refused, and the others are not.
		r.onRevoke = nil
		failed := failures(t, r.seek(t.Context(), driver.Mark{Claim: old, Offset: 0}, driver.Mark{Claim: other, Offset: 1}))
		require.Len(t, failed, 1)
		require.Equal(t, old, failed[0].Mark.Claim)
		assert.ErrorIs(t, failed[0].Err, driver.ErrClaimEnded)
		require.Equal(t, []int64{1, 1}, []int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)})
	})
}

func TestSeekWithTooMuchMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a")
		r := run(t, b)
		require.NoError(t, r.seek(t.Context(), driver.Mark{Claim: r.claim(0), Offset: 1, Metadata: strings.Repeat("m", 5000)}))
		synctest.Wait()
		require.Equal(t, []any{int64(1), ""}, []any{r.claim(0).Start, r.claim(0).Metadata})
		require.Len(t, r.errs, 1)
		require.Equal(t, "OFFSET_METADATA_TOO_LARGE", testkit.Code(r.errs[0]))
	})
}

// TestSeekEndsWithItsContext: the wish ends during a drain, while the broker is away, and
// before it began. What was drained starts again where it was.
func TestSeekEndsWithItsContext(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		r := run(t, b, change)
		require.NoError(t, r.Commit(t.Context(), mark(r.claim(0), 3)))
		r.onRevoke = func(ctx context.Context, _ []*driver.Claim) { time.Sleep(2 * time.Second) }
		old := r.claim(0)
		wantNoEffect := func(ctx context.Context, want error) {
			t.Helper()
			failed := failures(t, r.seek(ctx, driver.Mark{Claim: old, Offset: 1}))
			require.Len(t, failed, 1)
			assert.ErrorIs(t, failed[0].Err, want)
			b.Start()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			require.Equal(t, int64(3), b.Committed("g", "t", 0))
		}
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		wantNoEffect(testkit.Ended(), context.Canceled)
		b.Stop()
		wantNoEffect(soon(), context.DeadlineExceeded)
		require.Same(t, old, r.claim(0), "the claim that was not drained")
		wantNoEffect(soon(), context.DeadlineExceeded)
		require.NotSame(t, old, r.claim(0), "the claim that was drained")
		require.Equal(t, int64(3), r.claim(0).Start)
	})
}

// TestSeekOfAClaimThatEndsOtherwise: a rebalance, a loss and Close come first.
func TestSeekOfAClaimThatEndsOtherwise(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		r := run(t, b, change)
		r.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			assert.NoError(t, r.Commit(ctx, mark(cs[0], 3)))
		}
		wantEnded := func(why func()) {
			t.Helper()
			answer := make(chan error, 1)
			c := r.claim(0)
			b.Stop() // or the wish would be served at once
			go func() { answer <- r.seek(t.Context(), driver.Mark{Claim: c, Offset: 1}) }()
			synctest.Wait()
			why()
			synctest.Wait()
			failed := failures(t, <-answer)
			require.Len(t, failed, 1)
			assert.ErrorIs(t, failed[0].Err, driver.ErrClaimEnded)
			require.NotEqual(t, int64(1), b.Committed("g", "t", 0))
		}
		wantEnded(func() { time.Sleep(time.Minute); b.Start() })
		synctest.Wait()
		wantEnded(func() { require.NoError(t, b.RecreateTopic("t", 1)); b.Start() })
		synctest.Wait()
		wantEnded(func() { r.Consumer.Close(testkit.Ended()) })
	})
}

// TestSeekWhoseDrainLosesTheMember: the group goes on without the member.
func TestSeekWhoseDrainLosesTheMember(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		r := run(t, b, change)
		require.NoError(t, r.Commit(t.Context(), mark(r.claim(0), 3)))
		r.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
			r.onRevoke = nil
			b.Members("g")[0].Expire()
			<-ctx.Done()
			assert.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(context.Cause(ctx)))
		}
		failed := failures(t, r.seek(t.Context(), driver.Mark{Claim: r.claim(0), Offset: 1}))
		require.Len(t, failed, 1)
		assert.ErrorIs(t, failed[0].Err, driver.ErrClaimEnded)
		synctest.Wait()
		require.Equal(t, int64(3), b.Committed("g", "t", 0))
		require.Equal(t, int64(3), r.claim(0).Start)
	})
}

// TestSeekDoesNotWaitForAStuckHandler: the drain window is over, and the position moves.
func TestSeekDoesNotWaitForAStuckHandler(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		r := run(t, b, change)
		old := r.claim(0)
		r.onRevoke = func(context.Context, []*driver.Claim) { time.Sleep(time.Minute) }
		began := time.Now()
		require.NoError(t, r.seek(t.Context(), driver.Mark{Claim: old, Offset: 1}))
		require.Equal(t, 5*time.Second, time.Since(began))
		synctest.Wait()
		assert.ErrorIs(t, r.Commit(t.Context(), mark(old, 4)), driver.ErrClaimEnded)
		require.Equal(t, int64(1), b.Committed("g", "t", 0))
		time.Sleep(time.Hour)
	})
}

func TestFindOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		require.NoError(t, b.CreateTopic("u", 1))
		require.NoError(t, b.CreateTopic("unasked", 1))
		start := time.UnixMilli(1_000_000)
		for i, at := range []int{0, 10, 5, 20, 20} {
			require.NoError(t, b.Send("t", nil, []byte{byte(i)}, memory.ToPartition(1), memory.Timestamp(start.Add(time.Duration(at)*time.Millisecond))))
		}
		require.NoError(t, b.DeleteRecords("t", 1, 1))
		g, err := b.OpenGroup(t.Context(), consumerConfig(func(cfg *driver.ConsumerConfig) { cfg.Topics = []string{"u", "gone", "t", "unasked"} }))
		require.NoError(t, err)
		f := g.(driver.OffsetFinder)
		for _, c := range []struct {
			at   time.Time
			want int64
		}{
			{time.Time{}, 1}, {time.Unix(-1, 0), 1}, {start, 1}, {start.Add(6 * time.Millisecond), 1},
			{start.Add(10 * time.Millisecond), 1}, {start.Add(10*time.Millisecond + 1), 3}, {start.Add(20 * time.Millisecond), 3},
			{start.Add(20*time.Millisecond + 1), 5}, {start.Add(time.Hour), 5},
		} {
			all, err := f.FindOffsets(t.Context(), map[string][]int32{"t": {1}}, c.at)
			require.NoError(t, err)
			require.Equal(t, []driver.FoundOffsets{{Topic: "t", Partition: 1, Begin: 1, End: 5, At: c.want}}, all, c.at)
		}

		all, err := f.FindOffsets(t.Context(), map[string][]int32{"t": {7, 2}, "gone": nil, "u": nil}, start)
		require.NoError(t, err)
		require.Len(t, all, 4)
		require.Equal(t, driver.FoundOffsets{Topic: "u"}, all[0])
		require.Equal(t, driver.FoundOffsets{Topic: "t", Partition: 2}, all[2])
		for i, partition := range map[int]int32{1: -1, 3: 7} {
			require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(all[i].Err))
			require.Equal(t, partition, all[i].Partition)
			require.Equal(t, []int64{-1, -1, -1}, []int64{all[i].Begin, all[i].End, all[i].At})
		}
		_, err = f.FindOffsets(testkit.Ended(), map[string][]int32{"t": nil}, start)
		assert.ErrorIs(t, err, context.Canceled)
		require.NoError(t, g.Close(t.Context()))
		_, err = f.FindOffsets(t.Context(), map[string][]int32{"t": nil}, start)
		assert.ErrorIs(t, err, driver.ErrClosed)
	})
}

// A topic that is created again while a seek drains is reported before its new claims are
// assigned: what comes after that report belongs to the new topic.
func TestSeekOfATopicThatIsCreatedAgain(t *testing.T) {
	eachProtocol(t, func(t *testing.T, change func(*driver.ConsumerConfig)) {
		b := newBroker(t, 2)
		send(t, b, 0, "a", "b")
		r := run(t, b, change)
		old := r.claim(0)
		r.onRevoke = func(context.Context, []*driver.Claim) {
			r.onRevoke = nil
			assert.NoError(t, b.RecreateTopic("t", 2))
			r.onAssign = func() {
				r.onAssign = nil
				assert.NotEmpty(t, r.recreated(), "reports before the new claims")
			}
		}
		got := failures(t, r.seek(t.Context(), driver.Mark{Claim: old, Offset: 1}))
		require.Equal(t, "UNKNOWN_TOPIC_ID", testkit.Code(got[0].Err))
		synctest.Wait()
		require.Len(t, r.recreated(), 2, "each partition once")
		require.Nil(t, r.onAssign, "new claims")
	})
}
