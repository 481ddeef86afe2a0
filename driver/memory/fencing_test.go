package memory

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// The answers to a commit, as GroupCoordinator gives them.
func TestMayCommit(t *testing.T) {
	dynamic := &consumer{cfg: driver.ConsumerConfig{}}
	static := &consumer{cfg: driver.ConsumerConfig{InstanceID: "one"}}
	tests := []struct {
		state        groupState
		instance, id string
		generation   int32
		want         string
	}{
		{stable, "", "d", 5, ""},
		{preparing, "", "d", 5, ""},
		{completing, "", "d", 5, "REBALANCE_IN_PROGRESS"},
		{completing, "", "d", 4, "ILLEGAL_GENERATION"},
		{stable, "", "d", 4, "ILLEGAL_GENERATION"},
		{stable, "", "nobody", 5, "UNKNOWN_MEMBER_ID"},
		{stable, "", "", 5, "UNKNOWN_MEMBER_ID"},
		{stable, "", "s", 5, ""},
		{stable, "one", "s", 5, ""},
		{stable, "one", "s0", 5, "FENCED_INSTANCE_ID"},
		{completing, "one", "s0", 4, "FENCED_INSTANCE_ID"},
		{stable, "two", "s", 5, "UNKNOWN_MEMBER_ID"},
	}
	for _, tt := range tests {
		g := &group{name: "g", state: tt.state, generation: 5, members: []*member{
			{id: "d", c: dynamic}, {id: "s", c: static},
		}}
		assert.Equalf(t, tt.want, code(g.mayCommit(tt.instance, tt.id, tt.generation)), "state %d, instance %q, member %q, generation %d", tt.state, tt.instance, tt.id, tt.generation)
	}
}

// quiet is a Handler that records its claims.
type quiet struct {
	testkit.Idle
	claims []*driver.Claim
}

func (q *quiet) Assign(cs []*driver.Claim) { q.claims = append(q.claims, cs...) }

// A live claim whose generation is not assigned yet, or not known to the member
// yet, commits as soon as it is.
func TestCommitIsTriedUnderNextGeneration(t *testing.T) {
	tests := []struct {
		name         string
		begin, after func(*consumer)
	}{
		{"completing", func(c *consumer) { c.g.state = completing }, func(c *consumer) { c.g.state = stable }},
		{"generation not learned",
			func(c *consumer) { c.place.joining = true; c.g.generation++ },
			func(c *consumer) { c.place.joining = false; c.place.generation++ }},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := NewBroker()
			b.CreateTopic("t", 1)
			c := newConsumer(b, driver.ConsumerConfig{Group: "g", Topics: []string{"t"},
				BalanceStrategies: []driver.BalanceStrategy{driver.CooperativeSticky}, DrainTimeout: time.Second})
			q := &quiet{}
			go c.Run(q)
			synctest.Wait()
			b.mu.Lock()
			tt.begin(c)
			b.mu.Unlock()
			done := make(chan error, 1)
			go func() { done <- c.Commit(t.Context(), []driver.Mark{{Claim: q.claims[0], Offset: 1}}) }()
			synctest.Wait()
			require.Empty(t, done, "the commit waits")
			b.mu.Lock()
			tt.after(c)
			c.g.changed.fire()
			b.mu.Unlock()
			assert.NoError(t, <-done, tt.name)
			assert.Equalf(t, int64(1), b.Committed("g", "t", 0), "%s: committed", tt.name)
			assert.NoErrorf(t, c.Close(t.Context()), "%s: close", tt.name)
		})
	}
}

// When the end of Run and that of Close's context are there at once, the answer
// is that of a Run that was cut short.
func TestCloseOfRunThatOverran(t *testing.T) {
	c := newConsumer(NewBroker(), driver.ConsumerConfig{Group: "g"})
	c.life.running, c.life.overran = true, true
	close(c.life.ended)
	require.ErrorIs(t, c.Close(testkit.Ended()), context.Canceled)
}
