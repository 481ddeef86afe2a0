package memory

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A subscription is one member as an assignor sees it.
type subscription struct {
	topics   []string
	owned    []TopicPartition // its claims while it joins
	previous []TopicPartition // its latest assignment
}

func (s subscription) has(topic string) bool { return slices.Contains(s.topics, topic) }

// balance returns the partitions of each member, in order of topic and partition.
func balance(s driver.BalanceStrategy, subs []subscription, partitions func(string) int) [][]TopicPartition {
	all := subscribed(subs, partitions)
	var plan [][]TopicPartition
	switch s {
	case driver.Range:
		plan = byRange(subs, all)
	case driver.Sticky:
		plan = sticky(subs, all)
	case driver.CooperativeSticky:
		plan = withoutOwned(sticky(subs, all), subs)
	default:
		plan = roundRobin(subs, all)
	}
	for _, tps := range plan {
		slices.SortFunc(tps, comparePartitions)
	}
	return plan
}

// subscribed returns all partitions to which at least one member subscribes, in order.
func subscribed(subs []subscription, partitions func(string) int) []TopicPartition {
	var topics []string
	for _, s := range subs {
		topics = append(topics, s.topics...)
	}
	slices.Sort(topics)
	var all []TopicPartition
	for _, topic := range slices.Compact(topics) {
		for p := range partitions(topic) {
			all = append(all, TopicPartition{topic, int32(p)})
		}
	}
	return all
}

// roundRobin assigns the partitions to the members in turn.
func roundRobin(subs []subscription, all []TopicPartition) [][]TopicPartition {
	plan := make([][]TopicPartition, len(subs))
	i := 0
	for _, tp := range all {
		for !subs[i].has(tp.Topic) {
			i = (i + 1) % len(subs)
		}
		plan[i] = append(plan[i], tp)
		i = (i + 1) % len(subs)
	}
	return plan
}

// byRange assigns to each subscriber of a topic consecutive partitions of it. The first
// subscribers get one more if they cannot be shared equally.
func byRange(subs []subscription, all []TopicPartition) [][]TopicPartition {
	plan := make([][]TopicPartition, len(subs))
	for len(all) > 0 {
		topic := all[0].Topic
		n := 1
		for n < len(all) && all[n].Topic == topic {
			n++
		}
		stretch(plan, subs, all[:n])
		all = all[n:]
	}
	return plan
}

func stretch(plan [][]TopicPartition, subs []subscription, tps []TopicPartition) {
	var subscribers []int
	for i, s := range subs {
		if s.has(tps[0].Topic) {
			subscribers = append(subscribers, i)
		}
	}
	each, more := len(tps)/len(subscribers), len(tps)%len(subscribers)
	for k, i := range subscribers {
		n := each
		if k < more {
			n++
		}
		plan[i] = append(plan[i], tps[:n]...)
		tps = tps[n:]
	}
}

// sticky keeps every partition at its owner, as far as balance allows.
func sticky(subs []subscription, all []TopicPartition) [][]TopicPartition {
	plan, free := kept(subs, all)
	for _, tp := range free {
		i := leastLoaded(plan, subs, tp)
		plan[i] = append(plan[i], tp)
	}
	for moveOne(plan, subs) {
	}
	return plan
}

// kept returns the partitions that each member may keep, and those without an owner.
func kept(subs []subscription, all []TopicPartition) (plan [][]TopicPartition, free []TopicPartition) {
	owner := make(map[TopicPartition]int)
	for i, s := range subs {
		for _, tp := range s.previous {
			if _, taken := owner[tp]; !taken && s.has(tp.Topic) {
				owner[tp] = i
			}
		}
	}
	plan = make([][]TopicPartition, len(subs))
	for _, tp := range all {
		if i, ok := owner[tp]; ok {
			plan[i] = append(plan[i], tp)
		} else {
			free = append(free, tp)
		}
	}
	return plan, free
}

func leastLoaded(plan [][]TopicPartition, subs []subscription, tp TopicPartition) int {
	least := -1
	for i, s := range subs {
		if s.has(tp.Topic) && (least < 0 || len(plan[i]) < len(plan[least])) {
			least = i
		}
	}
	return least
}

// moveOne moves one partition from a member to another that has at least two fewer. It
// tries the most loaded member first, and reports whether it moved any. Each move lowers
// the sum of the squares of the loads, so the moves come to an end.
func moveOne(plan [][]TopicPartition, subs []subscription) bool {
	for _, from := range byLoad(plan) {
		for k := len(plan[from]) - 1; k >= 0; k-- {
			tp := plan[from][k]
			to := leastLoaded(plan, subs, tp)
			if len(plan[to])+1 < len(plan[from]) {
				plan[from] = slices.Delete(plan[from], k, k+1)
				plan[to] = append(plan[to], tp)
				return true
			}
		}
	}
	return false
}

// byLoad returns the members' indices, the most loaded first.
func byLoad(plan [][]TopicPartition) []int {
	order := make([]int, len(plan))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(plan[b]) - len(plan[a]) })
	return order
}

// withoutOwned removes from a plan each partition that another member still holds: that
// member gives it up first and rejoins (KIP-429).
func withoutOwned(plan [][]TopicPartition, subs []subscription) [][]TopicPartition {
	owner := make(map[TopicPartition]int)
	for i, s := range subs {
		for _, tp := range s.owned {
			owner[tp] = i
		}
	}
	for i := range plan {
		plan[i] = slices.DeleteFunc(plan[i], func(tp TopicPartition) bool {
			o, held := owner[tp]
			return held && o != i
		})
	}
	return plan
}
