package sarama

import (
	"context"
	"errors"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// reasonTimeout bounds the wait for the error of a partition that Sarama has given up. The
// error comes by another channel, and can get lost there.
const reasonTimeout = time.Second

var errClosing = errors.New("consumer is closing")

// forget takes out cl, which has ended.
func (c *consumer) forget(cl *claim) {
	c.positions.hold(cl)
	c.inspector.forget(cl.where)
	c.claims.remove(cl)
}

// reason returns why cl is lost, or nil if it is revoked and can still be committed.
func (c *consumer) reason(cl *claim, session context.Context) error {
	if c.hard.Err() != nil {
		return context.Cause(c.hard)
	}
	if lost := c.lossOf(cl); lost != nil {
		return lost
	}
	if _, closing := c.verdict(); session.Err() == nil && !closing {
		// Sarama has closed the channel: a cooperative rebalance has revoked the claim, or
		// Sarama has given it up, and ends the session as soon as its error is read.
		c.awaitReason(cl.where, session)
	}
	if lost := c.lossOf(cl); lost != nil {
		return lost
	}
	cause := context.Cause(session)
	switch {
	case gone(cause):
		return membershipLost(cause)
	case c.failedAt(cl.where):
		return wrap(cause)
	}
	return nil
}

// awaitReason waits until session has ended, or until nothing that is known of p will end it.
// While the position at p is judged, that can end it.
func (c *consumer) awaitReason(p partition, session context.Context) {
	timeout := time.After(reasonTimeout)
	var judged <-chan struct{}
	for {
		assigned, changed := c.membership.isAssigned(p)
		if !assigned {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			if judged = c.judge.under(p); judged == nil {
				return
			}
		case <-judged:
			return
		case <-session.Done():
			return
		case <-c.closing:
			return
		}
	}
}

// lossOf returns why cl is gone, apart from a reason of the session.
func (c *consumer) lossOf(cl *claim) error {
	if !c.topics.isCurrent(cl) {
		return recreated(cl.where.Topic)
	}
	return cl.lossCause()
}

// yield takes cl from the core: by Revoke, or by Lost if it is lost.
func (s *session) yield(cl *claim, lost error) {
	c := s.c
	defer c.forget(cl)
	if lost == nil {
		s.watched(func() { c.revoke(cl, s.sess.Context()) })
		return
	}
	cl.finish()
	defer c.core.Recovered("Lost")
	c.core.Handler.Lost([]*driver.Claim{cl.public}, lost)
}

// watched runs revoke, and beside it one watch for all claims of the session.
func (s *session) watched(revoke func()) {
	s.mu.Lock()
	s.revoking++
	if s.revoking == 1 {
		ctx, stop := context.WithCancel(s.c.hard)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.c.membership.watch(ctx, s)
		}()
		s.stopWatch = func() {
			stop()
			<-done
		}
	}
	s.mu.Unlock()
	revoke()
	s.mu.Lock()
	s.revoking--
	stop := s.stopWatch
	last := s.revoking == 0
	s.mu.Unlock()
	if last {
		stop()
	}
}

// revoke revokes cl, and waits for the core's answer or for the end of the window.
func (c *consumer) revoke(cl *claim, session context.Context) {
	ctx, cancel, stop := c.window()
	defer stop()
	if lost := cl.revoking(cancel); lost != nil {
		cancel(lost)
	}
	stopLoss := context.AfterFunc(session, func() {
		if cause := context.Cause(session); gone(cause) {
			cl.setLost(membershipLost(cause))
		}
	})
	defer stopLoss()
	done := make(chan struct{})
	c.revokes.Go(func() {
		defer close(done)
		defer c.core.Recovered("Revoke")
		c.core.Handler.Revoke(ctx, []*driver.Claim{cl.public})
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
	cl.finish()
}

// window returns the context of one Revoke, a function that ends it with a cause, and one
// that releases it.
func (c *consumer) window() (context.Context, context.CancelCauseFunc, context.CancelFunc) {
	c.mu.Lock()
	end := c.deadline
	c.mu.Unlock()
	if end.IsZero() {
		end = time.Now().Add(c.cfg.DrainTimeout)
	}
	ctx, stop := context.WithDeadline(c.hard, end)
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, cancel, func() {
		cancel(nil)
		stop()
	}
}
