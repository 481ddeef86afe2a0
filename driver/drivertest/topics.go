package drivertest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func topicChecks() []check {
	return []check{
		{"MissingTopicStopsNoOther", "A topic that is missing keeps Run from no other topic; Run picks it up within a minute of its appearance.", missingTopicStopsNoOther},
		{"ForbiddenTopicStopsNoOther", "A topic that this member may not read is reported, and keeps Run from no other topic.", forbiddenTopicStopsNoOther},
		{"ForeignTopicsAreNoError", "Topics that only other members of the group subscribe to are never an error.", foreignTopicsAreNoError},
		{"StrategiesThatDoNotMeetWait", "Run waits, and reports by h.Error, for members whose balance strategies have nothing in common.", strategiesThatDoNotMeetWait},
		{"DamageStopsItsPartitionOnly", "A damaged batch is reported by a PartitionError and stops no other partition. What lies intact before it is delivered, and its claim lives on.", damageStopsItsPartitionOnly},
		{"RecreatedTopicIsAnother", "When a topic is deleted and created again its claim is Lost, h.Error gets a DataLossError with Recreated set, and the claims of the new incarnation start at its beginning.", recreatedTopicIsAnother},
		{"RecreatedTopicIsReadWhole", "The claims of a new incarnation start at its beginning whatever InitialOffset says.", recreatedTopicIsReadWhole},
		{"OldPositionNeverCounts", "A position that was earned in the old incarnation of a topic must never count in the new one.", oldPositionNeverCounts},
		{"StartThatSkipsIsReported", "A NoPositionError reports that a claim starts without a committed position, where that leaves records out.", startThatSkipsIsReported},
	}
}

// minute is what the contract gives a driver to notice a change of topics, and some
// time for what follows.
func (e *env) minute() time.Duration { return max(e.Patience, 75*time.Second) }

// topicTrouble reports whether the member was told of trouble with a whole topic.
func (m *member) topicTrouble(topic string, codes ...string) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		p, ok := errors.AsType[*driver.PartitionError](err)
		return ok && p.Topic == topic && p.Partition == -1 && slices.Contains(codes, codeOf(err))
	})
}

// heard reports whether the member was told of an error with this code.
func (m *member) heard(code string) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool { return codeOf(err) == code })
}

func codeOf(err error) string {
	if de, ok := errors.AsType[*driver.Error](err); ok {
		return de.Code
	}
	return ""
}

// of returns the live claim of a partition, or nil.
func (m *member) of(topic string, partition int32) *driver.Claim {
	for _, c := range m.live() {
		if c.Topic == topic && c.Partition == partition {
			return c
		}
	}
	return nil
}

// waitClaim waits for the claim of a partition.
func (m *member) waitClaim(d time.Duration, topic string, partition int32) (c *driver.Claim) {
	m.e.t.Helper()
	m.e.awaitWithin(d, fmt.Sprintf("%s: a claim of %s/%d", m.name, topic, partition), func() bool {
		c = m.of(topic, partition)
		return c != nil
	})
	return c
}

func (e *env) wantRunning(m *member) {
	e.t.Helper()
	select {
	case <-m.ran:
		e.errorf("Run has returned %v", m.runErr)
	default:
	}
}

func missingTopicStopsNoOther(e *env) {
	topic, missing := e.topic(1), e.unique("missing")
	e.send(topic, 0, numbered("v", 3)...)
	m := e.join(e.consumerConfig(e.unique("group"), topic, missing))
	claim := m.waitClaim(e.Patience, topic, 0)
	m.waitRecords(claim, 3)
	m.await("a PartitionError of the missing topic", func() bool { return m.topicTrouble(missing, "UNKNOWN_TOPIC_OR_PARTITION") })
	e.must(e.h.CreateTopic(e.context(), missing, 1))
	e.send(missing, 0, numbered("w", 3)...)
	late := m.waitClaim(e.minute(), missing, 0)
	m.waitRecords(late, 3)
	m.wantValues(e.name, late, numbered("w", 3))
	e.wantRunning(m)
}

func forbiddenTopicStopsNoOther(e *env) {
	forbidder := ability[Forbidder](e)
	topic, other := e.topic(1), e.topic(1)
	allow, err := forbidder.Forbid(e.context(), other)
	e.must(err)
	allow = e.atEnd(allow)
	e.send(topic, 0, numbered("v", 3)...)
	e.send(other, 0, numbered("w", 3)...)
	m := e.join(e.consumerConfig(e.unique("group"), topic, other))
	m.waitRecords(m.waitClaim(e.Patience, topic, 0), 3)
	m.await("a PartitionError of the forbidden topic", func() bool { return m.topicTrouble(other, "TOPIC_AUTHORIZATION_FAILED") })
	allow()
	m.waitRecords(m.waitClaim(e.minute(), other, 0), 3)
	e.wantRunning(m)
}

func foreignTopicsAreNoError(e *env) {
	joiner := ability[ForeignJoiner](e)
	topic, group := e.topic(2), e.unique("group")
	e.send(topic, 0, numbered("v", 3)...)
	m := e.join(e.consumerConfig(group, topic))
	m.waitClaims(2)
	e.mu.Lock()
	joins := m.assigns
	e.mu.Unlock()
	leave, err := joiner.JoinForeign(e.context(), group, driver.RoundRobin, e.unique("missing"))
	e.must(err)
	leave = e.atEnd(leave)
	m.await("a rebalance", func() bool { return m.assigns > joins })
	claim := m.waitClaims(2)[0]
	m.waitRecords(claim, 3)
	e.quiet()
	e.wantRunning(m)
	leave()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, code := range []string{"UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION", "TOPIC_AUTHORIZATION_FAILED"} {
		if m.heard(code) {
			e.breach(e.name, "Handler.Error was told %v, want nothing of a topic that only another member reads", m.errs)
		}
	}
}

func strategiesThatDoNotMeetWait(e *env) {
	topic, group := e.topic(1), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	a.waitClaims(1)
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.Range}
	b := e.join(cfg)
	b.await("INCONSISTENT_GROUP_PROTOCOL", func() bool { return b.heard("INCONSISTENT_GROUP_PROTOCOL") || b.returned })
	e.quiet()
	e.wantRunning(b)
	e.mu.Lock()
	told := b.errs
	e.mu.Unlock()
	for _, err := range told {
		if errors.Is(err, driver.ErrPermanent) {
			e.errorf("Handler.Error was told %v, which passes when the other member leaves: want no ErrPermanent", err)
		}
	}
	a.stop()
	b.waitClaim(e.minute(), topic, 0)
}

func damageStopsItsPartitionOnly(e *env) {
	damager := ability[Damager](e)
	topic := e.topic(2)
	for p := range int32(2) {
		e.send(topic, p, numbered("v", 2)...)
	}
	e.send(topic, 0, "damaged", "behind")
	repair, err := damager.Damage(e.context(), topic, 0, 2)
	e.must(err)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(2)
	m.waitRecords(claims[0], 2)
	m.await("a PartitionError of offset 2", func() bool { return m.damagedAt(topic, 0, 2) })
	e.send(topic, 1, "later")
	m.waitRecords(claims[1], 3)
	e.quiet()
	m.wantValues(e.name, claims[0], numbered("v", 2))
	if repair == nil {
		return
	}
	repair()
	e.awaitWithin(e.minute(), "the records from the damaged one on", func() bool { return m.count(claims[0]) >= 4 })
	m.wantValues(e.name, claims[0], append(numbered("v", 2), "damaged", "behind"))
}

// damagedAt reports whether the member was told that a batch can not be read.
func (m *member) damagedAt(topic string, partition int32, offset int64) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		p, ok := errors.AsType[*driver.PartitionError](err)
		return ok && p.Topic == topic && p.Partition == partition && p.Offset == offset && codeOf(err) == "CORRUPT_MESSAGE"
	})
}

// recreate has a group that has committed 3 of 5 live through the end of its topic.
func recreate(e *env, adapt func(*driver.ConsumerConfig)) (m *member, old *driver.Claim, again func()) {
	e.t.Helper()
	recreater := ability[TopicRecreater](e)
	topic := e.topic(1)
	m, old = consume(e, topic, adapt)
	e.send(topic, 0, numbered("old", 5)...)
	m.waitRecords(old, 5)
	m.commit(old, 3)
	return m, old, func() { e.must(recreater.RecreateTopic(e.context(), topic, 1)) }
}

func anyInitial(*driver.ConsumerConfig) {}

func recreatedTopicIsAnother(e *env) {
	m, old, again := recreate(e, anyInitial)
	again()
	e.send(old.Topic, 0, numbered("new", 8)...)
	wantReadWhole(e, m, old)
	m.await("a DataLossError with Recreated set", func() bool { return m.toldRecreation(old.Topic, 3, 0) })
	e.mu.Lock()
	defer e.mu.Unlock()
	if o := m.ownership(old); !o.lost {
		e.breach(e.name, "the claim of the deleted topic was ended by Revoke, want Lost")
	}
}

func recreatedTopicIsReadWhole(e *env) {
	m, old, again := recreate(e, newest)
	again()
	e.send(old.Topic, 0, numbered("new", 2)...) // fewer than the group had committed
	wantReadWhole(e, m, old)
}

func oldPositionNeverCounts(e *env) {
	m, old, again := recreate(e, anyInitial)
	again()
	err := m.tryCommit(e.context(), driver.Mark{Claim: old, Offset: 5})
	if err == nil {
		e.errorf("Commit under the claim of a deleted topic returned nil")
	}
	e.send(old.Topic, 0, numbered("new", 8)...)
	wantReadWhole(e, m, old)
	if got := e.committed(m.cfg.Group, old.Topic, 0); got > 0 {
		e.errorf("when the new topic is read, %d is committed for it, want 0 or nothing", got)
	}
}

// wantReadWhole waits for another claim, which must be given all that is new.
func wantReadWhole(e *env, m *member, old *driver.Claim) {
	e.t.Helper()
	var claim *driver.Claim
	e.awaitWithin(e.minute(), "a claim of the new topic", func() bool {
		claim = m.of(old.Topic, 0)
		return claim != nil && claim != old
	})
	all := e.read(old.Topic, 0)
	e.awaitWithin(e.minute(), fmt.Sprintf("%d records of the new topic", len(all)), func() bool { return m.count(claim) >= len(all) })
	m.wantValues(e.name, claim, numbered("new", len(all)))
}

// toldRecreation reports whether the member was told that a topic is another now.
func (m *member) toldRecreation(topic string, from, to int64) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		gap, ok := errors.AsType[*driver.DataLossError](err)
		return ok && gap.Recreated && gap.Topic == topic && gap.From == from && gap.To == to
	})
}

func startThatSkipsIsReported(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 5)...)
	m, claim := consume(e, topic, newest)
	m.await("a NoPositionError", func() bool {
		return slices.ContainsFunc(m.errs, func(err error) bool {
			start, ok := errors.AsType[*driver.NoPositionError](err)
			return ok && start.Topic == topic && start.Partition == 0 && start.Start == 5 && start.Begin == 0
		})
	})
	if claim.Start != 5 {
		e.errorf("Start is %d, want 5", claim.Start)
	}
}
