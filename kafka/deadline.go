package kafka

import (
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// The group gives a member's partitions to others when it has not heard of it for
// the session timeout. From then on nothing may be handed out, and what is handled
// must not be committed, also if this member knows of nothing: its connections may
// lead nowhere, its driver may be stuck, or the process itself may have been
// frozen. The last is why a timer is not enough. It goes like this:
//
//  1. A worker has taken 128 records and is at the third. The process is frozen
//     (SIGSTOP, a paused container).
//  2. SessionTimeout passes. The group removes the member, and another one begins
//     with the first record that is not committed.
//  3. The process is thawed. Timers that are due run on other goroutines, in any
//     order, while the worker goes on at once: it hands out the fourth record to
//     the hundred and twenty-eighth, takes the next chunk, and so on, until a timer
//     or the driver happens to be scheduled.
//  4. The committer's interval is over, too. It would commit what has been handled
//     since, and an old coordinator may not even refuse that.
//
// So a worker compares the driver's deadline with the clock each time before it
// hands out a chunk, or a record once more, and the committer before each commit.
// After a thaw at most the rest of one chunk is handed out. The timer beside it
// cancels the handlers that run. Go measures by a clock that stands still while the
// whole machine is suspended: what happens then shows only in the group's answer.

// errSessionOver is why handlers were stopped before the driver said anything.
var errSessionOver = fmt.Errorf("no answer of the group for the session timeout: %w", driver.ErrMembershipLost)

// expired reports whether the session's deadline has passed. A driver that does
// not know one sets no bound, and costs no look at the clock.
func (s *session) expired() bool {
	if s.deadline == nil {
		return false
	}
	until := s.deadline()
	return !until.IsZero() && !time.Now().Before(until)
}

// fence treats partitions as lost until the driver ends their claims, which it has
// to do next: nothing more of them is handed out or committed. The caller has found
// the session expired after it had these partitions: of those that a new membership
// has brought since, the old deadline says nothing.
func (s *session) fence(parts ...*partition) {
	var stopped []*partition
	for _, p := range parts {
		if p.fenced.CompareAndSwap(false, true) {
			p.giveUp()
			p.halt(ErrPartitionLost)
			stopped = append(stopped, p)
		}
	}
	if len(stopped) == 0 {
		return
	}
	s.job.log.Warn("kafka: the session timeout has passed without an answer of the group; handlers are stopped",
		"partitions", listed(stopped), "timeout", s.job.cfg.SessionTimeout)
	s.standDown(stopped[0])
}

// watchDeadline sets the timer for the deadline as it is now, if there are
// partitions to fence. It is set again when it has fired and the deadline has moved.
func (s *session) watchDeadline() {
	if s.deadline == nil {
		return
	}
	until := s.deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	unfenced := slices.ContainsFunc(s.parts, func(p *partition) bool { return !p.fenced.Load() })
	if until.IsZero() || s.timer != nil || s.unwatched || !unfenced {
		return
	}
	s.watching.Add(1)
	s.timer = time.AfterFunc(time.Until(until), s.atDeadline)
}

// atDeadline is the timer's goroutine.
func (s *session) atDeadline() {
	defer s.watching.Done()
	owned := s.live()
	if s.expired() {
		s.fence(owned...)
	}
	s.mu.Lock()
	s.timer = nil
	s.mu.Unlock()
	s.watchDeadline()
}

// unwatchDeadline stops the timer permanently, and waits for it if it runs.
func (s *session) unwatchDeadline() {
	s.mu.Lock()
	s.unwatched = true
	if s.timer != nil && s.timer.Stop() {
		s.watching.Done()
	}
	s.mu.Unlock()
	s.watching.Wait()
}
