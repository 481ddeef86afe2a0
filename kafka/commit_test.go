package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B26, B27: a failed commit keeps its marks, and a commit does not clear the marks
// of records that are handled during it. B20: nothing restarts.
func TestB27_FailedCommitKeepsItsMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		refuse := 3
		d.commit = func(_ context.Context, marks []driver.Mark) error {
			if refuse == 0 {
				return nil
			}
			refuse--
			return &driver.CommitError{Failed: []driver.MarkError{{Mark: marks[0], Err: errors.New("not now")}}}
		}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return nil }, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 4)
		pass(500 * time.Millisecond)
		s := state(t, m)
		require.Error(t, s.CommitError)
		require.Equal(t, StateRunning, s.State)
		pass(5 * time.Second)
		require.Equal(t, []int64{5}, c.committed(cl))
		require.NoError(t, state(t, m).CommitError)
		require.Equal(t, 1, d.openCount(), "sessions")
		require.Len(t, eventsOf[CommitFailed](hook), 3)
	})
}

func TestB26_RecordsHandledDuringACommitAreCommittedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		slow := make(chan struct{})
		first := true
		d.commit = func(context.Context, []driver.Mark) error {
			if first {
				first = false
				<-slow
			}
			return nil
		}
		start(t, d, testConfig(), func(context.Context, []byte) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(2 * time.Second) // the commit of 2 is under way
		c.deliver(cl, 2, 5)
		pass(time.Second)
		close(slow)
		pass(2 * time.Second)
		require.Equal(t, []int64{2, 6}, c.committed(cl))
	})
}

// A position that moves while a commit is under way is committed by the next one. Here the
// partition never runs empty, which would ask for a commit of its own.
func TestAPositionThatMovesDuringACommitIsInTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		slow := make(chan struct{})
		first := true
		d.commit = func(context.Context, []driver.Mark) error {
			if first {
				first = false
				<-slow
			}
			return nil
		}
		next := make(chan struct{}) // lets the handler of one record return
		start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
			select {
			case <-next:
			case <-ctx.Done():
			}
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		next <- struct{}{}
		pass(2 * time.Second) // the commit of 1 is under way
		next <- struct{}{}
		synctest.Wait()
		close(slow)
		pass(2 * time.Second) // nothing else moves, and record 2 has not been handled
		assert.Equal(t, []int64{1, 2}, c.committed(cl))
	})
}

// B04: with AutoCommit a record that was handed out is committed, handled or not.
func TestB04_AutoCommitCommitsWhatWasHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.AutoCommit = true
		d := &fakeDriver{}
		start(t, d, cfg, func(_ context.Context, v []byte) error {
			if string(v) == "2" {
				return errHandler
			}
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(1100 * time.Millisecond)
		require.Equal(t, []int64{3}, c.committed(cl), "record 2 fails: it was handed out, 3 was not")
	})
}

func TestHoleAtTheEndIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(context.Context, []byte) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(2 * time.Second)
		c.h.Deliver(cl, driver.Batch{Next: 7})
		pass(2 * time.Second)
		require.Equal(t, []int64{2, 7}, c.committed(cl))
	})
}

// Commits that fail are spaced by the interval, however often a queue runs empty.
func TestFailingCommitsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		n := 0
		d.commit = func(context.Context, []driver.Mark) error { n++; return errDial }
		start(t, d, testConfig(), nothing)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		for offset := range int64(1000) {
			c.deliver(cl, offset, offset)
			pass(10 * time.Millisecond)
		}
		require.GreaterOrEqual(t, n, 5, "failed commits in 10s, with an interval of 1s")
		require.LessOrEqual(t, n, 11, "failed commits in 10s, with an interval of 1s")
	})
}

// AutoCommit commits a record that has been handed out, also while its handler runs.
func TestAutoCommitDoesNotWaitForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.AutoCommit = true
		release := make(chan struct{})
		start(t, d, cfg, func(context.Context, []byte) error { <-release; return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(2 * time.Second)
		assert.Equal(t, []int64{1}, c.committed(cl))
		close(release)
	})
}

// A commit that no caller waits for gives way to a caller that came before it could be
// interrupted: that caller found nothing to interrupt, and would wait for a commit that
// hangs.
func TestBackgroundCommitGivesWayToAnEarlierCaller(t *testing.T) {
	c := &committer{} // a commit would need the claims
	c.waiters.Add(1)
	require.ErrorIs(t, c.commitInBackground(t.Context()), errOvertaken)
	require.Nil(t, c.interrupt.Load())
}
