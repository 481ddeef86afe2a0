package simulation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// recreate deletes a topic and creates it again: at once, or after a while in which
// it is missing. Its records are gone; all records of the new one must be handled.
func (w *world) recreate(t *rapid.T) {
	if len(w.open) > 0 || w.down {
		t.Skip("under a transaction, or during an outage")
	}
	topic := w.topic(t)
	w.trouble()
	w.recordLog()
	old, partitions := w.partitionsOf(topic), rapid.IntRange(1, 8).Draw(t, "partitions")
	missing := seconds(t, "missing for s", 0, 0, 1, 10)
	whole := w.mustBeginWhole(topic)
	// All is at rest, so nothing happens between this and the deletion. Forgotten
	// after it, the judge could hear of a new claim while it still knows the old log.
	w.forget(old)
	if missing == 0 {
		w.must(t, w.broker.RecreateTopic(topic, partitions))
	} else {
		w.must(t, w.broker.DeleteTopic(topic))
	}
	if missing > 0 {
		time.Sleep(missing)
		w.check(t)
		w.must(t, w.broker.CreateTopic(topic, partitions))
	}
	w.expectWhole(topic, whole)
	w.sendTo(t, topic)
	time.Sleep(w.drawn.drain + time.Second)
	w.expectWhole(topic, nil)
	w.trouble()
}

// forget records with the judge that partitions are gone with their topic.
func (w *world) forget(ps []judge.Partition) {
	w.mu.Lock()
	for _, p := range ps {
		delete(w.read, p)
		delete(w.damaged, p)
		for _, group := range groups {
			delete(w.pinned, judge.Subscription{Group: group, Topic: fmt.Sprint(p)})
		}
	}
	w.mu.Unlock()
	for _, p := range ps {
		w.judge.Tell(judge.Recreated{Partition: p, Within: w.drawn.drain + time.Second})
	}
}

// leaving reports whether a consumer of a group is on its way out, as one that was
// switched off and on is: its successor knows nothing of the old topic, and begins at
// its InitialOffset.
func (w *world) leaving(group string) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		return slices.ContainsFunc(n.view.Consumers(), func(c kafka.ConsumerStatus) bool {
			return c.Group == group && c.State == kafka.StateStopping
		})
	})
}

// mustBeginWhole returns the groups that begin at the beginning of a topic that is
// created under this name now, whatever their InitialOffset is: they have members that
// can be reached and know of the old one. A foreign member knows nothing of it.
func (w *world) mustBeginWhole(topic string) (whole []string) {
	if len(w.cuts) > 0 || w.faults.active() || slices.ContainsFunc(w.nodes, func(n *node) bool { return n.stopping }) {
		return nil
	}
	for _, group := range groups {
		if slices.Contains(w.topics(group), topic) && slices.ContainsFunc(w.broker.Members(group), ours) && !w.leaving(group) {
			whole = append(whole, group)
		}
	}
	return whole
}

// ours reports whether a member is a consumer of the core.
func ours(m memory.Member) bool { return m.ClientID != "foreign" }

// expectWhole has pin hold where groups begin in a topic.
func (w *world) expectWhole(topic string, groups []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = nil
	for _, group := range groups {
		w.whole = append(w.whole, judge.Subscription{Group: group, Topic: topic})
	}
}

func (w *world) partitionsOf(topic string) []judge.Partition {
	return slices.DeleteFunc(w.partitions(), func(p judge.Partition) bool { return p.Topic != topic })
}

// damage makes a record unreadable, until all is healed and the records around it have
// been handled, or until it is repaired.
func (w *world) damage(t *rapid.T) {
	p := w.anyPartition(t)
	start, end, err := w.broker.Offsets(p.Topic, p.Number)
	w.must(t, err)
	if start == end || len(w.open) > 0 {
		t.Skip("nothing to damage, or under a transaction")
	}
	offset := end - 1 - rapid.Int64Range(0, min(end-1-start, 10)).Draw(t, "from the end")
	w.recordLog()
	w.must(t, w.broker.Damage(p.Topic, p.Number, offset))
	if first, damaged := w.damaged[p]; !damaged || offset < first {
		w.damaged[p] = offset
		w.judge.Tell(judge.Damaged{Partition: p, Offset: offset})
	}
}

func (w *world) repairDamage(t *rapid.T) {
	if len(w.damaged) == 0 {
		t.Skip("nothing is damaged")
	}
	for _, p := range w.partitions() {
		w.repairPartition(t, p)
	}
}

func (w *world) repairPartition(t *rapid.T, p judge.Partition) {
	if _, damaged := w.damaged[p]; damaged {
		w.must(t, w.broker.Repair(p.Topic, p.Number))
		w.judge.Tell(judge.Damaged{Partition: p, Offset: -1})
		delete(w.damaged, p)
	}
}

// appear creates the topic that one group has been waiting for.
func (w *world) appear(t *rapid.T) {
	if !w.drawn.later || w.broker.Partitions(later) > 0 {
		t.Skip("nothing is missing")
	}
	w.must(t, w.broker.CreateTopic(later, rapid.IntRange(1, 3).Draw(t, "partitions")))
	w.sendTo(t, later)
}

// sendTo appends some records to a topic from outside.
func (w *world) sendTo(t *rapid.T, topic string) {
	for range rapid.IntRange(1, 20).Draw(t, "records") {
		value := w.value("r")
		w.must(t, w.broker.Send(topic, w.key(value), value))
	}
}

// late delays the answers to a member's heartbeats.
func (w *world) late(t *rapid.T) {
	m, _ := w.anyMember(t)
	m.SetDelay(time.Duration(rapid.SampledFrom([]int{2, 500, 3_000}).Draw(t, "delay ms")) * time.Millisecond)
}

// expiring records with the judge when members that were cut off are removed.
func (w *world) expiring(group string, who func(memory.Member) (judge.Member, bool)) {
	for _, m := range w.broker.Members(group) {
		if member, ok := who(m); ok && !m.Expires.IsZero() {
			w.judge.Tell(judge.Expiring{Member: member, At: m.Expires})
		}
	}
}

// joinForeign adds a member of another program to a group, which reads a missing topic,
// or one with an invalid name, or has none of the group's balance strategies, or the
// other protocol.
func (w *world) joinForeign(t *rapid.T) {
	if len(w.foreign) == 3 {
		t.Skip("enough of them")
	}
	w.trouble()
	g := group(t)
	cfg := driver.ConsumerConfig{
		Group: g, GroupProtocol: w.drawn.protocols[g], ClientID: "foreign", Topics: []string{"foreign", "no such/topic"}, BalanceStrategies: w.drawn.strategies,
		SessionTimeout: w.drawn.session, HeartbeatInterval: time.Second, RebalanceTimeout: w.drawn.rebalance, DrainTimeout: time.Second,
	}
	if rarely(t, "other strategy") {
		cfg.BalanceStrategies = []driver.BalanceStrategy{(w.drawn.strategies[0] + 1) % 4}
	}
	if rarely(t, "other protocol") {
		cfg.GroupProtocol = driver.ConsumerProtocol - cfg.GroupProtocol
	}
	w.foreign = append(w.foreign, w.broker.JoinForeign(cfg))
}

func (w *world) leaveForeign(t *rapid.T) {
	if len(w.foreign) == 0 {
		t.Skip("none is there")
	}
	w.trouble()
	w.dismiss()
	w.trouble()
}

// dismiss has the foreign members leave, which wait for nothing.
func (w *world) dismiss() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, f := range w.foreign {
		f.Leave(ctx)
	}
	w.foreign = nil
}
