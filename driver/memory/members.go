package memory

import (
	"slices"
	"time"
)

// A Member is one member of a group at the time of the call of [Broker.Members]. Its
// methods act on the consumer of the member, also after the group has removed the
// member.
type Member struct {
	ID         string
	InstanceID string
	ClientID   string
	Topics     []string
	Assignment []TopicPartition // of the last completed rebalance, or what the member may hold

	// Expires is the time at which the group removes the member if its link stays down.
	// It is zero while the link is up.
	Expires time.Time

	c *consumer
}

// Members returns the members of a group in the order in which they joined.
func (b *Broker) Members(group string) []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Member
	for _, m := range b.look(group).members {
		all = append(all, Member{
			ID:         m.id,
			InstanceID: m.c.cfg.InstanceID,
			ClientID:   m.c.cfg.ClientID,
			Topics:     slices.Clone(m.c.cfg.Topics),
			Assignment: slices.Clone(m.assignment),
			Expires:    m.expires,
			c:          m.c,
		})
	}
	return all
}

// Cut breaks the link between the consumer and the broker. The consumer gets no records,
// learns of no rebalance and commits nothing, but keeps its claims until SessionTimeout
// has passed since it sent the latest heartbeat that was answered. Then it loses them, and
// soon after that the group assigns them to other members.
func (m Member) Cut() { m.c.setCut(true) }

// Heal restores the link. If the session has ended meanwhile, the consumer loses its
// claims and rejoins.
func (m Member) Heal() { m.c.setCut(false) }

// SetDelay sets the round-trip time of the member's heartbeats to d, half of it in each
// direction. d must leave time for a heartbeat in the session timeout.
func (m Member) SetDelay(d time.Duration) {
	m.c.b.mu.Lock()
	defer m.c.b.mu.Unlock()
	m.c.link.setDelay(d)
}

// Expire ends the session now, as if it had timed out. A reachable consumer learns of it
// at once. A consumer that is cut off acts like a crashed process.
func (m Member) Expire() {
	b, g := m.c.b, m.c.g
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(g.members, func(n *member) bool { return n.c == m.c }); i >= 0 {
		g.remove(g.members[i])
	}
}

// Fence makes the group forget what the member has, under the same member ID, and gives
// its epoch another number, as when a request of the member that was delayed for longer
// than its session makes it a member again. Its heartbeats and commits are refused with
// FENCED_MEMBER_EPOCH and STALE_MEMBER_EPOCH from then on. A reachable consumer learns of it at
// once. It does nothing to a member of the ClassicProtocol.
func (m Member) Fence() {
	b, g := m.c.b, m.c.g
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(g.members, func(n *member) bool { return n.c == m.c }); i >= 0 && g.byEpochs() {
		g.fence(g.members[i])
	}
}

// Rebalance makes all members of a group rejoin, or, with the ConsumerProtocol, the
// coordinator compute the assignment again.
func (b *Broker) Rebalance(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.group(group); g.state == stable || g.state == completing {
		g.regroup()
	}
}
