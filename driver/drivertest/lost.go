package drivertest

import (
	"context"
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

func lostChecks() []check {
	return []check{
		{"LostWhenTheSessionEnds", "Lost reports claims that are already gone. Run must recover from everything that rejoining the group can cure.", lostWhenTheSessionEnds},
		{"LostNamesItsCause", "The cause of Lost has the code of the broker's answer from which the driver learned of the loss.", lostNamesItsCause},
		{"LossCancelsRevoke", "If the claims are lost while Revoke runs, the driver must cancel its ctx with that cause as soon as it knows, and must not call Lost.", lossCancelsRevoke},
		{"AnotherMemberKeepsNoClaim", "When the group has removed the member, all its claims must be Lost, also those that a rebalance under way would have kept: what joins again is another member.", anotherMemberKeepsNoClaim},
	}
}

func anyLost(m *member) bool {
	return slices.ContainsFunc(m.owned, func(o *ownership) bool { return o.lost })
}

func lostWhenTheSessionEnds(e *env) {
	ender := ability[SessionEnder](e)
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	m.commit(claim, 4)
	e.must(ender.EndSessions(e.context(), group))
	m.await("the loss of the claim", func() bool { return !m.ownership(claim).alive() })
	again := m.waitClaims(1)[0]
	e.mu.Lock()
	o := m.ownership(claim)
	if !o.lost {
		e.errorf("the claim was ended by Revoke, want Lost")
	} else if o.cause == nil {
		e.errorf("the cause of Lost is nil")
	}
	e.mu.Unlock()
	if again.Start != 4 {
		e.errorf("the new claim starts at %d, want the committed offset, 4", again.Start)
	}
	m.waitRecords(again, 6)
	m.wantValues(e.name, again, numbered("v", 10)[4:])
}

func lossCancelsRevoke(e *env) {
	ender := ability[SessionEnder](e)
	n := e.moving()
	topic, group := e.topic(int32(n)), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	cfg.DrainTimeout, cfg.RebalanceTimeout = 2*e.Patience, 4*e.Patience
	a := e.open(cfg)
	entered, causes := make(chan struct{}), make(chan error, 1)
	a.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
		close(entered)
		<-ctx.Done()
		causes <- context.Cause(ctx)
	}
	a.start()
	a.waitClaims(n)
	b := e.join(cfg)
	receive(e, "a member in Revoke", entered)
	e.change(func() { e.zombies = true; a.onRevoke = nil })
	e.must(ender.EndSessions(e.context(), group))
	cause := receive(e, "the end of Revoke's context", causes)
	if errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled) {
		e.errorf("the cause of the end of Revoke's context is %v, want the reason for the loss of the claims", cause)
	}
	e.judgeError("the cause of the end of Revoke's context", cause)
	b.stop()
	a.waitClaims(n)
}

// lostNamesItsCause has claims lost for two reasons, so that no single cause fits both.
func lostNamesItsCause(e *env) {
	ender := ability[SessionEnder](e)
	topic, group := e.topic(1), e.unique("group")
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	e.must(ender.EndSessions(e.context(), group))
	cause := m.lossOf(claim)
	if !errors.Is(cause, driver.ErrMembershipLost) || !slices.Contains(removals, codeOf(cause)) {
		e.errorf("the group has removed the member: the cause of Lost is %v, want one that wraps ErrMembershipLost with a code of %q", cause, removals)
	}
	m.stop()

	topic = e.topic(1)
	m, claim = consume(e, topic)
	loseItsPlace(e, m, claim)
	if cause := m.lossOf(claim); codeOf(cause) != "OFFSET_OUT_OF_RANGE" {
		e.errorf("the position is not in the log: the cause of Lost is %v, want OFFSET_OUT_OF_RANGE", cause)
	}
	_ = m.waitRun(e.name)
	m.closeAfterFailure()
}

// removals are the answers of a broker to a member that the group has removed.
var removals = []string{"UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_MEMBER_EPOCH"}

// lossOf waits until a claim is lost, and returns the cause.
func (m *member) lossOf(c *driver.Claim) (cause error) {
	m.e.t.Helper()
	m.await("the loss of a claim", func() bool {
		o := m.ownership(c)
		cause = o.cause
		return o.lost
	})
	return cause
}

// anotherMemberKeepsNoClaim ends the session of a member that is giving up a part of its
// claims. It learns that from a heartbeat or, if it sends none meanwhile, from its next
// request to join.
func anotherMemberKeepsNoClaim(e *env) {
	ender := ability[SessionEnder](e)
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	e.strategy(&cfg, driver.CooperativeSticky)
	cfg.DrainTimeout, cfg.RebalanceTimeout = e.Patience, 2*e.Patience
	a := e.join(cfg)
	a.waitClaims(2)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	kept := a.waitClaims(1)[0]
	e.change(func() { e.zombies = true; a.onRevoke = nil })
	e.must(ender.EndSessions(e.context(), group))
	release()
	a.await("the end of the claim that was kept", func() bool { return !a.ownership(kept).alive() })
	a.await("the loss of the claim that was kept", func() bool { return a.ownership(kept).lost })
	if again := a.waitClaims(1)[0]; again == kept {
		e.errorf("the claim of the member that was removed lives on")
	}
	b.waitClaims(1)
}
