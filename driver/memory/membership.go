package memory

import (
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A membership is what a consumer knows of its place in its group. The broker's mutex
// guards it.
type membership struct {
	g        *group
	instance string
	link     *link
	claims   *claimSet
	topics   *topicHistory
	byEpochs bool // ConsumerProtocol

	id         string           // "" while it is not a member
	own        string           // with byEpochs: the ID with which it becomes a member again
	generation int32            // or epoch
	fresh      bool             // with byEpochs: the Handler does not know yet that it is a member
	away       bool             // with byEpochs: it has to enter again, though the group may still know it
	joining    bool             // it has asked to join
	attending  bool             // Run goes through a generation
	previous   []TopicPartition // the latest assignment
}

// member returns the coordinator's view of the membership.
func (m *membership) member() (*member, error) { return m.g.member(m.instance, m.id) }

// lost returns the answer of the broker to a heartbeat, except for a rebalance. While the
// broker is unreachable there is no answer, until the session is over.
func (m *membership) lost() error {
	switch {
	case !m.entered():
		return nil
	case m.link.fenced():
		return errFenced(m.link.session)
	case !m.link.up():
		return nil
	}
	known, err := m.member()
	if err != nil {
		return err
	}
	return m.current(known)
}

// forget gives up a membership that the group has ended or may end. The member keeps its
// ID if the group still knows it, so that it can leave.
func (m *membership) forget() {
	m.away = m.byEpochs
	if _, err := m.member(); err != nil {
		m.id = ""
	}
	m.previous = nil
	m.link.leave()
}

// ask sends the request to join on behalf of c. Kafka accepts it also from a member that
// the group has left behind, whose heartbeats it would refuse. Then this could happen: the
// member revokes, under the new generation, claims that other members have had since, and
// its last commits rewind theirs. Here such a member loses its claims first.
func (m *membership) ask(c *consumer) error {
	if known, err := m.member(); err == nil && len(m.claims.live) > 0 && known.generation != m.g.generation {
		return errIllegalGeneration(m.g, known.generation)
	}
	joined, err := m.g.join(c, m.id, m.claims.partitions(), m.previous)
	if err == nil {
		m.id = joined.id
	}
	return err
}

// joined enters the generation of the latest join. It reports whether that is complete.
func (m *membership) joined() (bool, error) {
	known, err := m.member()
	if err != nil || known.joining {
		return false, err
	}
	m.joining, m.generation = false, known.generation
	m.link.join()
	m.g.changed.fire()
	return true, nil
}

// synced takes the assignment of the generation, which the leader decides for all. It
// reports whether there is one.
func (m *membership) synced() (bool, error) {
	known, err := m.member()
	if err != nil {
		return false, err
	}
	m.lead(known)
	switch m.g.state {
	case completing:
		return false, nil
	case stable:
		m.previous = slices.Clone(known.assignment)
		return true, nil
	}
	return false, errRebalance(m.g)
}

// lead decides the assignment of a generation that has none, if the member is the leader.
func (m *membership) lead(known *member) {
	if m.g.state == completing && m.g.leader == known {
		m.g.assign()
	}
}

// keepUp does for the group what Run does not do while it is interrupted: it enters the
// generation of the latest join and, as the leader, decides the assignment. A member that
// is closing or that has lost its place still has claims to commit, and the group accepts
// no commit before the leader has decided.
func (m *membership) keepUp() {
	known, err := m.member()
	if m.byEpochs || m.attending || err != nil || !m.link.up() || known.joining {
		return
	}
	m.joining, m.generation = false, known.generation // which may be over by now
	if m.generation == m.g.generation {
		m.lead(known)
	}
}

// mayCommit returns the broker's answer to a commit.
func (m *membership) mayCommit() error {
	if !m.link.up() {
		return errUnreachable()
	}
	switch {
	case m.away:
		return fail("UNKNOWN_MEMBER_ID", "group %q: the consumer is not a member", m.g.name)
	case m.byEpochs:
		return m.g.mayCommitIn(m.instance, m.id, m.generation)
	}
	return m.g.mayCommit(m.instance, m.id, m.generation)
}

// commit records a position that the member commits. what says why, to observers.
func (m *membership) commit(tp TopicPartition, at place, what Commit) {
	m.g.offsets[tp] = at
	what.Group, what.Member, what.Generation = m.g.name, m.id, m.generation
	what.TopicPartition, what.Offset, what.Metadata = tp, at.offset, at.metadata
	m.g.b.observer.applied(what)
}

// lostMembership wraps ErrMembershipLost in an answer that means it.
func lostMembership(err error) error {
	switch code(err) {
	case "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_MEMBER_EPOCH":
		return &driver.Error{Code: code(err), Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, err)}
	}
	return err
}
