package kafka

import (
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

// A standing is whether a session is a member of its group, as far as its driver
// knows. The driver's goroutines change it, and the job's follows: a session that
// may have been removed is starting, not running, until a broker has confirmed the
// membership again by an Assign.
type standing struct {
	member bool
	reason error // why it is no member, or what the driver has met while it was none
}

// stand notes a standing and wakes the job, if the standing still demands it under
// the mutex, where Assign and the driver's errors may compete.
func (s *session) stand(st standing, demanded func() bool) {
	s.mu.Lock()
	if !demanded() {
		s.mu.Unlock()
		return
	}
	s.standing = st
	s.mu.Unlock()
	select {
	case s.stood <- struct{}{}:
	default:
	}
}

// joinGroup notes that a broker has confirmed the membership.
func (s *session) joinGroup() {
	s.job.noteJoined()
	s.stand(standing{member: true}, func() bool { return true })
}

// heed follows an error of the driver as far as it concerns the membership. While
// there is none, each of them may be why.
func (s *session) heed(err error) {
	over := errors.Is(err, driver.ErrMembershipLost)
	s.stand(standing{reason: err}, func() bool { return over || !s.standing.member })
}

// standDown notes that the core itself has found the membership over, by the clock,
// while it owned p. What the driver has said of it meanwhile counts more.
func (s *session) standDown(p *partition) {
	s.stand(standing{reason: errSessionOver}, func() bool { return s.standing.member && contains(s.parts, p) })
}

// enter brings the job to the state that the session's standing demands.
func (s *session) enter() {
	s.mu.Lock()
	st := s.standing
	s.mu.Unlock()
	switch {
	case st.member:
		s.job.setState(StateRunning, nil)
	case st.reason != nil:
		s.job.setState(StateStarting, st.reason)
	}
}
