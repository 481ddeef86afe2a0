package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// openTimeout bounds one attempt to reach the cluster.
const openTimeout = 30 * time.Second

// An ending is how a session ended.
type ending struct {
	err     error // why; nil if that was asked for
	healthy bool  // it was worth its start

	// wish is what was wanted when it failed, or when it began if it failed before
	// it was a member. A switch-on since then does not wait for a backoff.
	wish wish
}

// A session is one life of a job's driver consumer, from open to close. What the
// driver reports meanwhile arrives at its claims.
type session struct {
	job       *job
	driver    driver.Consumer
	member    *membership
	claims    *claims
	committer *committer
	cancel    context.CancelCauseFunc // of the parent of all handlers' contexts
}

// newSession prepares a session whose handlers' contexts carry the values of
// ctx, but not its end: that begins a shutdown, in which handlers may finish.
func newSession(ctx context.Context, j *job, d driver.Consumer, letters *outbox, offs int) *session {
	ctx = context.WithValue(context.WithoutCancel(ctx), handlerKey{}, j)
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{job: j, driver: d, member: newMembership(j.cfg.Backoff), committer: newCommitter(j, d, offs), cancel: cancel}
	c := &claims{job: j, member: s.member, committer: s.committer}
	c.deadline.until = sessionDeadline(d)
	c.env = j.env(ctx, d, s.committer.schedule, c)
	if letters != nil {
		c.env.forwarder = letters
	}
	s.claims, s.committer.claims = c, c
	return s
}

// halt halts all partitions, now and to come. With a cause it also cancels the
// contexts of the handlers that run. It does not wait.
func (s *session) halt(cause error) {
	s.claims.halt(cause)
	if cause != nil {
		s.cancel(cause)
	}
}

// runSession opens a driver consumer, serves it, and closes it. w is what was
// wanted when it began: when its count of switch-offs changes, the session ends.
func (j *job) runSession(ctx context.Context, w wish) ending {
	j.setState(StateStarting, j.reason())
	letters, err := j.openLetters(ctx, w.offs)
	if err != nil {
		return ending{err: err, wish: w}
	}
	defer letters.close()
	d, err := j.open(ctx, w.offs)
	if err != nil {
		return ending{err: err, wish: w}
	}
	s := newSession(ctx, j, d, letters, w.offs)
	defer s.cancel(context.Canceled)
	defer context.AfterFunc(j.m.until(handlersFinish), func() { s.cancel(ErrShutdown) })()
	e := ending{wish: w}
	if j.attach(s, w.offs) {
		e.wish, e.err = s.serve(w)
	} else {
		e.err = s.close(nil, nil)
	}
	j.detach()
	e.healthy = s.member.healthy()
	return e
}

// open dials. It ends at once when the job is switched off or stopped.
func (j *job) open(ctx context.Context, offs int) (d driver.Consumer, err error) {
	err = j.whileWanted(ctx, offs, func(ctx context.Context) (err error) {
		d, err = j.m.driver.OpenConsumer(ctx, j.dcfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return d, nil
}

// whileWanted calls dial, which opens something for the job. The context of dial ends
// after openTimeout, and when a session that began with offs is to end. A panic of the
// driver is an error.
func (j *job) whileWanted(ctx context.Context, offs int, dial func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTimeout)
	defer cancel()
	opened := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if j.awaitEnd(offs, opened) {
			cancel()
		}
	}()
	err := guard(func() error { return dial(ctx) })
	close(opened)
	<-watched
	return err
}

// awaitEnd waits until a session that began with offs is to end, and returns
// true; or until done is closed, and returns false.
func (j *job) awaitEnd(offs int, done <-chan struct{}) bool {
	for {
		w, changed := j.want()
		if w.stop || w.offs != offs {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// attach makes s the session that switches act on, unless it is unwanted already.
func (j *job) attach(s *session, offs int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wish.stop || j.wish.offs != offs {
		return false
	}
	j.session = s
	return true
}

func (j *job) detach() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.session = nil
}

// serve runs the driver until it ends by itself or is no longer wanted, then
// closes it. It returns why it ended, nil if that was asked for, and what was
// wanted then.
func (s *session) serve(w wish) (wish, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.committer.run(ctx)
	ran := make(chan error, 1)
	go func() { ran <- guard(func() error { return s.driver.Run(s.claims) }) }()

	err := s.await(w.offs, ran)
	if isClosed(s.member.joined) {
		now, _ := s.job.want()
		w.ons = now.ons
	}
	if closeErr := s.close(ran, err); err == nil {
		err = closeErr
	}
	s.claims.abandon()
	s.claims.deadline.stop()
	close(s.committer.stop)
	cancel()
	<-s.committer.done
	return w, err
}

// await returns the driver's error when it has ended by itself, or nil when the
// session is no longer wanted. Meanwhile the job's state follows the membership.
func (s *session) await(offs int, ran chan error) error {
	for {
		w, changed := s.job.want()
		if w.stop || w.offs != offs {
			return nil
		}
		select {
		case err := <-ran:
			ran <- err // for close, which waits for Run
			if err == nil {
				err = errRunEnded
			}
			return err
		case <-changed:
		case <-s.member.stood:
			s.enter()
		}
	}
}

// close drains and closes the driver, and waits until its Run, if it was
// started, has returned. reason is why the session has failed, if it has.
func (s *session) close(ran <-chan error, reason error) error {
	s.job.setState(StateStopping, reason)
	ctx, cancel := s.job.closeContext()
	defer cancel()
	err := guard(func() error { return s.driver.Close(ctx) })
	if ran != nil {
		<-ran
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("close: %w", err)
	s.job.log.Warn("kafka: leaving the group failed", "error", loggable(err))
	if s.job.stopping() {
		s.job.stopErr = err
	}
	return err
}

// closeContext bounds the closing of a session: by the drain window and some
// time to leave the group, or by the shutdown's deadline where there is one.
// It holds for a shutdown that begins in the middle, too.
func (j *job) closeContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), j.cfg.DrainTimeout+leaveTimeout)
	if j.stopping() {
		cancel()
		ctx, cancel = context.WithCancel(context.Background())
	}
	unhook := context.AfterFunc(j.m.until(consumersLeave), cancel)
	return ctx, func() { unhook(); cancel() }
}

// leaveTimeout is for the commit and for leaving the group after a drain.
const leaveTimeout = 5 * time.Second

// reserve returns a context that ends a little before ctx, and in a shutdown a
// stage before consumers are severed, so that there is time for a commit after
// what it bounds.
func (j *job) reserve(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if deadline, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/5, time.Second)))
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	unhook := context.AfterFunc(j.m.until(handlersGivenUp), cancel)
	return ctx, func() { unhook(); cancel() }
}

// guard calls a driver's method, and makes a panic in it an error like any other.
func guard(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("driver panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return call()
}

// errRunEnded is reported for a driver that returns from Run without having been
// closed.
var errRunEnded = errors.New("driver stopped without being closed")
