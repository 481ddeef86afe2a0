package kafka

import (
	"sync/atomic"
	"time"
)

// A schedule says when a session's committer commits: each interval while positions
// move, soon after a partition has run empty, and again after a failure. Lanes report
// to it; all else belongs to the committer's goroutine.
type schedule struct {
	interval time.Duration
	dirty    atomic.Bool   // something has moved since positions were last read
	wakeup   chan struct{} // one token: dirty has become true
	idle     chan struct{} // one token: a partition has run empty

	timer    *time.Timer
	due      time.Time // when the timer fires; zero if it is not set
	earliest time.Time // for partitions that run empty
}

// commitGap is the least time between two commits for partitions that ran
// empty. On a quiet topic each record is committed at once; a busy one whose
// queue runs empty between any two fetches is not asked for thousands a second.
const commitGap = 20 * time.Millisecond

func newSchedule(interval time.Duration) *schedule {
	return &schedule{interval: interval, wakeup: make(chan struct{}, 1), idle: make(chan struct{}, 1)}
}

// moved says that a position has moved. Lanes call it after each record, so it costs
// one atomic load once it is known.
func (s *schedule) moved() {
	if !s.dirty.Load() {
		s.wake()
	}
}

func (s *schedule) wake() {
	if !s.dirty.CompareAndSwap(false, true) {
		return
	}
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// ranEmpty says that a partition has nothing left to handle, and has moved.
func (s *schedule) ranEmpty() {
	select {
	case s.idle <- struct{}{}:
	default:
	}
}

// start makes the timer, which the committer's goroutine stops.
func (s *schedule) start() {
	s.timer = time.NewTimer(time.Hour)
	s.timer.Stop()
}

// after asks for a commit when d has passed.
func (s *schedule) after(d time.Duration) { s.by(time.Now().Add(d)) }

// by asks for a commit at t, or earlier.
func (s *schedule) by(t time.Time) {
	if s.due.IsZero() || t.Before(s.due) {
		s.due = t
		s.timer.Reset(time.Until(t))
	}
}

// fired notes that the timer has.
func (s *schedule) fired() { s.due = time.Time{} }

// clear says that positions are about to be read: a lane that moves on meanwhile sets
// the flag again.
func (s *schedule) clear() {
	select {
	case <-s.wakeup:
	default:
	}
	s.dirty.Store(false)
}

// tried notes a commit that came to err: one that failed is tried again after the
// interval.
func (s *schedule) tried(err error) {
	s.earliest = time.Now().Add(commitGap)
	if err != nil {
		s.earliest = time.Now().Add(s.interval)
		s.by(s.earliest)
	}
}
