package drivertest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func commitChecks() []check {
	return []check{
		{"CommitIsDurable", "Commit returns nil only if every mark is durable.", commitIsDurable},
		{"StartIsTheCommittedOffset", "Start is the group's committed offset.", startIsTheCommittedOffset},
		{rulePerMark, "Commit returns a *CommitError that says of which marks it is not known that they are durable.", commitAnswersPerMark},
		{"CommitRefusesEndedClaims", "A mark on a claim that has ended is refused with ErrClaimEnded.", commitRefusesEndedClaims},
		{"CommitRefusesWithoutAsking", "A mark on a claim that has ended is refused without asking the broker.", commitRefusesWithoutAsking},
		{"CommitNeverRewinds", "A mark at or below what the claim has committed is answered with nil and changes nothing.", commitNeverRewinds},
		{"CommitBelowStartChangesNothing", "A mark at or below Start is answered with nil and changes nothing.", commitBelowStart},
		{"CommitInsideRevoke", "Commit may be called from inside Handler.Revoke for the claims that are being revoked.", commitInsideRevoke},
		{"CommitWaitsForNoFetch", "Commit must not wait behind a fetch.", commitWaitsForNoFetch},
		{"CommitWaitsForNoJoin", "Commit must not wait behind a pending join.", commitWaitsForNoJoin},
		{ruleCommitInTime, "Commit retries until ctx ends; if ctx ended, the errors of the marks wrap ctx's.", commitHonoursItsContext},
		{"CommitRetries", "Commit retries what is worth retrying until ctx ends.", commitRetries},
		{"CommitOutlivesARebalance", "A live claim that was refused for a generation that the member has left behind is tried under the new one.", commitOutlivesARebalance},
		{"CommitIsNotOvertaken", "A later call of Commit never overtakes an attempt that an earlier one gave up.", commitIsNotOvertaken},
		{"CommitRefusesTheSuperseded", "A mark of a superseded generation is refused by the broker.", commitRefusesTheSuperseded},
	}
}

func commitIsDurable(e *env) {
	topic, group := e.topic(3), e.unique("group")
	for p := range int32(3) {
		e.send(topic, p, numbered("v", 10)...)
	}
	m := e.join(e.consumerConfig(group, topic))
	var marks []driver.Mark
	for i, c := range m.waitClaims(3) {
		m.waitRecords(c, 10)
		marks = append(marks, driver.Mark{Claim: c, Offset: int64(3 + i)})
	}
	for p := range int32(3) {
		e.wantCommitted(group, topic, p, -1)
	}
	if err := m.tryCommit(e.context(), marks...); err != nil {
		e.fatalf("Commit: %v", err)
	}
	for p := range int32(3) {
		e.wantCommitted(group, topic, p, int64(3+p))
	}
	m.stop()
	for p := range int32(3) {
		e.wantCommitted(group, topic, p, int64(3+p))
	}
}

func startIsTheCommittedOffset(e *env) {
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	claim := a.waitClaims(1)[0]
	a.waitRecords(claim, 10)
	a.commit(claim, 6)
	a.stop()

	b := e.join(cfg)
	claim = b.waitClaims(1)[0]
	if claim.Start != 6 {
		e.errorf("Start is %d, want the committed offset, 6", claim.Start)
	}
	b.waitRecords(claim, 4)
	b.wantValues(e.name, claim, numbered("v", 10)[6:])
}

// endedAndLive returns a member with a claim that has ended and one that lives,
// of another partition; 10 records of each have been delivered. The partitions
// change hands twice, as a second member joins and leaves.
func endedAndLive(e *env, group, topic string) (m *member, ended, live *driver.Claim) {
	e.t.Helper()
	e.send(topic, 0, numbered("v", 10)...)
	e.send(topic, 1, numbered("v", 10)...)
	m = e.join(e.consumerConfig(group, topic))
	first := m.waitClaims(2)
	other := e.join(m.cfg)
	other.waitClaims(1)
	m.waitClaims(1)
	other.stop()
	second := m.waitClaims(2)
	m.waitRecords(second[1], 10)
	return m, first[0], second[1]
}

func commitAnswersPerMark(e *env) {
	topic, group := e.topic(2), e.unique("group")
	m, ended, live := endedAndLive(e, group, topic)
	err := m.tryCommit(e.context(), driver.Mark{Claim: ended, Offset: 4}, driver.Mark{Claim: live, Offset: 7})
	var ce *driver.CommitError
	if !errors.As(err, &ce) {
		e.fatalf("Commit of an ended and a live claim returned %v, want a *driver.CommitError", err)
	}
	if len(ce.Failed) != 1 || ce.Failed[0].Mark.Claim != ended || ce.Failed[0].Mark.Offset != 4 {
		e.errorf("the failed marks are %+v, want the one of the ended claim", ce.Failed)
	}
	e.wantCommitted(group, topic, 1, 7)
}

// wantRefused reports a Commit of one mark that is not refused with ErrClaimEnded.
func wantRefused(e *env, m *member, mark driver.Mark) {
	e.t.Helper()
	if err := m.tryCommit(e.context(), mark); !errors.Is(err, driver.ErrClaimEnded) {
		e.errorf("%s: Commit of an ended claim of partition %d returned %v, want ErrClaimEnded", m.name, mark.Claim.Partition, err)
	}
}

func commitRefusesEndedClaims(e *env) {
	topic, group := e.topic(2), e.unique("group")
	m, ended, live := endedAndLive(e, group, topic)
	wantRefused(e, m, driver.Mark{Claim: ended, Offset: 4})
	e.wantCommitted(group, topic, 0, -1)
	m.commit(live, 5)
	m.stop()
	if err := m.tryCommit(e.context(), driver.Mark{Claim: live, Offset: 8}); !errors.Is(err, driver.ErrClaimEnded) && !errors.Is(err, driver.ErrClosed) {
		e.errorf("Commit after Close returned %v, want ErrClaimEnded or ErrClosed", err)
	}
	e.wantCommitted(group, topic, 1, 5)
}

func commitRefusesWithoutAsking(e *env) {
	cutter := ability[Cutter](e)
	topic, group := e.topic(2), e.unique("group")
	m, ended, _ := endedAndLive(e, group, topic)
	e.cut(cutter)
	e.returnsBy(e.name, 0, "Commit of an ended claim without brokers", func() {
		wantRefused(e, m, driver.Mark{Claim: ended, Offset: 4})
	})
}

func commitNeverRewinds(e *env) {
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 10)
	m.commit(claim, 6)
	m.commit(claim, 6)
	m.commit(claim, 3)
	e.wantCommitted(group, topic, 0, 6)
	m.commit(claim, 7)
	e.wantCommitted(group, topic, 0, 7)
}

func commitBelowStart(e *env) {
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	claim := a.waitClaims(1)[0]
	a.waitRecords(claim, 10)
	a.commit(claim, 6)
	a.stop()

	b := e.join(cfg)
	claim = b.waitClaims(1)[0]
	b.commit(claim, 4)
	e.wantCommitted(group, topic, 0, 6)
	b.commit(claim, 6)
	e.wantCommitted(group, topic, 0, 6)
}

func commitInsideRevoke(e *env) {
	topic, group := e.topic(2), e.unique("group")
	e.send(topic, 0, numbered("v", 10)...)
	e.send(topic, 1, numbered("v", 10)...)
	cfg := e.consumerConfig(group, topic)
	a := e.open(cfg)
	a.onRevoke = func(ctx context.Context, claims []*driver.Claim) {
		for _, c := range claims {
			if err := a.tryCommit(ctx, driver.Mark{Claim: c, Offset: 4}); err != nil {
				e.errorf("Commit inside Revoke: %v", err)
			}
		}
	}
	a.start()
	for _, c := range a.waitClaims(2) {
		a.waitRecords(c, 10)
	}
	b := e.join(cfg)
	moved := b.waitClaims(1)[0]
	if moved.Start != 4 {
		e.errorf("the next owner starts at %d, want what Revoke has committed, 4", moved.Start)
	}
	b.stop()
	a.stop()
	e.wantCommitted(group, topic, 0, 4)
	e.wantCommitted(group, topic, 1, 4)
}

func commitWaitsForNoFetch(e *env) {
	const n = 9
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("v", n)...)
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, n)
	e.quiet() // now the fetch has nothing to bring, and waits at the broker
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

// commitWaitsForNoJoin makes a join wait while the member that joins owns a
// claim. Three partitions are shared by two members. A third joins, and the
// member with two claims is asked for one, which it keeps. Now a fourth joins:
// the other member joins anew, and its join waits for the one that drains.
func commitWaitsForNoJoin(e *env) {
	topic, group := e.topic(3), e.unique("group")
	for p := range int32(3) {
		e.send(topic, p, numbered("v", 10)...)
	}
	cfg := e.consumerConfig(group, topic)
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.CooperativeSticky}
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
		e.errorf("Commit without brokers returned %v, want an error that wraps the context's", err)
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
		e.fatalf("Commit did not outlast a short outage: %v", err)
	}
	e.wantCommitted(group, topic, 0, 5)
}

// commitOutlivesARebalance commits a claim that stays with its member, again and
// again, while another member joins and leaves.
func commitOutlivesARebalance(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.CooperativeSticky}
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
		e.fatalf("Commit when the answers came again: %v", err)
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
