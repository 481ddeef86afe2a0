package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A membership is the state of a consumer in its group: its session, its identity there, and
// until when it is certainly a member.
//
// The coordinator removes a member that it has not heard of for the session timeout,
// counted from the last heartbeat that it has received. So the member counts from the
// time at which it has sent the latest heartbeat that was answered: the answer may have
// been on its way for long.
type membership struct {
	timeout     time.Duration // of the session
	interval    time.Duration // of heartbeats
	cooperative bool
	coordinator *coordinator
	claims      *claims
	core        *core.Calls
	closing     <-chan struct{} // closed when the consumer begins to close

	base     time.Time
	begun    chan struct{}           // a session has begun
	alive    atomic.Pointer[session] // whose membership is not over; nil if there is none
	answered atomic.Int64            // when the latest heartbeat that was answered was sent, since base

	joining      atomic.Bool  // a join or sync is pending
	refusedJoins atomic.Int32 // joins and syncs in a row that were refused

	mu       sync.Mutex              // guards what follows
	endJoin  context.CancelCauseFunc // ends the latest join, and its session
	session  *session                // nil between two sessions
	latest   member                  // the identity in the latest session
	assigned map[partition]bool
	changed  chan struct{} // closed when assigned changes
}

func newMembership(cfg driver.ConsumerConfig, conf *ibm.Config, claims *claims, core *core.Calls, closing <-chan struct{}) *membership {
	return &membership{
		timeout: cfg.SessionTimeout, interval: cfg.HeartbeatInterval,
		cooperative: cooperative(conf.Consumer.Group.Rebalance.GroupStrategies),
		claims:      claims, core: core, closing: closing,
		base: time.Now(), begun: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// A member is the identity under which a consumer commits: its generation fences it.
type member struct {
	session    *session
	id         string
	generation int32
}

// noMember is the identity for a commit to a group without members.
var noMember = member{generation: ibm.GroupGenerationUndefined}

// join notes that a join begins, which end ends.
func (m *membership) join(end context.CancelCauseFunc) {
	m.refusedJoins.Store(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endJoin = end
}

// end ends the latest join and its session, if any.
func (m *membership) end(cause error) {
	m.mu.Lock()
	end := m.endJoin
	m.mu.Unlock()
	if end != nil {
		end(cause)
	}
}

// enter notes that s has begun.
func (m *membership) enter(s *session) {
	m.mu.Lock()
	m.session = s
	m.mu.Unlock()
	m.alive.Store(s)
	select {
	case m.begun <- struct{}{}:
	default:
	}
}

// leave notes that the session is about to end.
func (m *membership) leave() {
	by, ok := m.member()
	m.alive.Store(nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok {
		m.latest = by
	}
	m.session = nil
}

// current returns the session, or nil between two.
func (m *membership) current() *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.session
}

// member returns the consumer's identity. It reads the generation first: Sarama writes that
// last, so a result that is torn by a rebalance has the old generation, and is refused.
func (m *membership) member() (member, bool) {
	s := m.current()
	if s == nil {
		return member{}, false
	}
	generation := s.sess.GenerationID()
	return member{session: s, id: s.sess.MemberID(), generation: generation}, true
}

// last returns the identity in the latest session that has ended.
func (m *membership) last() member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.latest
}

// assign notes what the group has agreed on. It reports whether that is nothing new to
// a session.
func (m *membership) assign(assigned map[partition]bool) (nothingNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nothingNew = m.session != nil
	for p := range assigned {
		nothingNew = nothingNew && m.assigned[p]
	}
	m.assigned = assigned
	close(m.changed)
	m.changed = make(chan struct{})
	return nothingNew
}

// isAssigned reports whether the group has given p to this member. Changed is closed when the
// group agrees on something again.
func (m *membership) isAssigned(p partition) (assigned bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.assigned[p], m.changed
}

// lose is called when the member of s owns nothing any longer: the claims that are being
// revoked end at once, and the session with them.
func (m *membership) lose(s *session, cause error) {
	cause = membershipLost(cause)
	if m.current() != s {
		return
	}
	for _, cl := range m.claims.all(func(cl *claim) bool { return cl.session == s }) {
		cl.setLost(cause)
	}
	s.end(cause)
}

// worthRetrying reports whether another attempt can succeed after by was answered with
// err. If by owns nothing any longer, its claims are lost.
func (m *membership) worthRetrying(by member, err error) bool {
	if !isCode(err, ibm.ErrUnknownMemberId, ibm.ErrFencedInstancedId, ibm.ErrIllegalGeneration) {
		return !isPermanent(err)
	}
	if now, ok := m.member(); !ok || now != by {
		return true // refused for an identity that it has no longer
	}
	if m.cooperative && isCode(err, ibm.ErrIllegalGeneration) {
		return true // between the join and its answer: the claims stay
	}
	m.lose(by.session, err)
	return false
}

// gone reports whether a member whose session ended with cause owns nothing any longer.
func gone(cause error) bool {
	return isCode(cause, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrFencedInstancedId) ||
		errors.Is(cause, ibm.ErrRebalanceTimedOut) || errors.Is(cause, driver.ErrMembershipLost)
}

// membershipLost returns err as a reason why a membership is over.
func membershipLost(err error) error {
	err = wrap(err)
	if errors.Is(err, driver.ErrMembershipLost) {
		return err
	}
	var known *driver.Error
	if !errors.As(err, &known) {
		return fmt.Errorf("%w: %w", driver.ErrMembershipLost, err)
	}
	return &driver.Error{Code: known.Code, Kind: known.Kind, Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, known.Err)}
}

// asked is called with the key of a request that Sarama is about to send to the
// coordinator.
func (m *membership) asked(key int16) {
	switch key {
	case response.JoinGroup, response.SyncGroup:
		m.joining.Store(true)
	case response.Heartbeat:
		m.joining.Store(false)
	}
}

// heard is called with the error code of an answer of the coordinator to Sarama.
func (m *membership) heard(key int16, sent time.Time, code ibm.KError) {
	switch {
	case code == ibm.ErrNoError, key == response.Heartbeat && code == ibm.ErrRebalanceInProgress:
		m.confirm(sent)
		if key == response.SyncGroup {
			m.refusedJoins.Store(0)
			m.joining.Store(false)
		}
	case key == response.Heartbeat:
	case key == response.JoinGroup && code == ibm.ErrUnknownMemberId:
		m.refusedJoins.Add(1)
		if s := m.current(); s != nil { // Sarama would revoke the claims that a cooperative session keeps
			m.lose(s, code)
		}
	case code == ibm.ErrUnknownMemberId, code == ibm.ErrIllegalGeneration, code == ibm.ErrMemberIdRequired:
		m.refusedJoins.Add(1)
	}
}

const (
	// freeJoins is how many joins in a row may be refused without a pause: the coordinator
	// refuses a new member once, to give it an ID, and a removed one once.
	freeJoins = 3

	// maxJoins is how many refused joins in a row end the session.
	maxJoins = 8
)

var errJoinRefused = errors.New("the coordinator keeps refusing to let this member join")

// paceJoins waits between joins that are refused, and ends the session after some. Sarama
// joins again at once, by recursion, for as long as it is refused: thousands of times per
// second, until the stack is exhausted.
func (m *membership) paceJoins(severed <-chan struct{}) error {
	refused := m.refusedJoins.Load() - freeJoins
	if refused <= 0 {
		return nil
	}
	if refused > maxJoins-freeJoins {
		err := &driver.Error{Code: "JOIN_REFUSED", Err: errJoinRefused}
		m.end(err)
		return err
	}
	select {
	case <-time.After(firstInterval << (refused - 1)):
	case <-m.closing:
	case <-severed:
	}
	return nil
}
