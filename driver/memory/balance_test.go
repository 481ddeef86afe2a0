package memory

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

func partitionsOf(names ...string) []TopicPartition {
	var tps []TopicPartition
	for _, n := range names {
		var tp TopicPartition
		fmt.Sscanf(n, "%1s%d", &tp.Topic, &tp.Partition)
		tps = append(tps, tp)
	}
	return tps
}

func TestBalance(t *testing.T) {
	counts := map[string]int{"a": 3, "b": 3, "c": 2}
	both := []string{"a", "b"}
	tests := []struct {
		name     string
		strategy driver.BalanceStrategy
		subs     []subscription
		want     [][]TopicPartition
	}{
		// The two examples of the Javadoc of RoundRobinAssignor and RangeAssignor.
		{"round robin", driver.RoundRobin, []subscription{{topics: both}, {topics: both}}, [][]TopicPartition{
			partitionsOf("a0", "a2", "b1"), partitionsOf("a1", "b0", "b2"),
		}},
		{"range", driver.Range, []subscription{{topics: both}, {topics: both}}, [][]TopicPartition{
			partitionsOf("a0", "a1", "b0", "b1"), partitionsOf("a2", "b2"),
		}},
		{"round robin, differing topics", driver.RoundRobin,
			[]subscription{{topics: []string{"c"}}, {topics: both}}, [][]TopicPartition{
				partitionsOf("c0", "c1"), partitionsOf("a0", "a1", "a2", "b0", "b1", "b2"),
			}},
		{"range, more members than partitions", driver.Range,
			[]subscription{{topics: []string{"c"}}, {topics: []string{"c"}}, {topics: []string{"c"}}}, [][]TopicPartition{
				partitionsOf("c0"), partitionsOf("c1"), nil,
			}},
		{"sticky moves only what balance asks for", driver.Sticky, []subscription{
			{topics: both, previous: partitionsOf("a0", "a1", "a2", "b0")},
			{topics: both, previous: partitionsOf("b1", "b2")},
			{topics: both},
		}, [][]TopicPartition{
			partitionsOf("a0", "a1"), partitionsOf("b1", "b2"), partitionsOf("a2", "b0"),
		}},
		{"cooperative: what is held goes nowhere yet", driver.CooperativeSticky, []subscription{
			{topics: []string{"a"}, owned: partitionsOf("a0", "a1", "a2"), previous: partitionsOf("a0", "a1", "a2")},
			{topics: []string{"a"}},
		}, [][]TopicPartition{partitionsOf("a0", "a1"), {}}},
		{"cooperative: what was given up arrives", driver.CooperativeSticky, []subscription{
			{topics: []string{"a"}, owned: partitionsOf("a0", "a1"), previous: partitionsOf("a0", "a1")},
			{topics: []string{"a"}},
		}, [][]TopicPartition{partitionsOf("a0", "a1"), partitionsOf("a2")}},
		{"unknown topic", driver.RoundRobin, []subscription{{topics: []string{"z"}}}, [][]TopicPartition{nil}},
	}
	for _, tt := range tests {
		got := balance(tt.strategy, tt.subs, func(topic string) int { return counts[topic] })
		assert.Equal(t, tt.want, got, tt.name)
	}
}

var eager = []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky}

// drawSubscriptions draws members that hold disjoint parts of what there is.
func drawSubscriptions(t *rapid.T, counts map[string]int) []subscription {
	topics := []string{"a", "b", "c"}
	subs := make([]subscription, rapid.IntRange(1, 6).Draw(t, "members"))
	for i := range subs {
		for _, topic := range topics {
			if rapid.Bool().Draw(t, "subscribes") {
				subs[i].topics = append(subs[i].topics, topic)
			}
		}
	}
	for _, topic := range topics {
		for p := range rapid.IntRange(0, 8).Draw(t, "partitions of "+topic) {
			counts[topic]++
			if i := rapid.IntRange(-1, len(subs)-1).Draw(t, "owner"); i >= 0 {
				tp := TopicPartition{topic, int32(p)}
				subs[i].owned = append(subs[i].owned, tp)
				subs[i].previous = append(subs[i].previous, tp)
			}
		}
	}
	return subs
}

// owners returns the owner of each partition. It fails if two get the same or one gets what
// it has not subscribed to.
func owners(t *rapid.T, plan [][]TopicPartition, subs []subscription) map[TopicPartition]int {
	owner := make(map[TopicPartition]int)
	for i, tps := range plan {
		for _, tp := range tps {
			_, taken := owner[tp]
			require.False(t, taken, "two owners of one partition")
			require.True(t, subs[i].has(tp.Topic), "a member got a topic that it has not subscribed to")
			owner[tp] = i
		}
	}
	return owner
}

func TestEagerAssignsEachPartitionOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := make(map[string]int)
		subs := drawSubscriptions(t, counts)
		plan := balance(rapid.SampledFrom(eager).Draw(t, "strategy"), subs, func(s string) int { return counts[s] })
		owner := owners(t, plan, subs)
		for _, tp := range subscribed(subs, func(s string) int { return counts[s] }) {
			_, owned := owner[tp]
			require.True(t, owned, "a partition has no owner")
		}
	})
}

// Members with the same topics differ by one at most: for Range, in each topic.
func TestBalancedWithinOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := make(map[string]int)
		subs := drawSubscriptions(t, counts)
		same := rapid.Bool().Draw(t, "all subscribe to the same")
		for i := range subs {
			if same {
				subs[i].topics = []string{"a", "b", "c"}
			}
		}
		partitions := func(s string) int { return counts[s] }
		sticky := balance(driver.Sticky, subs, partitions)
		roundRobin := balance(driver.RoundRobin, subs, partitions)
		byRange := balance(driver.Range, subs, partitions)
		for i := range subs {
			for j := range subs {
				if !slices.Equal(subs[i].topics, subs[j].topics) {
					continue
				}
				require.False(t, len(sticky[i])-len(sticky[j]) > 1, "sticky is not balanced")
				require.False(t, same && len(roundRobin[i])-len(roundRobin[j]) > 1, "round robin is not balanced")
				for topic := range counts {
					require.False(t, countOf(byRange[i], topic)-countOf(byRange[j], topic) > 1, "range is not balanced")
				}
			}
		}
	})
}

func countOf(tps []TopicPartition, topic string) (n int) {
	for _, tp := range tps {
		if tp.Topic == topic {
			n++
		}
	}
	return n
}

// Whoever had no more than its share keeps it all: only the surplus moves.
func TestStickyKeeps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := make(map[string]int)
		subs := drawSubscriptions(t, counts)
		for i := range subs {
			subs[i].topics = []string{"a", "b", "c"}
		}
		total := counts["a"] + counts["b"] + counts["c"]
		share := total / len(subs)
		plan := balance(driver.Sticky, subs, func(s string) int { return counts[s] })
		for i, s := range subs {
			kept := 0
			for _, tp := range s.previous {
				if slices.Contains(plan[i], tp) {
					kept++
				}
			}
			require.False(t, kept < min(len(s.previous), share), "a member lost a partition that balance did not ask for")
		}
		again := slices.Clone(subs)
		for i := range again {
			again[i].previous = plan[i]
		}
		second := balance(driver.Sticky, again, func(s string) int { return counts[s] })
		require.True(t, slices.EqualFunc(plan, second, slices.Equal), "a balanced plan has changed")
	})
}

// The second round of a cooperative rebalance ends where sticky would have gone
// at once, and nothing is ever held by two.
func TestCooperativeSettlesInTwoRounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := make(map[string]int)
		subs := drawSubscriptions(t, counts)
		partitions := func(s string) int { return counts[s] }
		want := balance(driver.Sticky, subs, partitions)
		for range 2 {
			plan := balance(driver.CooperativeSticky, subs, partitions)
			for tp, i := range owners(t, plan, subs) {
				for j, s := range subs {
					require.False(t, j != i && slices.Contains(s.owned, tp), "a partition was given away while it was held")
				}
			}
			for i := range subs {
				subs[i].owned, subs[i].previous = plan[i], plan[i]
			}
		}
		lens := func(plan [][]TopicPartition) (n int) {
			for _, tps := range plan {
				n += len(tps)
			}
			return n
		}
		require.True(t, lens(want) == lens(balance(driver.CooperativeSticky, subs, partitions)), "partitions are left over after the second round")
	})
}
