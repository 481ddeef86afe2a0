//go:build unix

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A story makes a history by hand, with one event per millisecond.
type story struct {
	v   verdict
	now int64
}

func newStory() *story {
	return &story{v: verdict{group: "g", topic: "t"}, now: int64(time.Hour)}
}

func (s *story) tell(p *process, e event) {
	s.now += int64(time.Millisecond)
	e.At, e.process = s.now, p
	s.v.events = append(s.v.events, e)
}

// sent sends record n, which lies at offset n, and gets the answer.
func (s *story) sent(p *process, n int) {
	s.tell(p, event{Kind: isSend, Sender: "s", Value: value(n)})
	s.tell(p, event{Kind: isAnswer, Value: value(n), Offset: int64(n)})
	s.v.records = append(s.v.records, stored{offset: int64(n), key: "k", value: value(n)})
}

func (s *story) handled(p *process, n int, ok bool) {
	id := uint64(len(s.v.events)) + 1
	s.tell(p, event{Kind: isStart, ID: id, Offset: int64(n), Key: "k", Value: value(n)})
	s.tell(p, event{Kind: isEnd, ID: id, OK: ok})
}

func (s *story) commit(offset int64) {
	s.now += 2 * int64(time.Millisecond)
	s.v.commits = append(s.v.commits, applied{at: time.Unix(0, s.now), offset: offset})
	s.now += 2 * int64(time.Millisecond)
}

func value(n int) string { return fmt.Sprintf("p/s/%d@%d", n, n+1) }

var first = []int32{0}

// report counts as a trial's does.
func (s *story) report() *report {
	r := &report{Violations: map[string]int{}, SendErrors: map[string]int{}}
	s.v.fates(r)
	r.ReorderedInKey = s.v.reorderedKeys()
	r.HandedOutTooLate = s.v.handedOutTooLate()
	for _, v := range s.v.violations() {
		r.Violations[v.Invariant]++
	}
	r.named()
	r.decide(6 * time.Second)
	return r
}

// Each history is right or wrong in one way, which must be found.
func TestVerdict(t *testing.T) {
	a, b := &process{duty: duty{Name: "c1"}}, &process{duty: duty{Name: "c2"}}
	sender := &process{duty: duty{Name: "p1"}}
	for _, test := range []struct {
		name string
		tell func(s *story)
		want func(t *testing.T, r *report)
	}{
		{"right", func(s *story) {
			s.sent(sender, 0)
			s.sent(sender, 1)
			s.tell(a, event{Kind: isAssigned, Partitions: first})
			s.handled(a, 0, true)
			s.handled(a, 1, true)
			s.commit(2)
			s.tell(a, event{Kind: isRevoked, Partitions: first})
		}, func(t *testing.T, r *report) {
			assert.True(t, r.Passed)
			assert.Equal(t, 2, r.Acked)
			assert.Equal(t, 2, r.Handled)
			assert.Equal(t, 1, r.Commits)
		}},
		{"killed in the middle, and handled again by another", func(s *story) {
			s.sent(sender, 0)
			s.tell(a, event{Kind: isAssigned, Partitions: first})
			s.handled(a, 0, true)
			s.tell(a, event{Kind: isStart, ID: 99, Offset: 0, Key: "k", Value: value(0)})
			s.v.events = s.v.events[:len(s.v.events)-1] // it is killed after the good end
			s.tell(a, event{Kind: isKilled})
			s.tell(b, event{Kind: isAssigned, Partitions: first})
			s.handled(b, 0, true)
			s.commit(1)
			s.tell(b, event{Kind: isRevoked, Partitions: first})
		}, func(t *testing.T, r *report) {
			assert.True(t, r.Passed)
			assert.Equal(t, 1, r.Redelivered)
		}},
		{"lost", func(s *story) {
			s.sent(sender, 0)
			s.sent(sender, 1)
			s.tell(a, event{Kind: isAssigned, Partitions: first})
			s.handled(a, 0, true)
			s.commit(2)
			s.tell(a, event{Kind: isRevoked, Partitions: first})
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.Lost)
			assert.Equal(t, 1, r.Unseen)
			assert.Equal(t, 1, r.CommitsBeyondDone)
		}},
		{"acknowledged and not in the log", func(s *story) {
			s.sent(sender, 0)
			s.v.records = nil
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.LostWrites)
		}},
		{"twice in the log", func(s *story) {
			s.sent(sender, 0)
			s.v.records = append(s.v.records, stored{offset: 1, key: "k", value: value(0)})
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.Duplicated)
		}},
		{"reordered", func(s *story) {
			s.sent(sender, 0)
			s.sent(sender, 1)
			s.v.records[0].value, s.v.records[1].value = value(1), value(0)
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.ReorderedInKey)
			assert.Positive(t, r.ReorderedInPartition)
		}},
		{"a commit that moves back", func(s *story) {
			s.sent(sender, 0)
			s.tell(a, event{Kind: isAssigned, Partitions: first})
			s.handled(a, 0, true)
			s.commit(1)
			s.commit(0)
			s.tell(a, event{Kind: isRevoked, Partitions: first})
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.CommitsMovedBack)
		}},
		{"handled after it was lost", func(s *story) {
			s.sent(sender, 0)
			s.tell(a, event{Kind: isAssigned, Partitions: first})
			s.tell(a, event{Kind: isLost, Partitions: first})
			s.now += int64(time.Second)
			s.handled(a, 0, true)
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.HandledAfterLoss)
		}},
		{"handed out by a consumer that was cut off, after the next owner began", func(s *story) {
			tooLate(s, sender, a, b, isSevered)
		}, func(t *testing.T, r *report) {
			assert.False(t, r.Passed)
			assert.Equal(t, 1, r.HandedOutTooLate)
		}},
		{"the same by a consumer that was frozen", func(s *story) {
			tooLate(s, sender, a, b, isSevered, isFrozen)
		}, func(t *testing.T, r *report) {
			assert.Zero(t, r.HandedOutTooLate)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStory()
			test.tell(s)
			r := s.report()
			test.want(t, r)
			if t.Failed() {
				t.Logf("%+v", r)
			}
		})
	}
}

// tooLate makes a hand out a record again after b, the next owner, did.
func tooLate(s *story, sender, a, b *process, kinds ...string) {
	s.sent(sender, 0)
	s.tell(a, event{Kind: isAssigned, Partitions: first})
	for _, kind := range kinds {
		s.tell(a, event{Kind: kind})
	}
	s.tell(b, event{Kind: isAssigned, Partitions: first})
	s.handled(b, 0, true)
	s.handled(a, 0, true)
	s.tell(a, event{Kind: isLost, Partitions: first})
	s.commit(1)
	s.tell(b, event{Kind: isRevoked, Partitions: first})
}

// TestMinutesShowGrowth makes a history of six minutes, in which one process
// lives throughout and grows, and a larger one does not.
func TestMinutesShowGrowth(t *testing.T) {
	stays, visitor := &process{duty: duty{Name: "c1"}}, &process{duty: duty{Name: "c2"}}
	const MiB = 1 << 20
	s := newStory()
	begun := time.Unix(0, s.now)
	s.handled(stays, 0, true)
	for i := range int64(6) {
		s.tell(stays, event{Kind: isStat, RSS: (10 + i) * MiB, Goroutines: 7})
		s.now += int64(time.Minute)
		s.tell(visitor, event{Kind: isStat, RSS: 100 * MiB, Goroutines: 100})
		s.tell(visitor, event{Kind: isAssigned})
	}
	s.handled(stays, 0, true)
	ms := s.v.minutes(begun)
	require.Len(t, ms, 7)
	require.EqualValues(t, 1, ms[0].Handled)
	require.EqualValues(t, 1, ms[6].Redelivered)
	require.EqualValues(t, 1, ms[3].Joins)
	assert.EqualValues(t, 13, ms[3].RSS, "of the process that stays")
	assert.EqualValues(t, 7, ms[3].Goroutines, "of the process that stays")
	assert.Equal(t, 14.5/12.5, grown(ms[:6]))
}
