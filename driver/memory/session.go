package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// linkChanged starts or ends the countdown to the end of m's session. A reachable member
// is alive: no heartbeats are sent.
func (g *group) linkChanged(m *member) {
	m.c.link.changed()
	m.c.claims.wake()
	g.changed.fire()
	if m.c.link.up() {
		m.stopSession()
		return
	}
	if m.session != nil {
		return
	}
	m.expires = m.c.link.expiry()
	var t *time.Timer
	t = time.AfterFunc(time.Until(m.expires), func() {
		g.b.mu.Lock()
		defer g.b.mu.Unlock()
		if m.session == t {
			g.remove(m)
		}
	})
	m.session = t
}

func (g *group) linksChanged() {
	for _, m := range g.members {
		g.linkChanged(m)
	}
	g.changed.fire()
}

func (m *member) stopSession() {
	if m.session != nil {
		m.session.Stop()
		m.session, m.expires = nil, time.Time{}
	}
}

// compareMembers puts static members first, by instance, then the others by ID.
func compareMembers(a, b *member) int {
	x, y := a.c.cfg.InstanceID, b.c.cfg.InstanceID
	if (x == "") != (y == "") {
		return cmp.Compare(y, x)
	}
	return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.id, b.id))
}

// supported reports whether all members except but support s.
func (g *group) supported(s driver.BalanceStrategy, but *member) bool {
	for _, m := range g.members {
		if m != but && !slices.Contains(m.c.cfg.BalanceStrategies, s) {
			return false
		}
	}
	return true
}

// compatible reports whether a member with these strategies may be in the group
// in the place of m, which may be nil.
func (g *group) compatible(strategies []driver.BalanceStrategy, m *member) bool {
	return slices.ContainsFunc(strategies, func(s driver.BalanceStrategy) bool { return g.supported(s, m) })
}

// vote returns, of the strategies that all members support, the one that most members
// prefer. Of two with equal votes it returns the one that the leader prefers.
func (g *group) vote() driver.BalanceStrategy {
	votes := make(map[driver.BalanceStrategy]int)
	for _, m := range g.members {
		for _, s := range m.c.cfg.BalanceStrategies {
			if g.supported(s, nil) {
				votes[s]++
				break
			}
		}
	}
	winner := g.leader.c.cfg.BalanceStrategies[0]
	for _, s := range g.leader.c.cfg.BalanceStrategies {
		if votes[s] > votes[winner] {
			winner = s
		}
	}
	return winner
}
