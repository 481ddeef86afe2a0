package franz

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/seek"
)

// Seek implements [driver.Seeker]. It needs no rejoin: the claims end while kgo holds their
// partitions paused, and others begin. No other claim ends.
func (c *consumer) Seek(ctx context.Context, to []driver.Mark) error {
	call := seek.New(ctx, to)
	if s := c.membership.current(); s != nil && len(call.Open()) > 0 {
		s.turn.quiet(func() { s.seek(call) })
	} else {
		call.End()
	}
	return call.Wait()
}

// seek ends the claims of a call, and sees to its marks. It is called with the turn.
func (s *session) seek(call *seek.Call) {
	sought := map[*claim]bool{}
	for _, dc := range call.Open() {
		cl := s.c.claims.own(dc)
		if cl == nil || s.isOver() || s.claims.at(cl.where) != cl {
			call.End(dc)
			continue
		}
		sought[cl] = true
	}
	taken := s.claims.take(func(cl *claim) bool { return sought[cl] })
	if len(taken) == 0 {
		return
	}
	s.client.PauseFetchPartitions(byTopic(places(taken)...))
	m := &move{s: s, call: call, taken: taken, holdings: map[*claim]*holding{}}
	for _, cl := range taken {
		m.holdings[cl] = s.newHolding(cl.where)
	}
	s.jobs.Go(m.run)
}

// A move moves the positions of claims of one session, which are no longer live.
type move struct {
	s        *session
	call     *seek.Call
	taken    []*claim
	holdings map[*claim]*holding
}

// errSeekInDoubt is why a session ends of which an attempt to move a position has no answer.
var errSeekInDoubt = errors.New("a position that was sought may become durable")

// run ends the claims, makes the positions durable, and begins other claims.
//
// An attempt without an answer may be on its way to the broker for as long as it is valid. Then
// a claim would begin at the old position, and the attempt would move the group's position from
// under it. So the session ends: the broker refuses the attempt once another member has taken
// the place of this one.
func (m *move) run() {
	m.s.yield(m.taken)
	m.call.Pursue(m.s.running, m)
	if doubt := m.call.Doubt(); doubt != nil {
		m.s.end(&driver.Error{Code: codeOf(doubt), Err: fmt.Errorf("%w: %w", errSeekInDoubt, doubt)})
		return
	}
	begun := m.beginMoved()
	for _, cl := range m.taken {
		if !begun[cl] {
			m.s.jobs.Go(func() {
				m.s.begin(cl.where, m.holdings[cl], nil, func(ctx context.Context, by member) (startAt, error) {
					return m.s.startOf(ctx, by, cl.where)
				})
			})
		}
	}
}

// beginMoved begins the claims at positions that are durable, as far as the member still has
// their partitions. Kgo throws away what it has buffered whenever a position is set, so it sets
// all of them at once.
func (m *move) beginMoved() (begun map[*claim]bool) {
	s := m.s
	begun, starts := map[*claim]bool{}, map[partition]startAt{}
	moved := map[partition]*claim{}
	for _, mark := range m.call.Durable() {
		cl := s.c.claims.own(mark.Claim)
		moved[cl.where] = cl
		at := startingAt(mark.Offset)
		at.metadata = mark.Metadata
		starts[cl.where] = at
	}
	s.c.positions.findEnds(s.running, s.c.leaders.within(surveyTimeout), starts)
	s.turn.quiet(func() {
		by, ok := s.member()
		var made []*claim
		for p, cl := range moved {
			if !ok || by.id != cl.member || !m.holds(cl) {
				delete(starts, p)
				continue
			}
			begun[cl] = true
			made = append(made, s.newClaim(p, starts[p], by))
		}
		if len(made) == 0 {
			return
		}
		s.setOffsets(starts)
		s.assign(made)
		s.client.ResumeFetchPartitions(byTopic(places(made)...))
	})
	return begun
}

// holds reports whether the member still has the partition of cl.
func (m *move) holds(cl *claim) bool { return !m.s.isOver() && m.s.holds(cl.where, m.holdings[cl]) }

var _ seek.Wire = (*move)(nil)

// Send implements seek.Wire.
func (m *move) Send(ctx context.Context, take func() []driver.Mark) ([]error, error) {
	c := m.s.c.committer
	var marks []driver.Mark
	answers, err := c.put(ctx, m.s.eras, func() (member, []stored, error) {
		by, ok := m.s.member()
		if !ok {
			return by, nil, errSuperseded
		}
		var all []stored
		marks = take()
		for _, mark := range marks {
			all = append(all, stored{c.claims.own(mark.Claim).where, mark.Offset, mark.Metadata})
		}
		return by, all, nil
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

// Owns implements seek.Wire. Under another member ID the group may have given the partition
// away: see session.onAssigned.
func (m *move) Owns(dc *driver.Claim) bool {
	cl := m.s.c.claims.own(dc)
	by, ok := m.s.member()
	return ok && by.id == cl.member && m.holds(cl) && m.s.lossOf(cl) == nil
}

// Gone implements seek.Wire. A generation or an epoch that has passed is no such verdict: the
// member keeps what it is not asked for.
func (m *move) Gone(err error) bool {
	return isCode(err, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.FencedMemberEpoch)
}

// Wrap implements seek.Wire.
func (m *move) Wrap(err error) error { return m.s.c.wrap(err) }

// Report implements seek.Wire.
func (m *move) Report(err error) {
	if !errors.Is(err, errSuperseded) {
		m.s.c.core.Report(err)
	}
}
