package kafka

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A membership is what a session knows of its place in the group, from its driver. The
// driver's goroutines change it, and the job's follows: a session that may have been
// removed is starting, not running, until a broker has confirmed the membership again
// by an Assign.
type membership struct {
	stood    chan struct{} // one token: standing has changed
	joined   chan struct{} // closed by the first Assign
	joinOnce sync.Once
	joinedAt time.Time     // set before joined is closed
	handled  atomic.Bool   // a record has been
	settled  time.Duration // a member for longer than that was worth its start

	mu       sync.Mutex
	standing standing
}

// A standing is whether a session is a member of its group, as far as its driver
// knows.
type standing struct {
	member bool
	reason error // why it is no member, or what the driver has met while it was none
}

// newMembership returns a membership that is settled when it has lasted longer than the
// longest wait between two attempts.
func newMembership(b Backoff) *membership {
	return &membership{stood: make(chan struct{}, 1), joined: make(chan struct{}), settled: b.Max}
}

// join notes that a broker has confirmed the membership.
func (m *membership) join() {
	m.joinOnce.Do(func() {
		m.joinedAt = time.Now()
		close(m.joined)
	})
	m.stand(standing{member: true}, func() bool { return true })
}

// heed follows an error of the driver as far as it concerns the membership. While
// there is none, each of them may be why.
func (m *membership) heed(err error) {
	over := errors.Is(err, driver.ErrMembershipLost)
	m.stand(standing{reason: err}, func() bool { return over || !m.standing.member })
}

// stand notes a standing and wakes the job, if the standing still demands it under
// the mutex, where Assign and the driver's errors may compete.
func (m *membership) stand(st standing, demanded func() bool) {
	m.mu.Lock()
	if !demanded() {
		m.mu.Unlock()
		return
	}
	m.standing = st
	m.mu.Unlock()
	select {
	case m.stood <- struct{}{}:
	default:
	}
}

// now returns the standing.
func (m *membership) now() standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.standing
}

// healthy reports whether the session was worth its start: it has handled a record, or
// has been a member for longer than the longest backoff.
func (m *membership) healthy() bool {
	return m.handled.Load() || isClosed(m.joined) && time.Since(m.joinedAt) > m.settled
}

// standDown notes that the core itself has found the membership over, by the clock,
// while it owned p. What the driver has said of it meanwhile counts more.
func (c *claims) standDown(p *partition) {
	m := c.member
	m.stand(standing{reason: errSessionOver}, func() bool { return m.standing.member && slices.Contains(c.live(), p) })
}

// enter brings the job to the state that the session's standing demands.
func (s *session) enter() {
	switch st := s.member.now(); {
	case st.member:
		s.job.setState(StateRunning, nil)
	case st.reason != nil:
		s.job.setState(StateStarting, st.reason)
	}
}
