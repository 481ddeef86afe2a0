package memory

import (
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A group of the ConsumerProtocol (KIP-848) as the coordinator sees it. g.generation is
// the group's epoch. A change of the members, of their subscriptions or of a topic raises
// it and computes a target: the partitions that each member shall have. The members reach
// it one by one, with their heartbeats:
//
//	member.target      what it shall have
//	member.assignment  what it may hold
//	member.revoking    what it holds and must give up first
//	member.generation  its epoch: that of the target which it has reached
//
// A partition is free once no member's assignment or revoking names it.

// ConsumerGroups are a broker's settings for groups of the ConsumerProtocol. A zero field
// stands for Kafka's default.
type ConsumerGroups struct {
	// SessionTimeout is the time after which a group removes a silent member: Kafka's
	// group.consumer.session.timeout.ms. The default is 45s.
	SessionTimeout time.Duration

	// HeartbeatInterval is the time between a member's heartbeats: Kafka's
	// group.consumer.heartbeat.interval.ms. The default is 5s.
	HeartbeatInterval time.Duration

	// Assignor computes the targets: the first of Kafka's group.consumer.assignors.
	Assignor Assignor
}

// An Assignor decides which member of a group of the ConsumerProtocol shall have which
// partition.
type Assignor int

// The assignors. The zero value is Uniform.
const (
	Uniform     Assignor = iota // balanced; a partition stays where it is if balance allows
	RangeAssign                 // to each subscriber of a topic consecutive partitions of it
)

// strategy returns the classic strategy with the same result.
func (a Assignor) strategy() driver.BalanceStrategy {
	if a == RangeAssign {
		return driver.Range
	}
	return driver.Sticky
}

// WithConsumerGroups sets the broker's settings for groups of the ConsumerProtocol.
func WithConsumerGroups(s ConsumerGroups) Option {
	return func(b *Broker) { b.consumerGroups = s.withDefaults() }
}

func (s ConsumerGroups) withDefaults() ConsumerGroups {
	if s.SessionTimeout == 0 {
		s.SessionTimeout = 45 * time.Second
	}
	if s.HeartbeatInterval == 0 {
		s.HeartbeatInterval = 5 * time.Second
	}
	return s
}

// protocol returns the protocol of the group's members. A group without members has none
// yet, and accepts either.
func (g *group) protocol() (p driver.GroupProtocol, bound bool) {
	if len(g.members) == 0 {
		return 0, false
	}
	return g.members[0].c.cfg.GroupProtocol, true
}

// byEpochs reports whether the group has members of the ConsumerProtocol.
func (g *group) byEpochs() bool {
	p, bound := g.protocol()
	return bound && p == driver.ConsumerProtocol
}

// enter is the coordinator's answer to the first heartbeat of a member, which has epoch 0.
// The member chooses its id, and keeps it when it has to enter again.
func (g *group) enter(c *consumer, id string) (*member, error) {
	for _, topic := range c.cfg.Topics {
		g.b.ensureTopic(topic)
	}
	if len(g.members) > 0 && !g.byEpochs() {
		return nil, fail("GROUP_ID_NOT_FOUND", "group %q has members of the classic protocol", g.name)
	}
	m, err := g.predecessor(c.cfg.InstanceID, id)
	if err != nil {
		return nil, err
	}
	g.pin(c)
	switch {
	case m == nil:
		m = &member{id: id, c: c}
		g.members = append(g.members, m)
		g.retarget()
	case !m.left: // the same member once more: it holds nothing
		m.c, m.assignment = c, nil
		m.settled()
		g.retarget()
	default:
		same := slices.Equal(m.c.cfg.Topics, c.cfg.Topics)
		m.id, m.c, m.left = id, c, false
		if !same {
			g.retarget()
		}
	}
	m.generation = 0
	g.linkChanged(m)
	return m, nil
}

// predecessor returns the member whose place a new one takes, or nil if there is none. A
// live member keeps its instance ID from others.
func (g *group) predecessor(instance, id string) (*member, error) {
	for _, m := range g.members {
		switch {
		case instance != "" && m.c.cfg.InstanceID == instance:
			if m.id != id && !m.left {
				return nil, fail("UNRELEASED_INSTANCE_ID", "group %q: member %q has instance %q", g.name, m.id, instance)
			}
			return m, nil
		case instance == "" && m.id == id:
			return m, nil
		}
	}
	return nil, nil
}

// retarget raises the group's epoch and computes the target of each member. It takes
// effect with the members' heartbeats.
func (g *group) retarget() {
	g.state = stable
	g.generation++
	members := g.inOrder()
	subs := make([]subscription, len(members))
	for i, m := range members {
		subs[i] = subscription{topics: m.c.cfg.Topics, previous: m.target}
	}
	for i, tps := range balance(g.b.consumerGroups.Assignor.strategy(), subs, g.b.described) {
		members[i].target = tps
	}
	g.changed.fire()
}

// beat is the coordinator's answer to a heartbeat. owned are the partitions that the member
// holds: one that it has to give up and does not hold is given up.
func (g *group) beat(m *member, epoch int32, owned []TopicPartition) error {
	if err := g.checkEpoch(m, epoch); err != nil {
		return err
	}
	holds := func(tp TopicPartition) bool { return slices.Contains(owned, tp) }
	if slices.ContainsFunc(m.revoking, holds) {
		return nil // it stays in its epoch, in which it commits, until it has given up all
	}
	if len(m.revoking) > 0 {
		m.settled()
		g.changed.fire() // others may wait for these
	}
	if m.generation != g.generation {
		g.pin(m.c)
	}
	g.advance(m, holds)
	return nil
}

// advance takes a member the next step towards its target: it gives up partitions first,
// and gets others as soon as they are free.
func (g *group) advance(m *member, holds func(TopicPartition) bool) {
	var kept []TopicPartition
	for _, tp := range m.assignment {
		switch {
		case slices.Contains(m.target, tp):
			kept = append(kept, tp)
		case holds(tp):
			m.revoking = append(m.revoking, tp)
		}
	}
	if len(kept) < len(m.assignment) {
		g.changed.fire()
	}
	m.assignment = kept
	if len(m.revoking) > 0 {
		g.limitRevocation(m)
		return
	}
	for _, tp := range m.target {
		if !slices.Contains(kept, tp) && g.free(tp) {
			m.assignment = append(m.assignment, tp)
		}
	}
	m.generation = g.generation
}

// free reports whether no member may hold a partition.
func (g *group) free(tp TopicPartition) bool {
	return !slices.ContainsFunc(g.members, func(m *member) bool {
		return slices.Contains(m.assignment, tp) || slices.Contains(m.revoking, tp)
	})
}

// limitRevocation removes a member that does not give up its partitions within its
// rebalance timeout.
func (g *group) limitRevocation(m *member) {
	var t *time.Timer
	t = time.AfterFunc(m.c.cfg.RebalanceTimeout, func() {
		g.b.mu.Lock()
		defer g.b.mu.Unlock()
		if m.revocation == t {
			g.remove(m)
		}
	})
	m.revocation = t
}

// settled ends a revocation.
func (m *member) settled() {
	m.revoking = nil
	if m.revocation != nil {
		m.revocation.Stop()
		m.revocation = nil
	}
}

// checkEpoch returns the coordinator's answer to a heartbeat of another epoch than the
// member's.
func (g *group) checkEpoch(m *member, epoch int32) error {
	if epoch != m.generation {
		return fail("FENCED_MEMBER_EPOCH", "group %q: member %q has epoch %d, now %d", g.name, m.id, epoch, m.generation)
	}
	return nil
}

// mayCommitIn is the coordinator's answer to a commit of an epoch.
func (g *group) mayCommitIn(instance, id string, epoch int32) error {
	m, err := g.member(instance, id)
	if err != nil {
		return err
	}
	if epoch != m.generation {
		return fail("STALE_MEMBER_EPOCH", "group %q: member %q commits in epoch %d, now %d", g.name, id, epoch, m.generation)
	}
	return nil
}

// release is the coordinator's answer to the last heartbeat of a static member. It keeps
// its place until its session ends, but another member may take it at once.
func (g *group) release(m *member) {
	m.left = true
	m.settled()
	g.changed.fire()
}

// fence makes a member's epoch another one at the coordinator, and takes its partitions
// away.
func (g *group) fence(m *member) {
	m.assignment, m.target = nil, nil
	m.settled()
	g.retarget()
	m.generation = g.generation
}
