package drivertest

import (
	"context"
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

func commitChecks() []check {
	return []check{
		{"CommitIsDurable", "Commit returns nil only if every mark is durable.", commitIsDurable},
		{"StartIsTheCommittedOffset", "Start is the group's committed offset.", startIsTheCommittedOffset},
		{rulePerMark, "Commit returns a *CommitError with every mark that is not known to be durable.", commitAnswersPerMark},
		{"CommitRefusesEndedClaims", "Commit must refuse a mark on an ended claim with ErrClaimEnded.", commitRefusesEndedClaims},
		{"CommitRefusesWithoutAsking", "Commit must refuse a mark on an ended claim without asking the broker.", commitRefusesWithoutAsking},
		{"CommitNeverRewinds", "A mark below what the claim has committed, or at it with the same Metadata, succeeds and changes nothing.", commitNeverRewinds},
		{"CommitBelowStartChangesNothing", "A mark below Start, or at Start with the same Metadata, succeeds and changes nothing.", commitBelowStart},
		{"CommitInsideRevoke", "The core may call Commit from inside Handler.Revoke for the claims that are being revoked.", commitInsideRevoke},
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

// endedAndLive returns a member with an ended claim and a live claim of another
// partition. 10 records of each have been delivered. A second member joins and leaves,
// so the partitions change hands twice: both with ClassicProtocol, else the one that
// the second member gets.
func endedAndLive(e *env, group, topic string) (m *member, ended, live *driver.Claim) {
	e.t.Helper()
	e.send(topic, 0, numbered("v", 10)...)
	e.send(topic, 1, numbered("v", 10)...)
	m = e.join(e.consumerConfig(group, topic))
	first := m.waitClaims(2)
	other := e.join(m.cfg)
	moved := int32(0)
	if c := other.waitClaims(1)[0]; !e.classic() {
		moved = c.Partition
	}
	m.waitClaims(1)
	other.stop()
	second := m.waitClaims(2)
	m.waitRecords(second[1-moved], 10)
	return m, first[moved], second[1-moved]
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
	e.wantCommitted(group, topic, live.Partition, 7)
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
	e.wantCommitted(group, topic, ended.Partition, -1)
	m.commit(live, 5)
	m.stop()
	if err := m.tryCommit(e.context(), driver.Mark{Claim: live, Offset: 8}); !errors.Is(err, driver.ErrClaimEnded) && !errors.Is(err, driver.ErrClosed) {
		e.errorf("Commit after Close returned %v, want ErrClaimEnded or ErrClosed", err)
	}
	e.wantCommitted(group, topic, live.Partition, 5)
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
		e.errorf("the next owner starts at %d, want the offset that Revoke committed, 4", moved.Start)
	}
	b.stop()
	a.stop()
	e.wantCommitted(group, topic, 0, 4)
	e.wantCommitted(group, topic, 1, 4)
}
