package sarama

import (
	"context"
	"errors"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/seek"
)

// errSought is why a session ends of which claims are to begin elsewhere.
var errSought = errors.New("positions are to be moved")

// joinPause is the distance of the looks whether a join is still pending.
const joinPause = 20 * time.Millisecond

// Seek implements [driver.Seeker]. Sarama cannot begin a single claim again, so the session
// ends, and all claims with it. The positions are moved before the next one begins: see
// positions.stray.
func (c *consumer) Seek(ctx context.Context, to []driver.Mark) error {
	call := seek.New(ctx, to)
	if s := c.membership.current(); s != nil && len(call.Open()) > 0 {
		s.seek(ctx, call)
	} else {
		call.End()
	}
	return call.Wait()
}

// seek ends the session for the marks of a call, unless ctx ends before. It waits for a
// cooperative join that is pending: without its answer the member would have a generation under
// which it can commit nothing.
func (s *session) seek(ctx context.Context, call *seek.Call) {
	s.awaitJoin(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, dc := range call.Open() {
		if cl := s.c.claims.own(dc); cl == nil || cl.session != s || s.c.claims.at(cl.where) != cl || cl.isRevoking() {
			call.End(dc)
		}
	}
	if len(call.Open()) > 0 && s.keepSought(call) {
		s.end(errSought)
	}
}

// awaitJoin waits until no join is pending, or until the session or ctx ends.
func (s *session) awaitJoin(ctx context.Context) {
	for s.c.membership.joining.Load() {
		select {
		case <-time.After(joinPause):
		case <-s.sess.Context().Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// keepSought keeps a call for the end of the session. After that it ends the call.
func (s *session) keepSought(call *seek.Call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		call.End()
		return false
	}
	s.sought = append(s.sought, call)
	return true
}

// moveSought makes the positions durable that were sought in s, which is over. The group counts
// on this member until it joins again. An attempt without an answer may be on its way to the
// broker for as long as it is valid, and the next session would read the position before it. So
// the member leaves the group then, which makes the attempt invalid.
func (s *session) moveSought() {
	s.mu.Lock()
	s.over = true
	calls := s.sought
	s.mu.Unlock()
	for _, call := range calls {
		m := &move{s: s, by: s.c.membership.last()}
		call.Pursue(s.c.watching, m)
		s.c.positions.settleAstray(call.Durable())
		if call.Doubt() != nil {
			s.c.coordinator.leave(s.c.watching, m.by)
		}
	}
}

// A move moves positions between two sessions.
type move struct {
	s  *session // the earlier one
	by member   // the identity in it
}

var _ seek.Wire = (*move)(nil)

// Send implements seek.Wire.
func (m *move) Send(ctx context.Context, take func() []driver.Mark) ([]error, error) {
	c := m.s.c
	var marks []driver.Mark
	answers, err := c.committer.put(ctx, m.s.eras, func() (member, []stored, error) {
		var all []stored
		marks = take()
		for _, mark := range marks {
			all = append(all, stored{c.claims.own(mark.Claim).where, mark.Offset, mark.Metadata})
		}
		return m.by, all, nil
	})
	if err != nil {
		return nil, err
	}
	verdicts := make([]error, len(marks))
	for i, mark := range marks {
		verdicts[i] = answers[c.claims.own(mark.Claim).where]
	}
	return verdicts, nil
}

// Metadata implements seek.Wire.
func (m *move) Metadata(mark driver.Mark) string { return m.s.c.committer.metadata.Of(mark) }

// Owns implements seek.Wire. The member still has the partitions of the claims that ended with
// their session.
func (m *move) Owns(dc *driver.Claim) bool {
	c := m.s.c
	cl := c.claims.own(dc)
	fatal, closing := c.verdict()
	assigned, _ := c.membership.isAssigned(cl.where)
	return fatal == nil && !closing && m.by.session == m.s && assigned && !cl.endedEarly() && c.lossOf(cl) == nil
}

// Gone implements seek.Wire.
func (m *move) Gone(err error) bool {
	return otherMembers(err) || isCode(err, ibm.ErrFencedInstancedId)
}

// Wrap implements seek.Wire.
func (m *move) Wrap(err error) error { return m.s.c.wrap(err) }

// Report implements seek.Wire.
func (m *move) Report(err error) { m.s.c.core.Report(err) }
