package drivertest

import (
	"context"
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
		{"NothingOfAnEarlierClaim", "Deliver hands over the records of a claim from Start on, without a gap: never what was fetched under an earlier claim of the partition.", nothingOfAnEarlierClaim},
		{ruleNothingAfterEnd, "A driver must make the calls for one claim in this order: Assign, any number of Deliver, Revoke or Lost.", nothingIsDeliveredAfterTheEnd},
		{ruleEndsOnce, "Exactly one of Revoke or Lost must end a claim.", claimsEndOnce},
		{ruleNewClaim, "A partition that leaves and comes back is a new Claim.", returningPartitionIsANewClaim},
		{ruleWindow, "The context of Revoke must have a deadline, at most DrainTimeout away unless Close is draining.", revokeHasAWindow},
		{"StuckRevokeEndsWithItsWindow", "The end of Revoke's context ends the claims: the driver must then proceed as if Revoke had returned, so that a stuck handler cannot hold up the group.", stuckRevokeEndsWithItsWindow},
		{"StuckRevokeHoldsUpNothingElse", "A Revoke that overruns its window may delay the return of Run, but must never delay the group, Close, or the Assign of other claims.", stuckRevokeHoldsUpNothingElse},
		{"CooperativeKeepsWhatStays", "CooperativeSticky and the ConsumerProtocol rebalance without stopping the partitions that a member keeps.", cooperativeKeepsWhatStays},
	}
}

func nothingIsDeliveredAfterTheEnd(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	a := e.open(cfg)
	a.onRevoke = func(context.Context, []*driver.Claim) {
		// Not e.context: a Revoke while b closes, at the end of the case, would find it canceled.
		ctx, cancel := context.WithTimeout(context.Background(), e.Patience)
		defer cancel()
		if err := e.h.Send(ctx, topic, 0, driver.Record{Value: []byte("while revoking")}); err != nil {
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
	cfg.DrainTimeout, cfg.RebalanceTimeout = 2*e.Patience, 4*e.Patience // the wait for records ends before the window
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
