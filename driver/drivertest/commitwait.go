package drivertest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// commitWaitChecks check what a commit may wait for and what may interrupt it.
func commitWaitChecks() []check {
	return []check{
		{"CommitWaitsForNoFetch", "Commit must not wait behind a fetch.", commitWaitsForNoFetch},
		{"CommitWaitsForNoJoin", "Commit must not wait behind a pending join.", commitWaitsForNoJoin},
		{ruleCommitInTime, "Commit must retry until ctx ends. If ctx has ended, the errors of the marks wrap ctx's error.", commitHonoursItsContext},
		{"CommitRetries", "Commit must retry transient failures until ctx ends.", commitRetries},
		{"CommitOutlivesARebalance", "If a mark on a live claim was refused because the member has moved to a newer generation or epoch, Commit must retry it under that one.", commitOutlivesARebalance},
		{"CommitIsNotOvertaken", "A later Commit must never overtake an attempt that an earlier one gave up.", commitIsNotOvertaken},
		{"CommitRefusesTheSuperseded", "The broker refuses a mark of a superseded generation or, with ConsumerProtocol, of another epoch than the member's.", commitRefusesTheSuperseded},
	}
}

func commitWaitsForNoFetch(e *env) {
	const n = 9
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", n)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, n)
	e.quiet() // now the fetch waits at the broker for new records
	var took []time.Duration
	for i := range int64(n) {
		start := time.Now()
		m.commit(claim, i+1)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	if took[n/2] > e.CommitTime {
		e.errorf("%d commits on a quiet topic took %v, want a median of at most %v", n, took, e.CommitTime)
	}
}

// commitWaitsForNoJoin makes a join wait while the joining member owns a claim. Two
// members share three partitions. A third joins, and the member with two claims has to
// give one up, but stays in Revoke. Now a fourth joins: the other member rejoins, and
// its join waits for the draining member.
func commitWaitsForNoJoin(e *env) {
	topic, group := e.topic(3), e.unique("group")
	for p := range int32(3) {
		e.send(topic, p, numbered("v", 10)...)
	}
	cfg := e.consumerConfig(group, topic)
	e.strategy(&cfg, driver.CooperativeSticky)
	cfg.DrainTimeout, cfg.RebalanceTimeout = e.Patience, 2*e.Patience
	a := e.join(cfg)
	a.waitClaims(3)
	b := e.join(cfg)
	e.await("a share of 2 and 1", func() bool { return len(a.live())+len(b.live()) == 3 && len(b.live()) > 0 })

	draining, release := e.holdRevokes(a, b)
	e.join(cfg)
	busy := receive(e, "a member in Revoke", draining)
	other := a
	if busy == a {
		other = b
	}
	claim := other.waitClaims(1)[0]
	other.waitRecords(claim, 10)
	e.join(cfg)
	e.quiet()
	start := time.Now()
	other.commit(claim, 5)
	if took := time.Since(start); took > e.Grace {
		e.errorf("Commit took %v while a join was pending, want at most %v", took, e.Grace)
	}
	e.wantCommitted(group, topic, claim.Partition, 5)
	release()
}

func commitHonoursItsContext(e *env) {
	cutter := ability[Cutter](e)
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	e.cut(cutter)
	ctx := e.within(e.Quiet)
	err := m.tryCommit(ctx, driver.Mark{Claim: claim, Offset: 5})
	if ctx.Err() == nil {
		e.errorf("Commit without brokers gave up before its context ended: %v", err)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Commit without brokers returned %v, want an error that wraps its context's error", err)
	}
}

func commitRetries(e *env) {
	cutter := ability[Cutter](e)
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	cfg := e.consumerConfig(group, topic)
	cfg.SessionTimeout, cfg.RebalanceTimeout = max(cfg.SessionTimeout, e.Patience), 2*e.Patience
	m := e.join(cfg)
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	heal := e.cut(cutter)
	answer := make(chan error, 1)
	go func() { answer <- m.tryCommit(e.context(), driver.Mark{Claim: claim, Offset: 5}) }()
	e.quiet()
	heal()
	if err := receive(e, "the answer of Commit", answer); err != nil {
		e.fatalf("Commit failed in a short outage: %v", err)
	}
	e.wantCommitted(group, topic, 0, 5)
}

// commitOutlivesARebalance commits a claim that stays with its member, again and
// again, while another member joins and leaves.
func commitOutlivesARebalance(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	e.strategy(&cfg, driver.CooperativeSticky)
	a := e.join(cfg)
	a.waitClaims(2)
	b := e.join(cfg)
	b.waitClaims(1)
	kept := a.waitClaims(1)[0]
	e.send(topic, kept.Partition, numbered("v", 20)...)
	a.waitRecords(kept, 20)

	position := int64(0)
	commitUntil := func(done func() bool) {
		start := time.Now()
		for over := false; !over; {
			if over = done(); !over && time.Since(start) > e.Patience {
				e.fatalf("the rebalance has not ended after %v", e.Patience)
			}
			position++
			if position%20 == 0 {
				e.send(topic, kept.Partition, numbered("w", 20)...)
			}
			a.commit(kept, position)
			time.Sleep(time.Millisecond)
		}
	}
	c := e.join(cfg)
	commitUntil(func() bool { return c.calledAssign() })
	closed := make(chan struct{})
	go func() { defer close(closed); b.stop() }()
	commitUntil(func() bool { return isClosed(closed) })
	e.wantCommitted(group, topic, kept.Partition, position)
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func commitIsNotOvertaken(e *env) {
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	cfg := e.consumerConfig(group, topic)
	cfg.SessionTimeout, cfg.RebalanceTimeout = max(cfg.SessionTimeout, e.Patience), 2*e.Patience
	m := e.join(cfg)
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	heal := e.silence()
	_ = m.tryCommit(e.within(e.Quiet), driver.Mark{Claim: claim, Offset: 5})
	answer := make(chan error, 1)
	go func() { answer <- m.tryCommit(e.context(), driver.Mark{Claim: claim, Offset: 7}) }()
	heal()
	if err := receive(e, "the answer of Commit", answer); err != nil {
		e.fatalf("Commit after the brokers answered again: %v", err)
	}
	e.quiet()
	e.wantCommitted(group, topic, 0, 7)
}

func commitRefusesTheSuperseded(e *env) {
	ender := ability[SessionEnder](e)
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	m.commit(claim, 3)
	e.must(ender.EndSessions(e.context(), group))
	if err := m.tryCommit(e.context(), driver.Mark{Claim: claim, Offset: 5}); err == nil {
		e.errorf("Commit returned nil for a member whose session has ended")
	}
	e.wantCommitted(group, topic, 0, 3)
	m.await("a new claim", func() bool { return len(m.live()) == 1 && m.live()[0] != claim })
	wantRefused(e, m, driver.Mark{Claim: claim, Offset: 6})
	e.wantCommitted(group, topic, 0, 3)
}
