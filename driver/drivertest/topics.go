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
		{"MissingTopicStopsNoOther", "A missing topic must not keep Run from any other topic. Run must pick it up within a minute of its appearance.", missingTopicStopsNoOther},
		{"ForbiddenTopicStopsNoOther", "Run must report a topic that this member may not read. The topic must not keep Run from any other topic.", forbiddenTopicStopsNoOther},
		{"ForeignTopicsAreNoError", "Topics to which only other members of the group subscribe are never an error.", foreignTopicsAreNoError},
		{"NoCommonStrategyWaits", "Run must wait, and report to h.Error, while the members have no balance strategy in common.", noCommonStrategyWaits},
		{"DamageStopsItsPartitionOnly", "Run must report a damaged batch as a PartitionError and must not stop another partition for it. It must deliver the intact records before it, and must not end the claim.", damageStopsItsPartitionOnly},
		{"RecreatedTopicIsAnother", "When a topic is deleted and created again, its claims must be Lost, h.Error must get a DataLossError with Recreated set, and the claims of the new incarnation must start at its beginning.", recreatedTopicIsAnother},
		{"RecreatedTopicIsReadWhole", "The claims of a new incarnation must start at its beginning, regardless of InitialOffset.", recreatedTopicIsReadWhole},
		{"OldPositionNeverCounts", "A position from the old incarnation of a topic must never apply to the new one.", oldPositionNeverCounts},
		{"ProducerFollowsItsTopic", "If a topic is deleted and created again, the producer must send to the new one; messages may fail meanwhile.", producerFollowsItsTopic},
		{"StartThatSkipsIsReported", "A NoPositionError must report a claim that starts without a committed position, if the start skips records.", startThatSkipsIsReported},
	}
}

// minute is the time that the contract gives a driver to notice a change of topics,
// with a margin for the consequences.
func (e *env) minute() time.Duration { return max(e.Patience, 75*time.Second) }

// topicTrouble reports whether h.Error got a PartitionError of a whole topic.
func (m *member) topicTrouble(topic string, codes ...string) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		p, ok := errors.AsType[*driver.PartitionError](err)
		return ok && p.Topic == topic && p.Partition == -1 && slices.Contains(codes, codeOf(err))
	})
}

// heard reports whether h.Error got an error with this code.
func (m *member) heard(code string) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool { return codeOf(err) == code })
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
	if e.classic() {
		m.await("a rebalance", func() bool { return m.assigns > joins })
	}
	claim := m.waitClaims(2)[0]
	m.waitRecords(claim, 3)
	e.quiet()
	e.wantRunning(m)
	leave()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, code := range []string{"UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION", "TOPIC_AUTHORIZATION_FAILED"} {
		if m.heard(code) {
			e.breach(e.name, "Handler.Error got %v, want no error of a topic that only another member reads", m.errs)
		}
	}
}

func noCommonStrategyWaits(e *env) {
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
	errs := b.errs
	e.mu.Unlock()
	for _, err := range errs {
		if errors.Is(err, driver.ErrPermanent) {
			e.errorf("Handler.Error got %v, which passes when the other member leaves: want no ErrPermanent", err)
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

// damagedAt reports whether h.Error got the PartitionError of a batch that cannot be
// read.
func (m *member) damagedAt(topic string, partition int32, offset int64) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		p, ok := errors.AsType[*driver.PartitionError](err)
		return ok && p.Topic == topic && p.Partition == partition && p.Offset == offset && codeOf(err) == "CORRUPT_MESSAGE"
	})
}

// recreate returns a member that has committed 3 of 5 records, and a function that
// recreates its topic.
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
	m.await("a DataLossError with Recreated set", func() bool { return m.reportedRecreation(old.Topic, 3, 0) })
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
		e.errorf("after the new topic was read, its committed offset is %d, want 0 or none", got)
	}
}

// wantReadWhole waits for a new claim, which must get all records of the new topic.
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

// reportedRecreation reports whether h.Error got the DataLossError of a recreated
// topic.
func (m *member) reportedRecreation(topic string, from, to int64) bool {
	return slices.ContainsFunc(m.errs, func(err error) bool {
		gap, ok := errors.AsType[*driver.DataLossError](err)
		return ok && gap.Recreated && gap.Topic == topic && gap.From == from && gap.To == to
	})
}

func producerFollowsItsTopic(e *env) {
	recreater := ability[TopicRecreater](e)
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 3 })
	wantDelivered(e, p.produceAll(topic, 0, "old")...)
	e.must(recreater.RecreateTopic(e.context(), topic, 1))
	stored := 0 // in a row: a driver may notice the new topic between two messages
	e.eventually("ten messages in a row to be stored in the new topic", func() bool {
		time.Sleep(100 * time.Millisecond)
		if stored++; p.produceAll(topic, 0, "new")[0].outcome() != nil {
			stored = 0
		}
		return stored == 10
	})
	if n := len(e.read(topic, 0)); n < 10 {
		e.errorf("the new topic has %d records, want the 10 that were acknowledged", n)
	}
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
