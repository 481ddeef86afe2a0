package kafkatest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// Rebalance makes all members of the group that a job is in join anew, and waits
// until they have and every partition is assigned again. A handler that runs meanwhile
// finds its context cancelled with ErrRevoked; what it handles within the drain
// window is committed.
func (k *Kafka) Rebalance(job string) {
	k.t.Helper()
	c := k.must(job)
	k.rejoin(c, "rejoin after a rebalance", func() { k.Broker.Rebalance(c.group) })
}

// Crash ends the session of a job's member without a goodbye, and waits until
// the job has joined anew and every partition of its group is assigned again.
// Nothing is committed on the way: what was handled and not yet committed is
// handled again, and so is a record whose handler is running, which finds its
// context cancelled with ErrPartitionLost. A member commits soon after it has
// run out of records, so to see a record that was handled be handled again, have
// [Kafka.FailCommits] keep it from that.
func (k *Kafka) Crash(job string) {
	k.t.Helper()
	c := k.must(job)
	k.rejoin(c, "rejoin after its session ended", func() {
		for _, m := range k.Broker.Members(c.group) {
			if m.ClientID == c.clientID {
				m.Expire()
			}
		}
	})
}

// rejoin does what makes c's group rebalance, and waits until each member of it
// has joined once more or ended.
func (k *Kafka) rejoin(c *consumer, what string, do func()) {
	k.t.Helper()
	report := func() string { return fmt.Sprintf("consumer %q to %s\n%s", c.job, what, k.describe(c)) }
	k.wait(func() bool { return k.settled(c.group) }, report)
	before := k.joins(c.group)
	if !slices.ContainsFunc(slices.Collect(maps.Keys(before)), c.has) {
		k.t.Fatalf("kafkatest: consumer %q can not %s: it is no member of group %q\n%s", c.job, what, c.group, k.describe(c))
	}
	do()
	k.wait(func() bool { return k.joinedSince(before) && k.settled(c.group) }, report)
}

// has reports whether m is c's, as far as its client ID tells.
func (c *consumer) has(m *member) bool { return m.clientID == c.clientID }

// joins returns how often each member of a group has joined.
func (k *Kafka) joins(group string) map[*member]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	joins := make(map[*member]int)
	for _, m := range k.members {
		if m.group == group {
			joins[m] = m.joins
		}
	}
	return joins
}

// joinedSince reports whether every member has joined once more or ended.
func (k *Kafka) joinedSince(before map[*member]int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for m, n := range before {
		if m.joins == n && slices.Contains(k.members, m) {
			return false
		}
	}
	return true
}

// allSettled reports whether all groups are settled.
func (k *Kafka) allSettled() bool {
	for _, job := range k.jobs() {
		if k.GetConsumerSwitch(job) && k.state(job) != kafka.StateRunning {
			return false
		}
	}
	return !slices.ContainsFunc(k.known(), func(c *consumer) bool { return !k.settled(c.group) })
}

// settled reports whether all consumers of a group that are switched on are
// running and own what the broker has assigned to them, and no partition that
// they read is left over. What the broker says alone would not do, nor what they
// own: while a cooperative member is about to give up half of its partitions for
// a new one, every partition has an owner.
func (k *Kafka) settled(group string) bool {
	owned := make(partitions)
	var ours, topics []string
	for _, c := range k.known() {
		s, err := k.Consumer(c.job)
		if c.group != group || err != nil || !s.Switch {
			continue
		}
		if k.state(c.job) != kafka.StateRunning {
			return false
		}
		for _, p := range s.Partitions {
			owned[memory.TopicPartition{Topic: p.Topic, Partition: p.Partition}] = true
		}
		ours, topics = append(ours, c.clientID), append(topics, c.topics...)
	}
	assigned, others := k.assigned(group, ours)
	return maps.Equal(owned, assigned) && k.cover(topics, assigned, others) && !k.assigning(group)
}

type partitions map[memory.TopicPartition]bool

// assigned returns what the members of a group with our client IDs have been
// assigned, and what others have, of another manager.
func (k *Kafka) assigned(group string, ours []string) (own, others partitions) {
	own, others = make(partitions), make(partitions)
	for _, m := range k.Broker.Members(group) {
		set := others
		if slices.Contains(ours, m.ClientID) {
			set = own
		}
		for _, tp := range m.Assignment {
			set[tp] = true
		}
	}
	return own, others
}

// cover reports whether every partition of topics is in one of two sets.
func (k *Kafka) cover(topics []string, a, b partitions) bool {
	for _, topic := range topics {
		for p := range int32(k.Broker.Partitions(topic)) {
			if tp := (memory.TopicPartition{Topic: topic, Partition: p}); !a[tp] && !b[tp] {
				return false
			}
		}
	}
	return true
}

// assigning reports whether a member of a group is being told of partitions:
// their consumer owns them by then, but hooks may still have to hear of it.
func (k *Kafka) assigning(group string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.members, func(m *member) bool { return m.group == group && m.assigning })
}

// known returns the consumers.
func (k *Kafka) known() []*consumer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.consumers)
}
