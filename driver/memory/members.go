package memory

import (
	"slices"
	"time"
)

// A Member is one member of a group as it was when [Broker.Members] was called.
// Its methods act on the consumer behind it, also when the group has long
// forgotten that member.
type Member struct {
	ID         string
	InstanceID string
	ClientID   string
	Topics     []string
	Assignment []TopicPartition // of the last completed rebalance

	// Expires is when the group removes the member, if its link does not come back
	// before. It is zero while the link holds.
	Expires time.Time

	c *consumer
}

// Members returns the members of a group in the order in which they joined.
func (b *Broker) Members(group string) []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Member
	for _, m := range b.group(group).members {
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

// Cut takes the link between the consumer and the broker away: it gets no
// records, learns of no rebalance and commits nothing, but goes on with what it
// has. When SessionTimeout has passed since its latest heartbeat that was answered
// had been sent, it loses its claims; soon after that they go to others.
func (m Member) Cut() { m.c.setCut(true) }

// Heal brings the link back. If the session has ended meanwhile, the consumer
// finds its claims lost and joins anew.
func (m Member) Heal() { m.c.setCut(false) }

// SetDelay has the answers to the member's heartbeats take d from now on, half of it
// in each direction. d must leave room for a heartbeat in the session timeout.
func (m Member) SetDelay(d time.Duration) {
	m.c.b.mu.Lock()
	defer m.c.b.mu.Unlock()
	m.c.link.setDelay(d)
}

// Expire ends the session now, as if it had timed out. A consumer that can be
// reached learns of it at once; one that has been cut is a crashed process.
func (m Member) Expire() {
	b, g := m.c.b, m.c.g
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(g.members, func(n *member) bool { return n.c == m.c }); i >= 0 {
		g.remove(g.members[i])
	}
}

// Rebalance has all members of a group join anew.
func (b *Broker) Rebalance(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.group(group); g.state == stable || g.state == completing {
		g.prepare()
	}
}
