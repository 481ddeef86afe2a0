package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

func startChecks() []check {
	return []check{
		{"OldestStartsAtTheBeginning", "OffsetOldest starts at the beginning of the log.", oldestStartsAtTheBeginning},
		{"NewestStartsAtTheEnd", "OffsetNewest starts at the end that the log had when the group first joined for the topic.", newestStartsAtTheEnd},
		{"OldestTopicsStartAtTheBeginning", "OldestTopics are topics among Topics that start at OffsetOldest whatever InitialOffset says.", oldestTopicsStartAtTheBeginning},
		{"NewestIsPinned", "The position of OffsetNewest must be durable before Assign.", newestIsPinned},
		{"NewestLosesNothing", "With OffsetNewest, a crash before the first commit loses nothing.", newestLosesNothing},
		{"NewestReadsLaterPartitionsWhole", "OffsetNewest starts at the beginning of a partition that was created later. That position must be durable before Assign.", newestReadsLaterPartitionsWhole},
		{"OutOfRangeEndsRun", "Run must never move a position silently that is no longer in the log: with OutOfRangeStop the claim must be Lost, and Run must return an ErrPermanent with the code OFFSET_OUT_OF_RANGE.", outOfRangeEndsRun},
		{"OutOfRangeEndsRunLater", "Run must never move a position silently that is no longer in the log, also when it still was there at Assign.", outOfRangeEndsRunLater},
		{"TruncationEndsRun", "Run must never move a position silently that is no longer in the log, also when an unclean leader election has truncated the log below it.", truncationEndsRun},
		{"OutOfRangeOldest", "With OutOfRangeOldest, a position that is no longer in the log moves to the beginning. It must be durable, and h.Error must get a DataLossError, before a claim that starts there is assigned.", outOfRangeOldest},
		{"OutOfRangeNewest", "With OutOfRangeNewest, a position that is no longer in the log moves to the end. It must be durable, and h.Error must get a DataLossError, before a claim that starts there is assigned.", outOfRangeNewest},
		{"OutOfRangeCommitsFirst", "With OutOfRangeOldest, Revoke must end a claim that the beginning of the log has overtaken, so that handled records can be committed.", outOfRangeCommitsFirst},
	}
}

func newest(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest }

func oldestStartsAtTheBeginning(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 5)...)
	m, claim := consume(e, topic)
	m.waitRecords(claim, 5)
	m.wantValues(e.name, claim, numbered("v", 5))
	if claim.Start != 0 && claim.Start != -1 {
		e.errorf("Start is %d, want 0, or -1 for unknown", claim.Start)
	}
}

func newestStartsAtTheEnd(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, numbered("old", 5)...)
	m, claim := consume(e, topic, newest)
	if claim.Start != 5 {
		e.errorf("Start is %d, want the end of the log, 5", claim.Start)
	}
	e.send(topic, 0, numbered("new", 3)...)
	m.waitRecords(claim, 3)
	m.wantValues(e.name, claim, numbered("new", 3))
}

func oldestTopicsStartAtTheBeginning(e *env) {
	newer, older, group := e.topic(1), e.topic(2), e.unique("group")
	e.send(newer, 0, numbered("old", 5)...)
	e.send(older, 0, numbered("v", 5)...)
	e.send(older, 1, numbered("v", 5)...)
	cfg := e.consumerConfig(group, newer, older)
	newest(&cfg)
	cfg.OldestTopics = []string{older}
	a := e.join(cfg)
	var kept *driver.Claim
	for _, c := range a.waitClaims(3) {
		switch {
		case c.Topic == older:
			a.waitRecords(c, 5)
			a.wantValues(e.name, c, numbered("v", 5))
			kept = c
		case c.Start != 5:
			e.errorf("Start of the other topic is %d, want the end of the log, 5", c.Start)
		}
	}
	a.commit(kept, 3)
	a.stop()

	b := e.join(cfg)
	for _, c := range b.waitClaims(3) {
		switch {
		case c.Topic == kept.Topic && c.Partition == kept.Partition && c.Start != 3:
			e.errorf("Start is %d, want the committed offset, 3", c.Start)
		case c.Topic == older && c.Partition != kept.Partition:
			b.waitRecords(c, 5)
		}
	}
}

func newestIsPinned(e *env) {
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("old", 5)...)
	cfg := e.consumerConfig(group, topic)
	newest(&cfg)
	m := e.open(cfg)
	pinned := make(chan int64, 1)
	m.onAssign = func(claims []*driver.Claim) {
		if len(claims) == 0 {
			return
		}
		offset, err := e.h.Committed(e.context(), group, topic, 0)
		if err != nil {
			e.breach("harness", "%v", err)
		}
		pinned <- offset
	}
	m.start()
	if got := receive(e, "a claim", pinned); got != 5 {
		e.errorf("when Assign is called the group's committed offset is %d, want the end of the log, 5", got)
	}
}

func newestLosesNothing(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, numbered("old", 5)...)
	cfg := e.consumerConfig(e.unique("group"), topic)
	newest(&cfg)
	a := e.join(cfg)
	claim := a.waitClaims(1)[0]
	e.send(topic, 0, numbered("new", 10)...)
	a.waitRecords(claim, 10)
	a.die()

	b := e.join(cfg)
	claim = b.waitClaims(1)[0]
	b.waitRecords(claim, 10)
	b.wantValues(e.name, claim, numbered("new", 10))
}

// newestReadsLaterPartitionsWhole has a member join after the partition was added,
// because a driver may look for new partitions only from time to time. No member gets
// the partition before it has records: the first member holds its Revoke until then.
func newestReadsLaterPartitionsWhole(e *env) {
	adder := ability[PartitionAdder](e)
	topic := e.topic(1)
	cfg := e.consumerConfig(e.unique("group"), topic)
	newest(&cfg)
	cfg.DrainTimeout, cfg.RebalanceTimeout = e.Patience, 2*e.Patience
	a := e.join(cfg)
	a.waitClaims(1)
	_, release := e.holdRevokes(a)
	e.must(adder.AddPartitions(e.context(), topic, 2))
	e.send(topic, 1, numbered("early", 5)...)
	b := e.join(cfg)
	release()
	e.await("an owner of the new partition that has its records", func() bool {
		return delivered(a, 1, 5) || delivered(b, 1, 5)
	})
	e.wantCommitted(cfg.Group, topic, 1, 0)
	b.waitClaims(1)
}

// delivered reports whether a member got the first n records of a partition.
func delivered(m *member, partition int32, n int) bool {
	return slices.ContainsFunc(m.owned, func(o *ownership) bool {
		return o.claim.Partition == partition && slices.Equal(o.values(), numbered("early", n))
	})
}

func outOfRangeEndsRun(e *env) {
	cfg := outOfRangeGroup(e, driver.OutOfRangeStop)
	m := e.join(cfg)
	wantOutOfRange(e, m)
	e.mu.Lock()
	n := m.total()
	e.mu.Unlock()
	if n > 0 {
		e.errorf("the claim with a position below the log got %d records, want none", n)
	}
	e.wantCommitted(cfg.Group, cfg.Topics[0], 0, 3)
}

func outOfRangeEndsRunLater(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	loseItsPlace(e, m, claim)
	wantOutOfRange(e, m)
	for _, v := range values(m.records(claim)) {
		if strings.HasPrefix(v, "later") {
			e.errorf("the claim continued behind the gap with %q", v)
		}
	}
}

// truncationEndsRun has a client that compares leader epochs learn where the logs of the
// old and the new leader diverge. It must not go on from there.
func truncationEndsRun(e *env) {
	truncater := ability[EndTruncater](e)
	topic := e.topic(1)
	m, claim := consume(e, topic, func(cfg *driver.ConsumerConfig) { // which outlives the restart of a broker
		cfg.SessionTimeout, cfg.RebalanceTimeout = 4*e.SessionTimeout, 5*max(e.SessionTimeout, e.RebalanceTimeout)
	})
	for _, v := range numbered("v", 10) {
		e.send(topic, 0, v)
	}
	m.waitRecords(claim, 10)
	m.commit(claim, 10)
	e.must(truncater.TruncateEnd(e.context(), topic, 0, 4))
	e.send(topic, 0, numbered("later", 2)...)
	wantOutOfRange(e, m)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range m.owned {
		if slices.ContainsFunc(o.values(), func(v string) bool { return strings.HasPrefix(v, "later") }) {
			e.errorf("a claim continued in the truncated log: %s", brief(o.values()))
		}
	}
}

// loseItsPlace removes the records that a claim would get next.
func loseItsPlace(e *env, m *member, claim *driver.Claim) {
	e.t.Helper()
	truncater := ability[Truncater](e)
	e.send(claim.Topic, 0, numbered("v", 5)...)
	m.waitRecords(claim, 5)
	m.callPause(claim)
	wantStopped(e, m, claim)
	e.send(claim.Topic, 0, "not fetched") // a driver may have fetched the one before it
	before := len(e.read(claim.Topic, 0))
	e.must(truncater.Truncate(e.context(), claim.Topic, 0, int64(before)))
	e.send(claim.Topic, 0, numbered("later", 5)...)
	m.callResume(claim)
}

func outOfRangeOldest(e *env) { continuesBehindGap(e, driver.OutOfRangeOldest, 10) }
func outOfRangeNewest(e *env) { continuesBehindGap(e, driver.OutOfRangeNewest, 20) }

// outOfRangeGroup returns a consumer of a group whose committed position, 3, is below its
// log of [10, 20).
func outOfRangeGroup(e *env, policy driver.OutOfRange) driver.ConsumerConfig {
	e.t.Helper()
	truncater := ability[Truncater](e)
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 20)...)
	cfg := e.consumerConfig(e.unique("group"), topic)
	cfg.OutOfRange = policy
	m := e.join(cfg)
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 20)
	m.commit(claim, 3)
	m.stop()
	e.must(truncater.Truncate(e.context(), topic, 0, 10))
	return cfg
}

func continuesBehindGap(e *env, policy driver.OutOfRange, to int64) {
	cfg := outOfRangeGroup(e, policy)
	topic, group := cfg.Topics[0], cfg.Group
	b := e.open(cfg)
	var reported bool
	at := int64(-1)
	b.onAssign = func(claims []*driver.Claim) {
		if len(claims) == 0 || claims[0].Start < 10 { // a claim may begin before the driver finds the gap
			return
		}
		offset, err := e.h.Committed(e.context(), group, topic, 0)
		if err != nil {
			e.breach("harness", "%v", err)
		}
		e.change(func() { reported, at = b.reportedGap(3, to), offset })
	}
	b.start()
	b.await(fmt.Sprintf("a claim that starts at %d", to), func() bool { return at >= 0 })
	claim := b.waitClaims(1)[0]
	e.send(topic, 0, numbered("later", 5)...)
	want := append(numbered("v", 20)[to:], numbered("later", 5)...)
	b.waitRecords(claim, len(want))
	b.wantValues(e.name, claim, want)
	e.mu.Lock()
	defer e.mu.Unlock()
	if claim.Start != to || at != to {
		e.errorf("the claim starts at %d, with %d committed before Assign, want %d", claim.Start, at, to)
	}
	if !reported {
		e.errorf("Handler.Error got %v before Assign, want a DataLossError from 3 to %d", b.errs, to)
	}
}

// reportedGap reports whether h.Error got the DataLossError of a gap.
func (m *member) reportedGap(from, to int64) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		gap, ok := errors.AsType[*driver.DataLossError](err)
		return ok && gap.From == from && gap.To == to && !gap.Recreated
	})
}

func outOfRangeCommitsFirst(e *env) {
	truncater := ability[Truncater](e)
	topic, group := e.topic(1), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	cfg.OutOfRange = driver.OutOfRangeOldest
	m := e.join(cfg)
	claim := m.waitClaims(1)[0]
	e.send(topic, 0, numbered("v", 5)...)
	m.waitRecords(claim, 5)
	m.commit(claim, 2)
	m.callPause(claim)
	wantStopped(e, m, claim)
	e.send(topic, 0, "not fetched") // a driver may have fetched the one before it
	before := len(e.read(topic, 0))
	e.change(func() {
		overtaken := claim
		m.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			if slices.Contains(cs, overtaken) {
				m.callCommit(ctx, driver.Mark{Claim: overtaken, Offset: 4})
			}
		}
	})
	e.must(truncater.Truncate(e.context(), topic, 0, int64(before)))
	e.send(topic, 0, numbered("later", 3)...)
	m.callResume(claim)
	m.await("a gap from 4 on", func() bool { return m.reportedGap(4, int64(before)) })
	claim = m.waitClaims(1)[0]
	m.waitRecords(claim, 3)
	m.wantValues(e.name, claim, numbered("later", 3))
}

// wantOutOfRange waits for the end of Run, which must report that a position is no
// longer in the log and must have lost its claims.
func wantOutOfRange(e *env, m *member) {
	e.t.Helper()
	err := m.waitRun(e.name)
	if codeOf(err) != "OFFSET_OUT_OF_RANGE" || !errors.Is(err, driver.ErrPermanent) {
		e.errorf("Run returned %v, want an ErrPermanent with code OFFSET_OUT_OF_RANGE", err)
	}
	m.closeAfterFailure()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range m.owned {
		if !o.lost {
			e.errorf("the claim whose position is no longer in the log was ended by Revoke, want Lost")
		}
	}
}
