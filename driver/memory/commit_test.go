package memory_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestCommitNeverMovesBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.SetCommitted("g", "t", 0, 5))
		r := run(t, b, func(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest })
		// The log is empty: the position is out of range, so nothing runs on.
		<-r.done
		require.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(r.err), "committed beyond the log")

		send(t, b, 0, "a", "b", "c", "d", "e", "f", "g", "h")
		r = run(t, b)
		c := r.claim(0)
		require.Equal(t, int64(5), c.Start, "start")
		for _, step := range []struct{ commit, want int64 }{{7, 7}, {6, 7}, {7, 7}, {5, 7}, {3, 7}, {8, 8}} {
			assert.NoErrorf(t, r.Commit(t.Context(), mark(c, step.commit)), "commit %d", step.commit)
			require.Equal(t, step.want, b.Committed("g", "t", 0), "committed")
		}
	})
}

func TestCommitAnswersByMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r := run(t, b)
		ended := r.claim(1)
		b.Rebalance("g")
		synctest.Wait()
		err := r.Commit(t.Context(), []driver.Mark{{Claim: ended, Offset: 1}, {Claim: r.claim(0), Offset: 1}})
		var ce *driver.CommitError
		require.ErrorAs(t, err, &ce)
		require.Len(t, ce.Failed, 1)
		require.Equal(t, driver.Mark{Claim: ended, Offset: 1}, ce.Failed[0].Mark)
		assert.ErrorIs(t, err, driver.ErrClaimEnded, "commit")
		require.Equal(t, []int64{1, -1}, []int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)}, "committed")
		require.NoError(t, r.Commit(t.Context(), nil), "no marks")
	})
}

func TestCommitWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		err := r.Commit(testkit.Ended(), mark(r.claim(0), 1))
		assert.ErrorIs(t, err, context.Canceled, "commit")
		require.Equal(t, int64(-1), b.Committed("g", "t", 0), "committed")
		assert.NoError(t, r.Commit(testkit.Ended(), mark(r.claim(0), 0)), "a mark at Start asks for nothing")
	})
}

// Another consumer's claim is nothing that this one may commit.
func TestCommitOfForeignClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1, r2 := run(t, b), run(t, b)
		assert.ErrorIs(t, r1.Commit(t.Context(), mark(r2.claims[0], 1)), driver.ErrClaimEnded, "commit")
	})
}

func TestCommitDuringEagerRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a")
		rec := newRecorder(t)
		var r *runner
		rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			assert.NoError(t, r.Commit(ctx, mark(cs[0], 1)), "commit in Revoke")
		}
		r = runWith(t, b, rec)
		b.Rebalance("g")
		synctest.Wait()
		require.Equal(t, int64(1), b.Committed("g", "t", 0), "committed")
		require.Equal(t, int64(1), r.claim(0).Start, "start")
	})
}

// A zombie's commit comes back to a broker that has given its partition away.
func TestCommitOfSupersededGenerationIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *runner
		var refused error
		b := newBroker(t, 1)
		rec := newRecorder(t)
		rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			b.Members("g")[0].Expire()
			// The member does not know of it yet, so the broker answers.
			refused = r.Commit(ctx, mark(cs[0], 1))
		}
		r = runWith(t, b, rec)
		b.Rebalance("g")
		synctest.Wait()
		var ce *driver.CommitError
		require.ErrorAs(t, refused, &ce, "commit")
		if !errors.Is(refused, driver.ErrClaimEnded) {
			require.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(ce.Failed[0].Err))
		}
		require.Equal(t, int64(-1), b.Committed("g", "t", 0), "committed")
	})
}

func TestCommitObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []memory.Commit
		b := newBroker(t, 1, memory.WithCommitObserver(func(c memory.Commit) { seen = append(seen, c) }))
		r := run(t, b)
		for _, o := range []int64{2, 1, 3} {
			require.NoError(t, r.Commit(t.Context(), mark(r.claim(0), o)))
		}
		m := b.Members("g")[0].ID
		tp := memory.TopicPartition{Topic: "t"}
		require.Equal(t, []memory.Commit{{"g", m, 1, tp, 2, "", false, false}, {"g", m, 1, tp, 3, "", false, false}}, seen, "seen")
	})
}

func TestWaitCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		begin := time.Now()
		time.AfterFunc(3*time.Second, func() { r.Commit(context.Background(), mark(r.claim(0), 1)) })
		time.AfterFunc(5*time.Second, func() { r.Commit(context.Background(), mark(r.claim(0), 2)) })
		require.NoError(t, b.WaitCommitted(t.Context(), "g", "t", 0, 2), "WaitCommitted")
		require.Equal(t, 5*time.Second, time.Since(begin), "time")
		require.ErrorIs(t, b.WaitCommitted(testkit.Ended(), "g", "t", 0, 9), context.Canceled, "with an ended context")
	})
}

func TestSetCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c")
		r := run(t, b)
		require.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(b.SetCommitted("g", "t", 0, 1)), "with members")
		require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(b.SetCommitted("g", "t", 7, 1)), "unknown partition")
		r.Close(t.Context())
		require.NoError(t, b.SetCommitted("g", "t", 0, 2), "without")
		r = run(t, b)
		synctest.Wait()
		require.Equal(t, []string{"c"}, r.got(r.claim(0)), "values")
	})
}

// A member that commits while the assignment of its generation is not there yet
// is put off, and then served (REBALANCE_IN_PROGRESS).
func TestCommitWhileCompleting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		coop := strategies(driver.CooperativeSticky)
		r1, r2 := run(t, b, coop), run(t, b, coop)
		_ = r1
		c := r2.claims[0]
		// Many rebalances, with commits at every moment of them.
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 50 {
				b.Rebalance("g")
			}
		}()
		for i := range int64(200) {
			require.NoErrorf(t, r2.Commit(t.Context(), mark(c, i+1)), "commit %d", i+1)
		}
		<-stop
		require.Equal(t, int64(200), b.Committed("g", "t", c.Partition), "committed")
	})
}

// A sleeping observer blocks committing members in a way that virtual time notices.
func TestObserverMaySleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2, memory.WithCommitObserver(func(memory.Commit) { time.Sleep(time.Millisecond) }))
		send(t, b, 0, "a")
		send(t, b, 1, "a")
		r1 := run(t, b)
		r2 := run(t, b)
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for _, r := range []*runner{r1, r2} {
			for _, c := range r.claims {
				wg.Go(func() { r.Commit(t.Context(), mark(c, 1)) })
			}
		}
		wg.Wait()
	})
}

// TestCommittedMetadata: the broker stores metadata with the offset, shows it to the observer,
// and drops it with the offset. A position that the broker itself makes durable has none.
func TestCommittedMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		b := newBroker(t, 1, memory.WithCommitObserver(func(c memory.Commit) { seen = append(seen, c.Metadata) }))
		send(t, b, 0, "a", "b", "c")
		require.NoError(t, b.SetCommittedMetadata("g", "t", 0, 1, "operator's"))
		require.Equal(t, "OFFSET_METADATA_TOO_LARGE", testkit.Code(b.SetCommittedMetadata("g", "t", 0, 1, strings.Repeat("m", 4097))))
		r := run(t, b)
		require.Equal(t, "operator's", r.claim(0).Metadata)
		require.NoError(t, r.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 1, Metadata: strings.Repeat("m", 4096)}}))
		require.NoError(t, r.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 2, Metadata: "mine"}}))
		require.Equal(t, []string{strings.Repeat("m", 4096), "mine"}, seen)
		require.Equal(t, "mine", b.CommittedMetadata("g", "t", 0))

		require.NoError(t, b.RecreateTopic("t", 1))
		synctest.Wait()
		require.Empty(t, r.claim(0).Metadata, "of a topic that was created again")
		require.Empty(t, b.CommittedMetadata("g", "t", 0))
	})
}
