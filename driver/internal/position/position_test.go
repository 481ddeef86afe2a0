package position

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

func p(topic string, id int32) Partition { return Partition{Topic: topic, ID: id} }

// TestFresh: one position, or one that is not known, makes a topic known.
func TestFresh(t *testing.T) {
	at := Committed{
		At:     map[Partition]int64{p("has", 1): 5},
		Failed: map[Partition]error{p("failed", 0): errors.New("x")},
	}
	all := []Partition{p("has", 0), p("has", 1), p("failed", 0), p("failed", 1), p("fresh", 0), p("fresh", 1)}
	assert.Equal(t, []Partition{p("fresh", 0), p("fresh", 1)}, at.Fresh(all))
	assert.Empty(t, Committed{}.Fresh(nil))
}

// TestPin: a pin needs an end and a beginning, and a topic that is fresh still.
func TestPin(t *testing.T) {
	fresh := []Partition{p("t", 0), p("t", 1), p("t", 2), p("pinned", 0)}
	pins, owed := Pin(fresh, fresh[:3],
		map[Partition]int64{p("t", 0): 10, p("t", 1): 11, p("pinned", 0): 12},
		map[Partition]int64{p("t", 0): 1, p("pinned", 0): 2})
	assert.Equal(t, map[Partition]int64{p("t", 0): 10}, pins)
	assert.Equal(t, map[Partition]int64{p("t", 1): EndUnknown, p("t", 2): EndUnknown}, owed)
}

// TestOwed: the earlier end stays, until the claim has a start.
func TestOwed(t *testing.T) {
	var o Owed
	assert.Empty(t, o.Add(nil))
	o.Add(map[Partition]int64{p("t", 0): 5})
	assert.Equal(t, map[Partition]int64{p("t", 0): 5, p("t", 1): 7}, o.Add(map[Partition]int64{p("t", 0): 9, p("t", 1): 7}))
	o.Settle(p("t", 0))
	assert.Equal(t, map[Partition]int64{p("t", 1): 7}, o.Add(nil))
}

// TestJudge: a position is moved only out of the log, and an attempt that has moved it is
// recognized.
func TestJudge(t *testing.T) {
	gap := func(to int64) *driver.DataLossError {
		return &driver.DataLossError{Topic: "t", From: 3, To: to, Begin: 10, End: 20}
	}
	for _, c := range []struct {
		name    string
		at      int64
		has     bool
		policy  driver.OutOfRange
		earlier *driver.DataLossError
		want    Verdict
		gap     *driver.DataLossError
	}{
		{"below the log", 3, true, driver.OutOfRangeOldest, nil, Move, gap(10)},
		{"below the log, newest", 3, true, driver.OutOfRangeNewest, nil, Move, gap(20)},
		{"above the log", 21, true, driver.OutOfRangeOldest, nil, Move, &driver.DataLossError{Topic: "t", From: 21, To: 10, Begin: 10, End: 20}},
		{"at the beginning", 10, true, driver.OutOfRangeOldest, nil, Inside, nil},
		{"at the end", 20, true, driver.OutOfRangeOldest, nil, Inside, nil},
		{"no position", 0, false, driver.OutOfRangeOldest, nil, Inside, nil},
		{"moved by an earlier attempt", 10, true, driver.OutOfRangeOldest, gap(10), Moved, gap(10)},
		{"moved elsewhere", 12, true, driver.OutOfRangeOldest, gap(10), Inside, nil},
		{"not moved by an earlier attempt", 3, true, driver.OutOfRangeOldest, gap(9), Move, gap(10)},
	} {
		verdict, got := Judge(p("t", 0), c.at, c.has, 10, 20, c.policy, c.earlier)
		assert.Equal(t, c.want, verdict, c.name)
		assert.Equal(t, c.gap, got, c.name)
	}
}
