package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

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
	cfg         driver.ConsumerConfig
	byEpochs    bool          // ConsumerProtocol
	interval    time.Duration // of heartbeats
	coordinator *coordinator
	core        *core.Calls
	closing     <-chan struct{} // closed when the consumer begins to close

	base     time.Time
	begun    chan struct{}           // a membership has begun
	alive    atomic.Pointer[session] // whose membership is not over; nil if there is none
	answered atomic.Int64            // when the latest heartbeat that was answered was sent, since base

	timeout      atomic.Int64 // of the session; with the ConsumerProtocol the brokers may have a shorter one
	joining      atomic.Bool  // a join or sync is pending
	refusedJoins atomic.Int32 // joins and syncs in a row that were refused

	mu      sync.Mutex // guards what follows
	session *session   // nil between two sessions
}

func newMembership(cfg driver.ConsumerConfig, core *core.Calls, closing <-chan struct{}) *membership {
	m := &membership{
		cfg: cfg, byEpochs: byEpochs(cfg), interval: heartbeatInterval(cfg), core: core, closing: closing,
		base: time.Now(), begun: make(chan struct{}, 1),
	}
	m.timeout.Store(int64(cfg.SessionTimeout))
	return m
}

// A member is the identity under which a consumer commits: its generation fences it, or its
// epoch.
type member struct {
	session    *session
	id         string
	generation int32
}

// noMember is the identity for a commit to a group without members.
var noMember = member{generation: -1}

// enter notes that s begins. The consumer is not yet a member.
func (m *membership) enter(s *session) {
	m.refusedJoins.Store(0)
	m.joining.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
}

// joined notes that the group has assigned partitions to the member of s, and reports whether
// s was no member before. It notes nothing if s has left meanwhile: kgo's callback may have
// begun before.
func (m *membership) joined(s *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session != s {
		return false
	}
	before := m.alive.Swap(s)
	select {
	case m.begun <- struct{}{}:
	default:
	}
	return before != s
}

// endMembership notes that the membership of s is over, and reports whether s was a member
// until now. Kgo may join again.
func (m *membership) endMembership(s *session) bool { return m.alive.CompareAndSwap(s, nil) }

// leave notes that the session is over.
func (m *membership) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = nil
	m.alive.Store(nil)
}

// current returns the session, or nil between two.
func (m *membership) current() *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.session
}

// end ends the session, if there is one.
func (m *membership) end(cause error) {
	if s := m.current(); s != nil {
		s.end(cause)
	}
}

// member returns the consumer's identity.
func (m *membership) member() (member, bool) {
	s := m.current()
	if s == nil {
		return member{}, false
	}
	return s.member()
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

// gone reports whether a member that was answered with err owns nothing any longer.
func gone(err error) bool {
	return isCode(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.FencedMemberEpoch) ||
		errors.Is(err, driver.ErrMembershipLost)
}

// heard is called with the error code of an answer of the coordinator to kgo, before kgo has
// it. Kgo hides what its heartbeats are answered while it revokes.
func (m *membership) heard(key int16, sent time.Time, code int16) {
	if m.byEpochs {
		m.heardEpoch(key, sent, code)
		return
	}
	err := kerr.ErrorForCode(code)
	switch {
	case err == nil, key == response.Heartbeat && isCode(err, kerr.RebalanceInProgress):
		m.confirm(sent)
		if err != nil {
			m.joining.Store(true) // kgo revokes, and joins again
		}
		if key == response.SyncGroup {
			m.refusedJoins.Store(0)
			m.joining.Store(false)
		}
	case key == response.Heartbeat:
		if s := m.current(); s != nil && gone(err) {
			s.cancelWindows(membershipLost(err))
		}
	case isCode(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.MemberIDRequired):
		m.paceJoins(m.refusedJoins.Add(1))
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

// paceJoins holds back the answer to a join that is refused, and ends the session after
// some. Kgo joins again at once, for as long as it is refused.
func (m *membership) paceJoins(refused int32) {
	s := m.current()
	if refused <= freeJoins || s == nil {
		return
	}
	if refused > maxJoins {
		s.end(&driver.Error{Code: "JOIN_REFUSED", Err: errJoinRefused})
	}
	select {
	case <-time.After(firstInterval << (min(refused, maxJoins) - freeJoins - 1)): // kgo joins until the session has ended
	case <-m.closing:
	case <-s.ctx.Done():
	}
}

// beat sends one heartbeat.
func (m *membership) beat(ctx context.Context) {
	by, ok := m.member()
	if !ok {
		return
	}
	sent, err := m.coordinator.heartbeat(ctx, by)
	if err == nil || isCode(err, kerr.RebalanceInProgress) {
		m.confirm(sent)
	}
}
