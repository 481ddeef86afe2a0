package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A committer makes the positions of a session durable: one goroutine, so one
// commit at a time, which carries whatever has moved. It commits each
// CommitInterval, soon after a partition has run empty, and on request.
//
// A position counts as committed only when the driver has said so; after a
// failure it is simply still ahead of what is committed, and the next commit
// carries it again.
type committer struct {
	s     *session
	dirty atomic.Bool // something has moved since positions were last read

	wakeup   chan struct{} // one token: dirty has become true
	idle     chan struct{} // one token: a partition has run empty
	requests chan commitRequest
	stop     chan struct{}
	done     chan struct{}

	denied int // commits in a row that were refused for good
}

// A commitRequest asks for a commit of everything that has moved by now. done
// is closed after it, whether it succeeded or not.
type commitRequest struct {
	ctx  context.Context
	done chan struct{}
}

// commitTimeout bounds a commit that nobody waits for. A commit that fails is
// tried again after CommitInterval.
const commitTimeout = 5 * time.Second

// commitGap is the least time between two commits for partitions that ran
// empty. On a quiet topic each record is committed at once; a busy one whose
// queue runs empty between any two fetches is not asked for thousands a second.
const commitGap = 20 * time.Millisecond

func newCommitter(s *session) *committer {
	return &committer{
		s:        s,
		wakeup:   make(chan struct{}, 1),
		idle:     make(chan struct{}, 1),
		requests: make(chan commitRequest),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// moved says that a position has moved. Workers call it after each record, so
// it costs one atomic load once it is known.
func (c *committer) moved() {
	if c.dirty.Load() || !c.dirty.CompareAndSwap(false, true) {
		return
	}
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

// ranEmpty says that a partition has nothing left to handle.
func (c *committer) ranEmpty(p *partition) {
	if p.position() <= p.committed.Load() {
		return
	}
	select {
	case c.idle <- struct{}{}:
	default:
	}
}

// commit commits everything that has moved by now, and returns when that has
// been tried or ctx ends.
func (c *committer) commit(ctx context.Context) {
	r := commitRequest{ctx: ctx, done: make(chan struct{})}
	select {
	case c.requests <- r:
	case <-ctx.Done():
		return
	case <-c.done:
		return
	}
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

// run is the committer's goroutine. ctx ends when the session is over.
func (c *committer) run(ctx context.Context) {
	defer close(c.done)
	var (
		timer = time.NewTimer(time.Hour)
		due   time.Time // when the timer fires; zero if it is not set
		last  time.Time
	)
	timer.Stop()
	defer timer.Stop()
	by := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
			timer.Reset(time.Until(t))
		}
	}
	tried := func(err error) {
		last = time.Now()
		if err != nil {
			by(last.Add(c.s.job.cfg.CommitInterval))
		}
	}
	for {
		select {
		case <-c.stop:
			return
		case r := <-c.requests:
			tried(c.serve(r))
		case <-c.wakeup:
			by(time.Now().Add(c.s.job.cfg.CommitInterval))
		case <-c.idle:
			by(last.Add(commitGap))
		case <-timer.C:
			due = time.Time{}
			commitCtx, cancel := context.WithTimeout(ctx, commitTimeout)
			tried(c.commitMoved(commitCtx))
			cancel()
		}
	}
}

// serve answers r and every other request that waits already, in one commit.
func (c *committer) serve(r commitRequest) error {
	waiting := []commitRequest{r}
	for more := true; more; {
		select {
		case r := <-c.requests:
			waiting = append(waiting, r)
		default:
			more = false
		}
	}
	// The commit may take as long as the most patient of them waits; each of the
	// others stops waiting by itself.
	ctx := r.ctx
	for _, w := range waiting[1:] {
		if later(w.ctx, ctx) {
			ctx = w.ctx
		}
	}
	err := c.commitMoved(ctx)
	for _, w := range waiting {
		close(w.done)
	}
	return err
}

// later reports whether a ends after b, as far as deadlines tell.
func later(a, b context.Context) bool {
	da, ok := a.Deadline()
	if !ok {
		return true
	}
	db, ok := b.Deadline()
	return ok && da.After(db)
}

// commitMoved commits every position that is ahead of what is durable. The
// flag is cleared before positions are read: a worker that moves on in between
// sets it again.
func (c *committer) commitMoved(ctx context.Context) error {
	select {
	case <-c.wakeup:
	default:
	}
	c.dirty.Store(false)
	var marks []driver.Mark
	for _, p := range c.s.live() {
		if pos := p.position(); pos > p.committed.Load() {
			marks = append(marks, driver.Mark{Claim: p.claim, Offset: pos})
		}
	}
	if len(marks) == 0 {
		return nil
	}
	err := c.s.driver.Commit(ctx, marks)
	failed := c.note(marks, err)
	if failed == nil {
		c.denied = 0
		return nil
	}
	c.tell(failed)
	return failed
}

// note records which marks are durable and returns the error of those that are
// not, but for claims that have ended meanwhile: these are nobody's concern.
func (c *committer) note(marks []driver.Mark, err error) error {
	bad := make(map[*driver.Claim]error)
	var ce *driver.CommitError
	switch {
	case err == nil:
	case errors.As(err, &ce):
		for _, f := range ce.Failed {
			bad[f.Mark.Claim] = f.Err
		}
	default:
		for _, m := range marks {
			bad[m.Claim] = err
		}
	}
	var failed driver.CommitError
	for _, m := range marks {
		err, isBad := bad[m.Claim]
		switch {
		case !isBad:
			m.Claim.Owner.(*partition).committed.Store(m.Offset)
		case !errors.Is(err, driver.ErrClaimEnded):
			failed.Failed = append(failed.Failed, driver.MarkError{Mark: m, Err: err})
		}
	}
	if len(failed.Failed) == 0 {
		c.s.job.noteCommit(nil)
		return nil
	}
	return &failed
}

// tell reports a failed commit. It does not restart anything: consumption goes
// on, and the marks are sent again. Only a broker that keeps refusing for good
// switches the consumer off, since all that it handles would be handled again.
func (c *committer) tell(err error) {
	job := c.s.job
	job.noteCommit(err)
	job.log.Warn("kafka: commit failed", "error", err)
	job.event(CommitFailed{JobName: job.name(), Err: err})
	if !errors.Is(err, ErrPermanent) {
		return
	}
	c.denied++
	if c.denied >= job.cfg.MaxConsecutiveErrors {
		job.disable(err)
	}
}
