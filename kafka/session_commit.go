package kafka

import (
	"context"
	"errors"
	"slices"
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
	job      *job
	driver   driver.Consumer
	claims   *claims
	schedule *schedule
	requests chan commitRequest
	stop     chan struct{}
	done     chan struct{}

	// interrupt ends the commit under way that no caller waits for, if there is
	// one. waiters counts the callers that wait.
	interrupt atomic.Pointer[context.CancelCauseFunc]
	waiters   atomic.Int32

	op     Op  // the commit under way, to hooks
	offs   int // the job's count of switch-offs when the session began
	denied int // commits in a row that were refused permanently
}

// A commitRequest asks for a commit of everything that has moved by now. done
// is closed after it, whether it succeeded or not.
type commitRequest struct {
	ctx  context.Context
	done chan struct{}
}

// commitTimeout bounds a commit that no caller waits for. A commit that fails is
// tried again after CommitInterval.
const commitTimeout = 5 * time.Second

// errOvertaken ends a commit that no caller waits for when another one has a
// waiting caller: what it carries goes with that one.
var errOvertaken = errors.New("commit overtaken by a revocation's")

func newCommitter(j *job, d driver.Consumer, offs int) *committer {
	return &committer{
		job:      j,
		driver:   d,
		schedule: newSchedule(j.cfg.CommitInterval),
		op:       j.m.newOp(OpCommit, j.client),
		offs:     offs,
		requests: make(chan commitRequest),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// commit commits everything that has moved by now, and returns when that has
// been tried or ctx ends. It does not wait for a commit that hangs.
func (c *committer) commit(ctx context.Context) {
	r := commitRequest{ctx: ctx, done: make(chan struct{})}
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	if interrupt := c.interrupt.Load(); interrupt != nil {
		(*interrupt)(errOvertaken)
	}
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
	when := c.schedule
	when.start()
	defer when.timer.Stop()
	for {
		select {
		case <-c.stop:
			return
		case r := <-c.requests:
			when.tried(c.serve(r))
		case <-when.wakeup:
			when.after(when.interval)
		case <-when.idle:
			when.by(when.earliest)
		case <-when.timer.C:
			when.fired()
			when.tried(c.commitInBackground(ctx))
		}
	}
}

// commitInBackground makes a commit that no caller waits for, and gives way to one
// that a caller waits for. It looks for a waiting caller after it can be interrupted.
// Otherwise this could happen: a caller finds nothing to interrupt and then waits for
// this commit, which hangs.
func (c *committer) commitInBackground(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	c.interrupt.Store(&interrupt)
	defer c.interrupt.Store(nil)
	if c.waiters.Load() > 0 {
		return errOvertaken
	}
	return c.commitMoved(ctx, false)
}

// serve answers r and every other request that waits already, in one commit:
// under the context that lasts longest, and under the next one if that is
// cancelled, since a claim that is lost must not take the others' commit along.
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
	slices.SortStableFunc(waiting, byPatience)
	var err error
	for i, w := range waiting {
		err = c.commitMoved(w.ctx, true)
		close(w.done)
		if err == nil || w.ctx.Err() == nil {
			for _, w := range waiting[i+1:] {
				close(w.done)
			}
			break
		}
	}
	return err
}

// byPatience orders the context that ends last first, as far as deadlines tell.
func byPatience(a, b commitRequest) int {
	da, aEnds := a.ctx.Deadline()
	db, bEnds := b.ctx.Deadline()
	switch {
	case aEnds && bEnds:
		return db.Compare(da)
	case aEnds:
		return 1
	case bEnds:
		return -1
	}
	return 0
}

// commitMoved commits every position that is ahead of what is durable. The
// flag is cleared before positions are read: a lane that moves on in between
// sets it again. awaited is for the hooks.
func (c *committer) commitMoved(ctx context.Context, awaited bool) error {
	c.schedule.clear()
	var marks []driver.Mark
	for _, p := range c.claims.unexpired() {
		if p.brake.fenced() {
			continue // what was handled after the deadline may be another member's by now
		}
		if m, news := p.intake.mark(); news {
			marks = append(marks, m)
		}
	}
	if len(marks) == 0 {
		return nil
	}
	err := c.send(ctx, marks, awaited)
	switch {
	case err == nil:
		c.denied = 0
	case context.Cause(ctx) != errOvertaken:
		c.report(err)
	}
	return err
}

// send makes marks durable, and notes which are.
func (c *committer) send(ctx context.Context, marks []driver.Mark, awaited bool) error {
	watched := len(c.op.tokens) > 0
	if watched {
		ctx = c.op.beginCommit(ctx, marks, awaited)
	}
	err := c.note(marks, guard(func() error { return c.driver.Commit(ctx, marks) }))
	if watched {
		c.op.endCommit(err, err != nil && context.Cause(ctx) == errOvertaken)
	}
	return err
}

// note records which marks are durable and returns the error of those that are not,
// except for claims that have ended meanwhile, whose positions are the next
// owner's.
func (c *committer) note(marks []driver.Mark, err error) error {
	bad := make(map[*driver.Claim]error)
	var ce *driver.CommitError
	switch {
	case err == nil:
	case errors.As(err, &ce) && len(ce.Failed) > 0:
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
			m.Claim.Owner.(*partition).intake.acknowledged(m)
		case !errors.Is(err, driver.ErrClaimEnded):
			failed.Failed = append(failed.Failed, driver.MarkError{Mark: m, Err: err})
		}
	}
	if len(failed.Failed) == 0 {
		c.job.noteCommit(nil)
		c.job.noteContact()
		return nil
	}
	return &failed
}

// report reports a failed commit. It does not restart anything: consumption goes
// on, and the marks are sent again. Only a broker that keeps refusing, as
// an ErrPermanent says, disables the consumer after MaxConsecutiveErrors refusals in
// a row: all that it handles would be handled again by the next owner, so it is of
// no use until the refusal is cured, and an operator has to see that.
func (c *committer) report(err error) {
	job := c.job
	job.noteCommit(err)
	job.log.Warn("kafka: commit failed", "error", loggable(err))
	job.event(CommitFailed{JobName: job.name(), Err: err})
	if !errors.Is(err, ErrPermanent) {
		c.denied = 0
		return
	}
	c.denied++
	w, _ := job.want()
	if most := job.cfg.MaxConsecutiveErrors; most != Unlimited && c.denied >= most && w.offs == c.offs {
		job.disable(err, w)
	}
}

// beginCommit starts the operation of a commit.
func (o *Op) beginCommit(ctx context.Context, marks []driver.Mark, awaited bool) context.Context {
	o.Awaited, o.Err, o.Outcome = awaited, nil, OutcomeDone
	o.Topic, o.Partition = marks[0].Claim.Topic, marks[0].Claim.Partition
	if len(marks) > 1 {
		o.Partition = -1
	}
	o.Marks = o.Marks[:0]
	for _, m := range marks {
		o.Marks = append(o.Marks, OpMark{Topic: m.Claim.Topic, Partition: m.Claim.Partition, Offset: m.Offset})
		if m.Claim.Topic != marks[0].Claim.Topic {
			o.Topic = ""
		}
	}
	o.Start = time.Now()
	return o.start(ctx)
}

// endCommit ends it. One that makes way for another has not failed.
func (o *Op) endCommit(err error, madeWay bool) {
	if o.Err = err; madeWay {
		o.Err, o.Outcome = nil, OutcomeInterrupted
	}
	o.end()
}
