package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// reasonTimeout bounds the wait for the error of a partition that Sarama has given up. The
// error comes by another channel, and can get lost there.
const reasonTimeout = time.Second

var errClosing = errors.New("consumer is closing")

// A session serves one session of Sarama's consumer group, as its ConsumerGroupHandler. It
// lasts until the next rebalance, or with cooperative rebalancing until it is lost.
type session struct {
	c      *consumer
	end    context.CancelCauseFunc // ends it, and no other
	topics []string                // that the group is joined for
	pins   map[partition]int64     // see positions_newest.go
	eras   incarnation.Eras        // when the join began
	sess   ibm.ConsumerGroupSession

	mu        sync.Mutex // guards what follows
	revoking  int        // claims that are being revoked
	stopWatch context.CancelFunc
	reported  bool // that the membership is over
}

// Setup implements Sarama's ConsumerGroupHandler.
func (s *session) Setup(sess ibm.ConsumerGroupSession) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("Handler.Assign: panic: %v", p)
		}
	}()
	s.sess = sess
	s.c.membership.enter(s)
	s.c.positions.forget(s.topics)
	if len(sess.Claims()) == 0 {
		s.c.core.handler.Assign(nil)
	}
	s.c.topics.doubt()
	if err := s.c.positions.restartAssigned(s); err != nil {
		return err
	}
	return s.c.positions.pinAssigned(s)
}

// Cleanup implements Sarama's ConsumerGroupHandler.
func (s *session) Cleanup(ibm.ConsumerGroupSession) error {
	s.c.membership.leave()
	if cause := context.Cause(s.sess.Context()); gone(cause) {
		s.reportLost(cause)
	}
	return nil
}

// reportLost reports, once, that the membership is over, as there may be no claim that
// shows it. It must not be called by a goroutine of the core.
func (s *session) reportLost(cause error) {
	s.mu.Lock()
	reported := s.reported
	s.reported = true
	s.mu.Unlock()
	if !reported {
		s.c.core.report(membershipLost(cause))
	}
}

// ConsumeClaim implements Sarama's ConsumerGroupHandler. It returns when the claim has
// ended, which no user code can delay beyond the drain window: Sarama, and the group with
// it, would wait for it without bound.
func (s *session) ConsumeClaim(sess ibm.ConsumerGroupSession, source ibm.ConsumerGroupClaim) error {
	c := s.c
	where := partition{Topic: source.Topic(), ID: source.Partition()}
	start, skip, err := c.positions.start(s, source)
	if err != nil {
		if sess.Context().Err() == nil {
			return err // Sarama ends the session and reports it
		}
		return nil
	}
	cl := s.newClaim(sess, source, start, skip)
	if !c.claims.admit(cl) {
		return nil
	}
	c.group.Resume(list(where))            // Sarama keeps the pause of an earlier claim
	if d, _ := cl.feed.state(); d != nil { // found since Sarama began to fetch
		cl.stand()
	}
	func() {
		defer c.core.recovered("Assign")
		c.core.handler.Assign([]*driver.Claim{cl.public})
	}()
	cl.deliver(source.Messages(), sess.Context().Done())
	s.yield(cl, c.reason(cl, sess.Context()))
	return nil
}

// assigned returns the partitions that the member has been assigned.
func (s *session) assigned() (all []partition) {
	for topic, ids := range s.sess.Claims() {
		for _, id := range ids {
			all = append(all, partition{Topic: topic, ID: id})
		}
	}
	return all
}

func (s *session) newClaim(sess ibm.ConsumerGroupSession, source ibm.ConsumerGroupClaim, start, skip int64) *claim {
	c, topic, id := s.c, source.Topic(), source.Partition()
	cl := &claim{
		among: c.claims, session: s, group: c.group, core: c.core, closing: c.closing,
		where: partition{Topic: topic, ID: id}, source: source, feed: c.inspector.feed([]byte(topic), id),
		skip: skip, era: s.eras[topic], committed: -1, signal: make(chan struct{}, 1),
	}
	cl.public = &driver.Claim{
		Topic: topic, Partition: id, Start: start, Generation: sess.GenerationID(), Backend: cl,
	}
	return cl
}

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
		if !c.membership.isAssigned(cl.where) {
			return nil
		}
		select {
		case <-session.Done():
		case <-time.After(reasonTimeout):
			return nil
		}
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
	defer c.core.recovered("Lost")
	c.core.handler.Lost([]*driver.Claim{cl.public}, lost)
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
		defer c.core.recovered("Revoke")
		c.core.handler.Revoke(ctx, []*driver.Claim{cl.public})
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
