package kafkatest

import (
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// Rebalance makes all members of the group that a job is in join again, and waits
// until they have and every partition is assigned again. A handler that runs meanwhile
// finds its context cancelled with ErrRevoked; what it handles within the drain
// window is committed.
func (k *Kafka) Rebalance(job string) {
	k.t.Helper()
	k.rejoin(job, "rejoin after a rebalance", func(s kafka.ConsumerStatus) bool {
		k.Broker.Rebalance(s.Group)
		return true
	})
}

// Crash ends the session of a job's member without a goodbye, and waits until
// the job has joined again and every partition of its group is assigned again.
// Nothing is committed on the way: a record that was handled and not yet committed
// is handled again, and so is a record whose handler is running, which finds its
// context cancelled with ErrPartitionLost. A member commits soon after it has
// run out of records, so to see a record that was handled be handled again, have
// [Kafka.FailCommits] keep it from that.
func (k *Kafka) Crash(job string) {
	k.t.Helper()
	k.rejoin(job, "rejoin after its session ended", func(s kafka.ConsumerStatus) bool {
		members := k.Broker.Members(s.Group)
		i := memberOf(s, members)
		if i >= 0 {
			members[i].Expire()
		}
		return i >= 0
	})
}

// rejoin does what makes a job's group rebalance, as soon as that can be done,
// and waits until each member of it has joined once more or ended.
func (k *Kafka) rejoin(job, what string, do func(kafka.ConsumerStatus) bool) {
	k.t.Helper()
	c := k.must(job)
	report := func() string {
		return fmt.Sprintf("consumer %q to %s\n%s", c.JobName, what, k.describe(k.must(job)))
	}
	k.wait(func() bool { return k.settled(c.Group) }, report)
	if k.state(c.JobName) != kafka.StateRunning {
		k.t.Fatalf("kafkatest: consumer %q cannot %s: it is no member of group %q\n%s", c.JobName, what, c.Group, k.describe(k.must(job)))
	}
	before := k.joins(c.Group)
	k.wait(func() bool { return do(k.must(job)) }, report)
	k.wait(func() bool { return k.joinedSince(before) && k.settled(c.Group) }, report)
}

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
	all := k.Consumers()
	return !slices.ContainsFunc(all, func(s kafka.ConsumerStatus) bool { return !k.settledAmong(all, s.Group) })
}

// settled reports whether a group is settled.
func (k *Kafka) settled(group string) bool { return k.settledAmong(k.Consumers(), group) }

// settledAmong reports whether all consumers of a group that are switched on are
// running and own what the broker has assigned to them, and no partition that
// they read is left over. What the broker says alone would not do, nor what they
// own: while a cooperative member is about to give up half of its partitions for
// a new one, every partition has an owner.
func (k *Kafka) settledAmong(all []kafka.ConsumerStatus, group string) bool {
	var running []kafka.ConsumerStatus
	for _, s := range all {
		if s.Group != group || !s.Switch {
			continue
		}
		if k.state(s.JobName) != kafka.StateRunning {
			return false
		}
		running = append(running, s)
	}
	members := k.Broker.Members(group)
	return k.covered(running, members) && matched(running, members) && k.joined(group)
}

// covered reports whether every partition that consumers read is assigned to one
// of members, be it of another manager.
func (k *Kafka) covered(consumers []kafka.ConsumerStatus, members []memory.Member) bool {
	for _, s := range consumers {
		for _, topic := range s.Topics {
			for p := range int32(k.Broker.Partitions(topic)) {
				tp := memory.TopicPartition{Topic: topic, Partition: p}
				if !slices.ContainsFunc(members, func(m memory.Member) bool { return slices.Contains(m.Assignment, tp) }) {
					return false
				}
			}
		}
	}
	return true
}

// matched reports whether each consumer has a member of its own. It changes
// members.
func matched(consumers []kafka.ConsumerStatus, members []memory.Member) bool {
	for _, s := range consumers {
		i := memberOf(s, members)
		if i < 0 {
			return false
		}
		members = slices.Delete(members, i, i+1)
	}
	return true
}

// memberOf returns the index of the member that has been assigned what a consumer
// owns, or -1. Of several with nothing any one will do, and client IDs alone
// would not: consumers may share one.
func memberOf(s kafka.ConsumerStatus, members []memory.Member) int {
	return slices.IndexFunc(members, func(m memory.Member) bool {
		return m.ClientID == s.ClientID && len(m.Assignment) == len(s.Partitions) &&
			!slices.ContainsFunc(s.Partitions, func(p kafka.PartitionStatus) bool {
				return !slices.Contains(m.Assignment, memory.TopicPartition{Topic: p.Topic, Partition: p.Partition})
			})
	})
}

// joined reports whether no member of a group is between two assignments. It has
// the last word on whether a group is settled. Otherwise this could happen: a
// member is seen with what it has, loses it, joins again and is assigned the same
// again; that agrees with the broker, but the member has nothing yet. Nor need
// a hook that is called with an assignment have returned.
func (k *Kafka) joined(group string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !slices.ContainsFunc(k.members, func(m *member) bool { return m.group == group && !m.joined })
}
