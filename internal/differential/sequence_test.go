package differential

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A sequence is a topic, a group on it, and what happens to the two.
type sequence struct {
	partitions int32
	strategy   driver.BalanceStrategy
	initial    driver.InitialOffset
	drains     bool // Revoke commits what has been delivered
	ops        []operation
}

// An operation is one thing that happens. It says to the lane what could be
// observed. What makes no sense as things stand does nothing, so that a sequence
// stays one when operations are taken out of it.
type operation interface {
	fmt.Stringer
	do(l *lane)
}

func (s sequence) cooperative() bool { return s.strategy == driver.CooperativeSticky }

func (s sequence) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d partitions, %v, from %v, drains %v", s.partitions, s.strategy, s.initial, s.drains)
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

const mostMembers = 3

var sequences = rapid.Custom(func(t *rapid.T) sequence {
	s := sequence{
		partitions: rapid.Int32Range(1, 4).Draw(t, "partitions"),
		strategy: rapid.SampledFrom([]driver.BalanceStrategy{
			driver.RoundRobin, driver.Range, driver.Sticky, driver.CooperativeSticky,
		}).Draw(t, "strategy"),
		initial: rapid.SampledFrom([]driver.InitialOffset{driver.OffsetOldest, driver.OffsetNewest}).Draw(t, "initial"),
		drains:  rapid.Bool().Draw(t, "drains"),
	}
	if s.cooperative() {
		s.drains = false // what moves is a free choice, and so would be what is committed
	}
	ops := rapid.SliceOfN(operations(s), 6, 16).Draw(t, "operations")
	s.ops = append([]operation{join{0}}, ops...)
	return s
})

func operations(s sequence) *rapid.Generator[operation] {
	return weighted(
		choice{6, sends(s.partitions)},
		choice{2, joins},
		choice{2, leaves},
		choice{4, commits(s.partitions)},
		choice{1, newcomers},
	)
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
