package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// errSessionExpired is why a member is lost that could not reach the coordinator for the
// session timeout: by then the coordinator has removed it from the group.
var errSessionExpired = fmt.Errorf("%w: no heartbeat within the session timeout", driver.ErrMembershipLost)

// confirm notes that a heartbeat that was sent at a time has been answered.
func (m *membership) confirm(sent time.Time) {
	at := int64(sent.Sub(m.base))
	for {
		known := m.answered.Load()
		if at <= known || m.answered.CompareAndSwap(known, at) {
			return
		}
	}
}

func (m *membership) sessionTimeout() time.Duration { return time.Duration(m.timeout.Load()) }

func (m *membership) lastAnswered() time.Time {
	return m.base.Add(time.Duration(m.answered.Load()))
}

// deadline returns when the membership is over if no other heartbeat is answered, or
// the zero time if the consumer is no member.
func (m *membership) deadline() time.Time {
	if m.alive.Load() == nil {
		return time.Time{}
	}
	return m.lastAnswered().Add(m.sessionTimeout())
}

// guard ends a session whose deadline has passed, until ctx ends.
func (m *membership) guard(ctx context.Context) {
	for {
		deadline := m.deadline()
		if deadline.IsZero() {
			select {
			case <-m.begun:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(time.Until(deadline)):
			m.expire()
		case <-ctx.Done():
			return
		}
	}
}

// expire ends the session if its deadline has passed.
func (m *membership) expire() {
	s, deadline := m.current(), m.deadline()
	if s == nil || deadline.IsZero() || time.Now().Before(deadline) {
		return
	}
	if !m.endMembership(s) {
		return
	}
	err := &driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf(
		"%w: the last one that was answered was sent %v ago", errSessionExpired,
		time.Since(m.lastAnswered()).Round(time.Millisecond))}
	s.lose(err)
}

// keepBeating sends heartbeats while a join is pending, until ctx ends. A join takes as
// long as the slowest member drains, and kgo sends none meanwhile: the member would have
// to give up the claims that it keeps.
func (m *membership) keepBeating(ctx context.Context) {
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if m.joining.Load() && m.alive.Load() != nil && time.Since(m.lastAnswered()) > m.interval*3/2 {
			m.beat(ctx)
		}
	}
}
