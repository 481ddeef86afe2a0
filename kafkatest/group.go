package kafkatest

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// Rebalance makes all members of a job's group join anew, and waits until they
// have and every partition is assigned again. A handler that runs meanwhile
// finds its context cancelled with ErrRevoked; what it handles within the drain
// window is committed.
func (k *Kafka) Rebalance(job string) {
	k.t.Helper()
	c := k.must(job)
	k.rejoin(c, "rejoin after a rebalance", func(*member) bool { return true }, func() {
		k.Broker.Rebalance(c.group)
	})
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
	own := func(m *member) bool { return m.clientID == c.clientID }
	k.rejoin(c, "rejoin after its session ended", own, func() {
		for _, m := range k.Broker.Members(c.group) {
			if m.ClientID == c.clientID {
				m.Expire()
			}
		}
	})
}

// rejoin does something to the members of c's group that own reports, and waits
// until each of them has joined once more or ended.
func (k *Kafka) rejoin(c *consumer, what string, own func(*member) bool, do func()) {
	k.t.Helper()
	report := func() string { return "consumer " + c.job + " to " + what + "\n" + k.describe(c) }
	k.wait(func() bool { return k.settled(c.group) }, report)
	before := k.joins(c.group, own)
	if len(before) == 0 {
		k.t.Fatalf("kafkatest: %s: no member of group %q\n%s", what, c.group, k.describe(c))
	}
	do()
	k.wait(func() bool { return k.joinedSince(before) && k.settled(c.group) }, report)
}

// joins returns how often each member of a group that own reports has joined.
func (k *Kafka) joins(group string, own func(*member) bool) map[*member]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	joins := make(map[*member]int)
	for _, m := range k.members {
		if m.group == group && own(m) {
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
// running, and every partition that they read is owned by one of them or
// assigned to a member of another manager.
func (k *Kafka) settled(group string) bool {
	owned := make(map[memory.TopicPartition]bool)
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
	k.addForeign(owned, group, ours)
	return k.all(topics, owned) && !k.assigning(group)
}

// addForeign adds what is assigned to the members of a group that do not have
// our client IDs.
func (k *Kafka) addForeign(owned map[memory.TopicPartition]bool, group string, ours []string) {
	for _, m := range k.Broker.Members(group) {
		if slices.Contains(ours, m.ClientID) {
			continue
		}
		for _, tp := range m.Assignment {
			owned[tp] = true
		}
	}
}

// assigning reports whether a member of a group is being told of partitions:
// their consumer owns them by then, but hooks may still have to hear of it.
func (k *Kafka) assigning(group string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.members, func(m *member) bool { return m.group == group && m.assigning })
}

// all reports whether every partition of topics is in owned.
func (k *Kafka) all(topics []string, owned map[memory.TopicPartition]bool) bool {
	for _, topic := range topics {
		for p := range int32(k.Broker.Partitions(topic)) {
			if !owned[memory.TopicPartition{Topic: topic, Partition: p}] {
				return false
			}
		}
	}
	return true
}

// known returns the consumers.
func (k *Kafka) known() []*consumer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.consumers)
}
