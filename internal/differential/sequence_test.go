package differential

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A sequence is a topic, a group on it, and what happens to the two.
type sequence struct {
	partitions int32
	strategy   driver.BalanceStrategy
	initial    driver.InitialOffset
	outOfRange driver.OutOfRange
	static     bool // members have instance IDs
	drains     bool // Revoke commits what had been delivered when the group was last at rest
	ops        []operation
}

// An operation is one step of a sequence. It adds its observations to the lane. An
// operation that makes no sense in the current state does nothing, so that a sequence
// stays valid when operations are removed from it.
type operation interface {
	fmt.Stringer
	do(l *lane)
}

// free reports whether a sequence shows which member has which partition, which is
// a free choice: a partition that stays with its member over a rebalance or a restart
// goes on where it was, and the others start again.
func (s sequence) free() bool { return s.strategy == driver.CooperativeSticky || s.static }

func (s sequence) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d partitions, %v, from %v, out of range %v, static %v, drains %v",
		s.partitions, s.strategy, s.initial, s.outOfRange, s.static, s.drains)
	for i, op := range s.ops {
		fmt.Fprintf(&b, "\n%3d %v", i, op)
	}
	return b.String()
}

// without returns the sequence with one operation taken out.
func (s sequence) without(i int) sequence {
	ops := append([]operation{}, s.ops[:i]...)
	s.ops = append(ops, s.ops[i+1:]...)
	return s
}

// withoutRecreations returns the sequence without the operations that create the topic again.
func (s sequence) withoutRecreations() sequence {
	s.ops = slices.DeleteFunc(slices.Clone(s.ops), func(op operation) bool { return op == operation(recreation{}) })
	return s
}

const mostMembers = 3

var sequences = rapid.Custom(func(t *rapid.T) sequence {
	s := sequence{
		partitions: rapid.Int32Range(1, 4).Draw(t, "partitions"),
		strategy: rapid.SampledFrom([]driver.BalanceStrategy{
			driver.RoundRobin, driver.Range, driver.Sticky, driver.CooperativeSticky,
		}).Draw(t, "strategy"),
		initial: rapid.SampledFrom([]driver.InitialOffset{driver.OffsetOldest, driver.OffsetNewest}).Draw(t, "initial"),
		outOfRange: rapid.SampledFrom([]driver.OutOfRange{
			driver.OutOfRangeStop, driver.OutOfRangeOldest, driver.OutOfRangeNewest,
		}).Draw(t, "out of range"),
		static: rapid.IntRange(0, 3).Draw(t, "static") == 0,
		drains: rapid.Bool().Draw(t, "drains"),
	}
	if s.free() {
		s.drains = false
	}
	ops := rapid.SliceOfN(operations(s), 8, 20).Draw(t, "operations")
	s.ops = append([]operation{join{0}}, ops...)
	return s
})

func operations(s sequence) *rapid.Generator[operation] {
	choices := []choice{
		{10, sends(s.partitions)},
		{2, refusals},
		{3, joins},
		{6, commits(s)},
		{1, wrongCommits},
		{1, newcomers},
		{1, misreaders},
		{2, rapid.Just[operation](expiry{})},
		{1, rapid.Just[operation](stranger{})},
		{1, rapid.Just[operation](growth{})},
		{2, rapid.Just[operation](recreation{})},
		{2, holes(s.partitions)},
		{2, holds(s.partitions)},
		{2, releases(s.partitions)},
	}
	if s.static {
		choices = append(choices, choice{2, restarts}, choice{1, usurpers})
	} else {
		choices = append(choices, choice{3, leaves}) // a static member does not leave
	}
	if !s.free() { // a member that loses its place would show
		choices = append(choices, choice{5, deletions(s.partitions)})
	}
	return weighted(choices...)
}

type choice struct {
	weight int
	of     *rapid.Generator[operation]
}

func weighted(choices ...choice) *rapid.Generator[operation] {
	var gens []*rapid.Generator[operation]
	for _, c := range choices {
		for range c.weight {
			gens = append(gens, c.of)
		}
	}
	return rapid.OneOf(gens...)
}

// draws returns a generator of operations.
func draws[O operation](draw func(t *rapid.T) O) *rapid.Generator[operation] {
	return rapid.Custom(func(t *rapid.T) operation { return draw(t) })
}
