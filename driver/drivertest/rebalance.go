package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func rebalanceChecks() []check {
	return []check{
		{ruleOneOwner, "Two claims of one partition must never be live at once: a driver assigns a partition to another member only after Revoke has returned.", func(e *env) {
			membersComeAndGo(e, driver.RoundRobin)
		}},
		{ruleOneOwnerCooperative, "Two claims of one partition must never be live at once, also in a cooperative rebalance.", func(e *env) {
			membersComeAndGo(e, driver.CooperativeSticky)
		}},
		{ruleNothingAfterEnd, "A driver must make the calls for one claim in this order: Assign, any number of Deliver, Revoke or Lost.", nothingIsDeliveredAfterTheEnd},
		{ruleEndsOnce, "Exactly one of Revoke or Lost must end a claim.", claimsEndOnce},
		{ruleNewClaim, "A partition that leaves and comes back is a new Claim.", returningPartitionIsANewClaim},
		{ruleWindow, "The context of Revoke must have a deadline, at most DrainTimeout away unless Close is draining.", revokeHasAWindow},
		{"StuckRevokeEndsWithItsWindow", "The end of Revoke's context ends the claims: the driver must then proceed as if Revoke had returned, so that a stuck handler cannot hold up the group.", stuckRevokeEndsWithItsWindow},
		{"StuckRevokeHoldsUpNothingElse", "A Revoke that overruns its window may delay the return of Run, but must never delay the group, Close, or the Assign of other claims.", stuckRevokeHoldsUpNothingElse},
		{"CooperativeKeepsWhatStays", "CooperativeSticky and the ConsumerProtocol rebalance without stopping the partitions that a member keeps.", cooperativeKeepsWhatStays},
		{"LostWhenTheSessionEnds", "Lost reports claims that are already gone. Run must recover from everything that rejoining the group can cure.", lostWhenTheSessionEnds},
		{"LossCancelsRevoke", "If the claims are lost while Revoke runs, the driver must cancel its ctx with that cause as soon as it knows, and must not call Lost.", lossCancelsRevoke},
	}
}

// commitOnRevoke commits every delivered record of the claims.
func (m *member) commitOnRevoke(ctx context.Context, claims []*driver.Claim) {
	for _, c := range claims {
		m.e.mu.Lock()
		next := m.ownership(c).next
		m.e.mu.Unlock()
		if next < 0 {
			continue
		}
		if err := m.tryCommit(ctx, driver.Mark{Claim: c, Offset: next}); err != nil {
			m.e.errorf("%s: Commit inside Revoke: %v", m.name, err)
		}
	}
}

// membersComeAndGo sends records while the members of a group change. Every member
// commits in Revoke everything it got, so every record is delivered once.
func membersComeAndGo(e *env, strategy driver.BalanceStrategy) {
	const partitions = 4
	topic := e.topic(partitions)
	cfg := e.consumerConfig(e.unique("group"), topic)
	e.strategy(&cfg, strategy)
	var sent []string
	round := func() {
		for p := range int32(partitions) {
			values := numbered(fmt.Sprintf("%d-%d", len(sent), p), 20)
			e.send(topic, p, values...)
			sent = append(sent, values...)
		}
	}
	join := func() *member {
		m := e.open(cfg)
		m.onRevoke = m.commitOnRevoke
		m.start()
		return m
	}

	a := join()
	a.waitClaims(partitions)
	round()
	b := join()
	round()
	e.await("a share of 2 and 2", func() bool { return len(a.live()) == 2 && len(b.live()) == 2 })
	c := join()
	round()
	e.await("a share of three", func() bool { return len(c.live()) > 0 && len(a.live())+len(b.live())+len(c.live()) == partitions })
	round()
	a.stop()
	round()
	e.await("a share of 2 and 2", func() bool { return len(b.live()) == 2 && len(c.live()) == 2 })
	b.stop()
	c.waitClaims(partitions)
	round()
	wantEachOnce(e, sent, a, b, c)
}

// wantEachOnce waits for all values and reports those that the members did not get
// exactly once.
func wantEachOnce(e *env, sent []string, members ...*member) {
	e.t.Helper()
	delivered := func() (all []string) {
		for _, m := range members {
			for _, o := range m.owned {
				all = append(all, o.values()...)
			}
		}
		return all
	}
	e.await(fmt.Sprintf("%d records", len(sent)), func() bool { return len(delivered()) >= len(sent) })
	e.mu.Lock()
	got := delivered()
	e.mu.Unlock()
	slices.Sort(got)
	want := slices.Sorted(slices.Values(sent))
	if !slices.Equal(got, want) {
		e.errorf("%d records were sent and %d delivered, want each delivered once", len(want), len(got))
	}
}

func nothingIsDeliveredAfterTheEnd(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	a := e.open(cfg)
	a.onRevoke = func(context.Context, []*driver.Claim) {
		if err := e.h.Send(e.context(), topic, 0, driver.Record{Value: []byte("while revoking")}); err != nil {
			e.breach("harness", "%v", err)
		}
		time.Sleep(e.DrainTimeout / 4)
	}
	a.start()
	a.waitClaims(2)
	for range 5 {
		e.send(topic, 0, numbered("v", 20)...)
		e.send(topic, 1, numbered("v", 20)...)
	}
	b := e.join(cfg)
	for range 5 {
		e.send(topic, 0, numbered("w", 20)...)
		e.send(topic, 1, numbered("w", 20)...)
	}
	b.waitClaims(1)
	a.waitClaims(1)
	e.await("the records", func() bool { return a.total()+b.total() >= 400 })
}

func claimsEndOnce(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	a.waitClaims(2)
	b := e.join(cfg)
	old := []*driver.Claim{a.waitClaims(1)[0], b.waitClaims(1)[0]}
	if ender, ok := e.h.(SessionEnder); ok {
		e.change(func() { e.zombies = true })
		e.must(ender.EndSessions(e.context(), group))
		e.await("new claims after the sessions have ended", func() bool {
			return isNew(a.live(), old) && isNew(b.live(), old)
		})
	}
	b.stop()
	a.waitClaims(2)
	a.stop()
}

// isNew reports whether claims is one claim that is not among old.
func isNew(claims, old []*driver.Claim) bool {
	return len(claims) == 1 && !slices.Contains(old, claims[0])
}

func anyLost(m *member) bool {
	return slices.ContainsFunc(m.owned, func(o *ownership) bool { return o.lost })
}

func returningPartitionIsANewClaim(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	if again := comesBack(e, m, claim); again == claim {
		e.errorf("the partition came back as the same *Claim")
	}
}

func revokeHasAWindow(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	a := e.join(cfg)
	a.waitClaims(2)
	b := e.join(cfg)
	b.waitClaims(1)
	a.waitClaims(1)
	b.stop()
	a.waitClaims(2)
}

func stuckRevokeEndsWithItsWindow(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	old := a.waitClaims(2)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	got := b.waitClaims(1)[0]
	e.send(topic, got.Partition, numbered("v", 5)...)
	b.waitRecords(got, 5)
	b.commit(got, 5)
	for _, c := range old {
		if e.classic() || c.Partition == got.Partition { // the ConsumerProtocol leaves it the other one
			wantRefused(e, a, driver.Mark{Claim: c, Offset: 9})
		}
	}
	e.wantCommitted(group, topic, got.Partition, 5)
	release()
}

func stuckRevokeHoldsUpNothingElse(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	a := e.join(cfg)
	a.waitClaims(2)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	b.waitClaims(1)
	mine := a.waitClaims(1)[0]
	e.send(topic, mine.Partition, numbered("v", 5)...)
	a.waitRecords(mine, 5)

	err, returned := a.closeWithin(e.name, e.Quiet)
	if !returned {
		return
	}
	if err == nil {
		e.errorf("Close returned nil while Revoke is stuck and Run cannot have returned")
	}
	select {
	case <-a.ran:
		e.errorf("Run has returned while Revoke is stuck")
	default:
	}
	release()
	e.ends(e.name, e.Grace, "Run after the stuck Revoke", a.ran)
}

func cooperativeKeepsWhatStays(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	e.strategy(&cfg, driver.CooperativeSticky)
	cfg.DrainTimeout, cfg.RebalanceTimeout = e.Patience, 2*e.Patience
	a := e.join(cfg)
	claims := a.waitClaims(2)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	kept := a.waitClaims(1)[0]
	if !slices.Contains(claims, kept) {
		e.errorf("the kept claim is a new one")
	}
	e.send(topic, kept.Partition, numbered("v", 5)...)
	a.waitRecords(kept, 5)
	a.commit(kept, 3)
	release()
	b.waitClaims(1)
	if got := a.waitClaims(1)[0]; got != kept {
		e.errorf("the kept claim has changed in the rebalance")
	}
	e.send(topic, kept.Partition, numbered("w", 5)...)
	a.waitRecords(kept, 10)
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
