package sarama

import (
	"context"
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

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

func (m *membership) lastAnswered() time.Time {
	return m.base.Add(time.Duration(m.answered.Load()))
}

// deadline returns when the membership is over if no other heartbeat is answered, or
// the zero time if the consumer is no member.
func (m *membership) deadline() time.Time {
	if m.alive.Load() == nil {
		return time.Time{}
	}
	return m.lastAnswered().Add(m.timeout)
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
	if !m.outlive(s) {
		return
	}
	err := &driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf(
		"%w: the last one that was answered was sent %v ago", errSessionExpired,
		time.Since(m.lastAnswered()).Round(time.Millisecond))}
	m.lose(s, err)
	s.reportLost(err)
}

// outlive notes that the membership of s is over. It reports false if s is not the session,
// as another one has begun meanwhile.
func (m *membership) outlive(s *session) bool { return m.alive.CompareAndSwap(s, nil) }

// keepBeating sends heartbeats while a cooperative join is pending, until ctx ends. Such
// a join takes as long as the slowest member drains, and Sarama sends none meanwhile: the
// member would have to give up the claims that it keeps.
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

// watch looks, while claims of s are being revoked, whether they are lost meanwhile: the
// coordinator removes a member that takes longer than the rebalance timeout. Sarama's own
// heartbeats go on, but their answers then show nowhere. It ends with ctx.
func (m *membership) watch(ctx context.Context, s *session) {
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if by, ok := m.member(); !ok || by.session != s || m.beat(ctx) {
			return
		}
	}
}

// beat sends one heartbeat. If the answer is that the member owns nothing any longer, the
// session ends.
func (m *membership) beat(ctx context.Context) (over bool) {
	by, ok := m.member()
	if !ok {
		return true
	}
	err := m.coordinator.heartbeat(ctx, by, m.confirm)
	if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrFencedInstancedId) || !m.cooperative && isCode(err, ibm.ErrIllegalGeneration) {
		if now, ok := m.member(); ok && now == by {
			m.lose(by.session, err)
			by.session.reportLost(err)
			return true
		}
	}
	return false
}
