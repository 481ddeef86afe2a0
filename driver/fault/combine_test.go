package fault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
)

var boom = fault.Error("BOOM")

// fates asks i n times about one call and draws what happens: - nothing, B
// before, A after, N never, and d after a delay.
func fates(i fault.Injector, n int, c fault.Call) string {
	s := ""
	for range n {
		f := i.Inject(c)
		if f.Delay > 0 {
			s += "d"
		}
		s += [...]string{"-", "B", "A", "N"}[f.When]
	}
	return s
}

func TestCombine(t *testing.T) {
	commit := fault.Call{Op: fault.Commit, Group: "g", ClientID: "c", Partition: -1}
	mark := fault.Call{Op: fault.Mark, Group: "g", ClientID: "c", Topic: "t", Partition: 2}
	before := fault.Before(boom)
	tests := []struct {
		i            fault.Injector
		commit, mark string
		text         string
	}{
		{before, "BBB", "BBB", `Before(Error("BOOM"))`},
		{fault.After(fault.Permanent("BAD")), "AAA", "AAA", `After(Permanent("BAD"))`},
		{fault.Never(), "NNN", "NNN", `Never()`},
		{fault.Delay(time.Second), "d-d-d-", "d-d-d-", `Delay(1s)`},
		{fault.On(fault.Commit, before), "BBB", "---", `On(Commit, Before(Error("BOOM")))`},
		{fault.Group("g", before), "BBB", "BBB", `Group("g", Before(Error("BOOM")))`},
		{fault.Group("h", before), "---", "---", `Group("h", Before(Error("BOOM")))`},
		{fault.Client("c", before), "BBB", "BBB", `Client("c", Before(Error("BOOM")))`},
		{fault.Topic("t", before), "---", "BBB", `Topic("t", Before(Error("BOOM")))`},
		{fault.Partition(2, before), "---", "BBB", `Partition(2, Before(Error("BOOM")))`},
		{fault.Partition(3, before), "---", "---", `Partition(3, Before(Error("BOOM")))`},
		{fault.First(2, before), "BB-", "---", `First(2, Before(Error("BOOM")))`},
		{fault.Nth(2, fault.On(fault.Commit, before)), "-B-", "---", `Nth(2, On(Commit, Before(Error("BOOM"))))`},
		{fault.Nth(5, before), "---", "-B-", `Nth(5, Before(Error("BOOM")))`},
		{fault.Skip(2, before), "--B", "BBB", `Skip(2, Before(Error("BOOM")))`},
		{fault.Any(fault.First(1, fault.Never()), before), "NBB", "BBB", `Any(First(1, Never()), Before(Error("BOOM")))`},
		{fault.Any(), "---", "---", `Any()`},
		{fault.All(fault.Delay(1), fault.Nth(2, fault.Never()), before), "dBdNdB", "dBdBdB",
			`All(Delay(1ns), Nth(2, Never()), Before(Error("BOOM")))`},
		{fault.Chance(1, 7, before), "BBB", "BBB", `Chance(1, 7, Before(Error("BOOM")))`},
		{fault.Chance(0, 7, before), "---", "---", `Chance(0, 7, Before(Error("BOOM")))`},
		{fault.NewSwitch(before), "---", "---", `NewSwitch(Before(Error("BOOM")))`},
	}
	for _, tt := range tests {
		assert.Equalf(t, tt.commit, fates(tt.i, 3, commit), "%v: commits", tt.i)
		assert.Equalf(t, tt.mark, fates(tt.i, 3, mark), "%v: marks", tt.i)
		assert.Equal(t, tt.text, tt.i.String(), "text")
	}
}

func TestSwitch(t *testing.T) {
	s := fault.NewSwitch(fault.Before(boom))
	got := ""
	for _, on := range []bool{true, false, true} {
		s.Set(on)
		got += fates(s, 2, fault.Call{})
	}
	assert.Equal(t, "BB--BB", got)
}

// The delays of All add up.
func TestAllAddsDelays(t *testing.T) {
	f := fault.All(fault.Delay(time.Second), fault.Delay(time.Minute)).Inject(fault.Call{})
	assert.Equal(t, 61*time.Second, f.Delay, "delay")
}

func TestChanceIsSeeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		p := rapid.Float64Range(0.3, 0.7).Draw(t, "p")
		draw := func(seed uint64) string {
			return fates(fault.Chance(p, seed, fault.Never()), 200, fault.Call{})
		}
		first, again := draw(seed), draw(seed)
		require.True(t, first == again, "one seed gives two histories")
		require.False(t, first == draw(seed+1), "two seeds give one history")
	})
}

// A driver's errors have Kafka names, so an injected one has.
func TestErrorsHaveNames(t *testing.T) {
	own := errors.New("own")
	tests := []struct {
		err             error
		want            string
		is              error
		permanent, ours bool
	}{
		{fault.Error("NOT_COORDINATOR"), "NOT_COORDINATOR: injected", fault.ErrInjected, false, true},
		{fault.Permanent("TOPIC_AUTHORIZATION_FAILED"), "TOPIC_AUTHORIZATION_FAILED: injected (permanent)", fault.ErrInjected, true, true},
		{own, "INJECTED: own", own, false, false},
	}
	for _, tt := range tests {
		err := fault.Before(tt.err).Inject(fault.Call{}).Err
		assert.EqualError(t, err, tt.want)
		assert.ErrorAs(t, err, new(*driver.Error))
		assert.ErrorIs(t, err, tt.is)
		assert.Equal(t, tt.permanent, errors.Is(err, driver.ErrPermanent), tt.want)
		assert.Equal(t, tt.ours, errors.Is(err, fault.ErrInjected), tt.want)
	}
}
