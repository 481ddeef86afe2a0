package incarnation

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// TestTopicIDsDecideTheIncarnation checks the rules about IDs against answers made by
// hand.
func TestTopicIDsDecideTheIncarnation(t *testing.T) {
	topics := New()
	learns := func(what, cluster string, id, want byte) {
		t.Helper()
		got := topics.Learn(cluster, map[string]ID{"t": {id}})
		assert.Equal(t, ID{want}, got["t"], "another topic: %s", what)
	}
	learns("a broker without IDs", "c", 0, 0)
	learns("the first ID", "c", 1, 0)
	learns("the same", "c", 1, 0)
	learns("no ID any longer", "c", 0, 0)
	learns("another", "c", 2, 2)

	_, ok := topics.Elect("t", map[ID]int{{1}: 1, {2}: 1})
	assert.False(t, ok, "as many brokers name the old ID")
	id, ok := topics.Elect("t", map[ID]int{{1}: 1, {2}: 2, {}: 3})
	assert.True(t, ok)
	assert.Equal(t, ID{2}, id)

	assert.False(t, topics.Reborn("t"))
	before := topics.Eras()
	_, ok = topics.Changed(before)
	assert.False(t, ok)
	assert.True(t, topics.Supersede("t", ID{2}))
	changed, ok := topics.Changed(before)
	assert.True(t, ok)
	assert.Equal(t, "t", changed)
	assert.False(t, topics.Supersede("t", ID{2}), "a change must count once")
	assert.True(t, topics.Reborn("t"))
	assert.Equal(t, 1, topics.Era("t")-before["t"])

	learns("a broker that is behind", "c", 1, 0)
	_, ok = topics.Elect("t", map[ID]int{{1}: 3})
	assert.False(t, ok, "the ID was superseded")

	assert.False(t, topics.Holds("t", 0, ID{2}), "a position of the old topic")
	assert.True(t, topics.Holds("t", 1, ID{2}))
	assert.True(t, topics.Holds("t", 1, ID{}), "a broker without IDs")
	assert.False(t, topics.Holds("t", 1, ID{1}), "a broker that knows the old topic")
	learns("another cluster", "mirror", 7, 0)
	assert.True(t, topics.Holds("t", 1, ID{7}), "a position must hold in a mirrored cluster")
}

// TestRestarts: what a member held starts at the beginning once, and so does what it is
// assigned within the window.
func TestRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := func(id int32) position.Partition { return position.Partition{Topic: "t", ID: id} }
		other := position.Partition{Topic: "other"}
		topics := New()
		r := NewRestarts(time.Minute)
		r.Hold(topics, 0, p(0), 10)
		r.Hold(topics, 0, other, 7)
		r.Hold(topics, 1, p(3), 99) // of another era
		_, ok := r.Pending(p(0))
		assert.False(t, ok, "the topic was not created again")

		r.Begin("t", map[position.Partition]int64{p(1): 20, other: 8})
		assert.Equal(t, map[position.Partition]int64{p(0): 10, p(1): 20}, r.Held([]string{"t", "other"}))
		for id, want := range map[int32]int64{0: 10, 1: 20, 2: -1, 3: -1} {
			from, ok := r.Pending(p(id))
			assert.True(t, ok)
			assert.Equal(t, want, from, "position of partition %d in the old topic", id)
		}
		assert.True(t, r.Settle(p(0)))
		assert.False(t, r.Settle(p(0)), "it has started already")
		assert.False(t, r.Settle(other))
		assert.Equal(t, map[position.Partition]int64{p(1): 20}, r.Held([]string{"t"}))
		_, ok = r.Pending(p(0))
		assert.False(t, ok)

		r.Begin("other", nil)
		assert.Equal(t, map[position.Partition]int64{other: 7}, r.Held([]string{"other"}))
		time.Sleep(time.Minute + 1)
		_, ok = r.Pending(p(1))
		assert.False(t, ok, "the window is over")
	})
}

// TestForgottenPositions: another member restarts the partitions that it holds.
func TestForgottenPositions(t *testing.T) {
	p := position.Partition{Topic: "t"}
	r := NewRestarts(time.Minute)
	r.Hold(New(), 0, p, 10)
	r.Forget("other")
	r.Forget("t")
	r.Begin("t", nil)
	assert.Empty(t, r.Held([]string{"t"}))
	from, ok := r.Pending(p)
	assert.True(t, ok)
	assert.Equal(t, int64(-1), from)
}

// After an assignment a member restarts only what it has been assigned.
func TestReleasedPositions(t *testing.T) {
	mine, other := position.Partition{Topic: "t"}, position.Partition{Topic: "t", ID: 1}
	r := NewRestarts(time.Minute)
	r.Begin("t", map[position.Partition]int64{mine: 10, other: 20})
	r.Release([]position.Partition{mine})
	assert.Equal(t, map[position.Partition]int64{mine: 10}, r.Held([]string{"t"}))
	from, ok := r.Pending(other)
	assert.True(t, ok)
	assert.Equal(t, int64(-1), from)
}
