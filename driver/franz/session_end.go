package franz

import (
	"context"
	"slices"
	"sync"
	"time"
)

// giveUp ends claims that are gone.
func (s *session) giveUp(claims []*claim, cause error) {
	if len(claims) == 0 {
		return
	}
	s.ended(claims)
	defer s.c.core.Recovered("Lost")
	s.c.core.Handler.Lost(public(claims), cause)
}

// ended takes out claims that have ended. The core need not have been called.
func (s *session) ended(claims []*claim) {
	for _, cl := range claims {
		cl.finish()
		s.c.positions.keep(cl)
	}
	s.forgetStands(claims)
	s.claims.remove(claims)
}

// yield takes claims from the core, which are no longer live: by Lost if they are lost, and
// else by Revoke. It returns when they have ended.
func (s *session) yield(claims []*claim) {
	byTopic := map[string][]*claim{}
	for _, cl := range claims {
		byTopic[cl.where.Topic] = append(byTopic[cl.where.Topic], cl)
	}
	var revokes sync.WaitGroup
	for _, some := range byTopic { // a whole topic can be lost while it is revoked
		lost := s.lossOf(some[0])
		if lost != nil {
			s.giveUp(some, lost)
			continue
		}
		revokes.Go(func() { s.revoke(some) })
	}
	revokes.Wait()
}

// lossOf returns why a claim is gone, or nil if it can still be committed.
func (s *session) lossOf(cl *claim) error {
	if s.c.hard.Err() != nil {
		return context.Cause(s.c.hard)
	}
	if !s.c.topics.isCurrent(cl) {
		return recreated(cl.where.Topic)
	}
	return cl.lossCause()
}

// revoke revokes claims of one topic, and waits for the core's answer or for the end of the
// window.
func (s *session) revoke(claims []*claim) {
	c := s.c
	ctx, cancel, stop := c.window()
	defer stop()
	for _, cl := range claims {
		if lost := cl.revoking(cancel); lost != nil {
			cancel(lost)
		}
	}
	done := make(chan struct{})
	c.revokes.Go(func() {
		defer close(done)
		defer c.core.Recovered("Revoke")
		c.core.Handler.Revoke(ctx, public(claims))
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.ended(claims)
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

// leaveWait bounds the requests with which a session ends, unless Close bounds them.
const leaveWait = 2 * time.Second

// finish ends all claims, leaves the group, and closes the client. Kgo keeps the membership
// until the claims have ended.
func (s *session) finish() {
	var live []*claim
	s.turn.quiet(func() { live = s.claims.take(nil) })
	s.yield(live)
	s.jobs.Wait()
	for _, cl := range s.claims.undone(s) { // kgo's goroutine is revoking them
		<-cl.ended
	}
	by, _ := s.member()
	s.c.membership.leave()
	if s.c.membership.byEpochs && by.generation <= 0 { // kgo may be about to join, under an ID that it chooses then
		s.close()
		by, _ = s.member()
	}
	if by.id != "" { // it may not know its generation yet
		s.depart(by)
	}
	s.close()
	s.mu.Lock()
	lost := s.lost
	s.lost = nil
	s.mu.Unlock()
	s.giveUp(lost, membershipLost(context.Cause(s.running))) // kgo has ended between two calls
}

// depart leaves the group, after it has restarted the partitions of topics that were created
// again: as a member it still may. A static member stays, until its session times out, so
// that it can come back. But a member that owes the group a rejoin would take partitions
// with it that no other gets (KIP-345), so that one leaves.
func (s *session) depart(by member) {
	ctx, cancel := context.WithTimeout(s.c.hard, leaveWait)
	defer cancel()
	if err := s.c.positions.restartHeld(ctx, s.c.topics.known.Eras(), by); err != nil {
		s.c.core.Report(wrap(err))
	}
	s.mu.Lock()
	owes := s.owes
	s.mu.Unlock()
	if s.c.membership.byEpochs {
		s.close() // a join that is under way would bring the member back
		s.c.coordinator.leaveEpochs(ctx, by)
		return
	}
	if s.c.cfg.InstanceID != "" && !owes {
		return
	}
	s.close() // a join that is under way would bring the member back
	_ = s.c.coordinator.leave(ctx, by)
}

// close closes the client at once. It waits for kgo's callbacks, all of which are bounded.
func (s *session) close() {
	s.closing.Do(func() {
		s.cut()
		s.line.Sever()
		s.client.Close()
	})
}

// forgetStands drops the state of claims that could not be read on.
func (s *session) forgetStands(claims []*claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cl := range claims {
		delete(s.standings, cl)
	}
}

// restart ends the claims of topics that were created again, and the session with them: kgo
// never follows a topic to its new ID. The claims of other topics are revoked.
func (c *consumer) restart(changed map[string]bool) {
	s := c.membership.current()
	var lost []*claim
	if s != nil {
		lost = slices.DeleteFunc(s.claims.undone(s), func(cl *claim) bool { return !changed[cl.where.Topic] })
	}
	c.positions.begin(changed, lost)
	for _, cl := range lost {
		cl.setLost(recreated(cl.where.Topic))
	}
	if s != nil {
		for topic := range changed {
			s.end(recreated(topic))
		}
	}
}
