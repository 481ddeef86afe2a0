package memory

import (
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A group is a consumer group as the coordinator sees it. The broker's mutex guards
// it. A group of the ClassicProtocol goes through these states; epochs.go has the other
// protocol.
//
//	empty ── join ──> preparing ── all have joined, or the timeout ─────> completing
//	                      ^                                                   │ the leader has
//	                      ├── join, member gone, metadata changed ────────────┤ assigned
//	                      └──────────────────────── stable <──────────────────┘
type group struct {
	b          *Broker
	name       string
	state      groupState
	generation int32
	strategy   driver.BalanceStrategy
	leader     *member
	members    []*member // in the order of joining
	timer      *time.Timer
	changed    signal // fired when a member may see something new

	offsets  map[TopicPartition]place
	pinned   map[string]bool // topics for which newest has been made durable
	progress signal          // fired when offsets change
}

type groupState int

const (
	empty groupState = iota
	preparing
	completing
	stable
)

// A member is one consumer as the coordinator sees it.
type member struct {
	id         string
	c          *consumer
	owned      []TopicPartition // its claims at its latest join
	previous   []TopicPartition // its latest assignment
	joining    bool             // waits for the group to be complete
	generation int32            // of its latest complete join
	assignment []TopicPartition
	session    *time.Timer // runs while the consumer is unreachable
	expires    time.Time   // when session ends

	// With the ConsumerProtocol only: see epochs.go.
	target     []TopicPartition
	revoking   []TopicPartition
	revocation *time.Timer // runs while revoking is not empty
	left       bool        // static, and its consumer has closed
}

// group returns a group, which it creates if necessary.
func (b *Broker) group(name string) *group {
	for _, g := range b.groups {
		if g.name == name {
			return g
		}
	}
	g := newGroup(b, name)
	b.groups = append(b.groups, g)
	return g
}

// look returns a group as it is. One that does not exist is empty, and is not created.
func (b *Broker) look(name string) *group {
	if i := slices.IndexFunc(b.groups, func(g *group) bool { return g.name == name }); i >= 0 {
		return b.groups[i]
	}
	return newGroup(b, name)
}

func newGroup(b *Broker, name string) *group {
	return &group{b: b, name: name, offsets: make(map[TopicPartition]place), pinned: make(map[string]bool)}
}

// join asks for c to be in the next generation. id is "" for a new member.
func (g *group) join(c *consumer, id string, owned, previous []TopicPartition) (*member, error) {
	for _, topic := range c.cfg.Topics {
		g.b.ensureTopic(topic)
	}
	if g.byEpochs() {
		return nil, fail("INCONSISTENT_GROUP_PROTOCOL", "group %q has members of the consumer protocol", g.name)
	}
	m, err := g.admissible(c, id)
	if err != nil {
		return nil, err
	}
	g.pin(c)
	if m != nil && id == "" && g.takeOver(m, c) {
		return m, nil
	}
	if m == nil {
		m = &member{id: g.b.memberID(c.cfg.ClientID), c: c}
		g.members = append(g.members, m)
	}
	if g.state != preparing {
		g.prepare()
	}
	m.owned, m.previous, m.joining = owned, previous, true
	g.completeIfAllJoined()
	return m, nil
}

// admissible returns the member that c is already or replaces, or nil if it is
// new.
func (g *group) admissible(c *consumer, id string) (*member, error) {
	m, err := g.member(c.cfg.InstanceID, id)
	if err != nil && id != "" {
		return nil, err
	}
	if !g.compatible(c.cfg.BalanceStrategies, m) {
		return nil, fail("INCONSISTENT_GROUP_PROTOCOL",
			"group %q: no member's balance strategy is supported by all", g.name)
	}
	return m, nil
}

// member returns the member with an identity. With an instance ID, the member ID must be
// the latest that joined with it.
func (g *group) member(instance, id string) (*member, error) {
	for _, m := range g.members {
		switch {
		case instance != "" && m.c.cfg.InstanceID == instance:
			if m.id != id {
				return m, failPermanently("FENCED_INSTANCE_ID", "group %q: another member joined as instance %q", g.name, instance)
			}
			return m, nil
		case instance == "" && id != "" && m.id == id:
			return m, nil
		}
	}
	return nil, fail("UNKNOWN_MEMBER_ID", "group %q: %q is not a member", g.name, id)
}

// takeOver puts a restarted static member in the place of m. It reports whether the group
// needs no rebalance for that.
func (g *group) takeOver(m *member, c *consumer) bool {
	same := slices.Equal(m.c.cfg.Topics, c.cfg.Topics) &&
		slices.Equal(m.c.cfg.BalanceStrategies, c.cfg.BalanceStrategies)
	m.id, m.c = g.b.memberID(c.cfg.ClientID), c
	g.linkChanged(m)
	if !same || g.state != stable {
		return false
	}
	m.generation = g.generation
	return true
}

// memberID names a member as Kafka does, but by number.
func (b *Broker) memberID(client string) string {
	b.members++
	return fmt.Sprintf("%s-%06d", client, b.members)
}

// prepare asks all members to rejoin.
func (g *group) prepare() {
	g.state = preparing
	var longest time.Duration
	for _, m := range g.members {
		m.joining = false
		longest = max(longest, m.c.cfg.RebalanceTimeout)
	}
	g.startTimer(longest)
	g.changed.fire()
}

// startTimer bounds the time for which joined members wait for the others.
func (g *group) startTimer(d time.Duration) {
	g.stopTimer()
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		g.b.mu.Lock()
		defer g.b.mu.Unlock()
		if g.timer == t {
			g.complete()
		}
	})
	g.timer = t
}

func (g *group) stopTimer() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

func (g *group) completeIfAllJoined() {
	for _, m := range g.members {
		if !m.joining {
			return
		}
	}
	g.complete()
}

// complete begins a generation with the members that have joined and the static members,
// which stay until their session ends.
func (g *group) complete() {
	g.stopTimer()
	for _, m := range slices.Clone(g.members) {
		if !m.joining && m.c.cfg.InstanceID == "" {
			g.delete(m)
		}
	}
	if !g.electLeader() {
		g.waitForStatic()
		return
	}
	g.generation++
	g.state = completing
	g.strategy = g.vote()
	for _, m := range g.members {
		if m.joining {
			m.generation = g.generation
		} else {
			m.owned, m.previous = m.assignment, m.assignment
		}
		m.joining = false
	}
	g.changed.fire()
}

// electLeader keeps the leader if it has joined.
func (g *group) electLeader() bool {
	if g.leader != nil && g.leader.joining && slices.Contains(g.members, g.leader) {
		return true
	}
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.joining })
	if i < 0 {
		return false
	}
	g.leader = g.members[i]
	return true
}

// waitForStatic continues preparing when no member has joined in time.
func (g *group) waitForStatic() {
	if len(g.members) == 0 {
		g.becomeEmpty()
		return
	}
	g.prepare()
}

// assign decides the assignment, as the leader does when it knows the members of the
// generation.
func (g *group) assign() {
	members := g.inOrder()
	subs := make([]subscription, len(members))
	for i, m := range members {
		subs[i] = subscription{m.c.cfg.Topics, m.owned, m.previous}
	}
	for i, tps := range balance(g.strategy, subs, g.b.described) {
		members[i].assignment = tps
	}
	g.state = stable
	g.changed.fire()
}

// partitions returns how many partitions a topic has.
func (b *Broker) partitions(topic string) int {
	if t := b.topics[topic]; t != nil {
		return len(t.partitions)
	}
	return 0
}

// described returns the number of partitions that the leader learns of: none for a topic
// that it may not see.
func (b *Broker) described(topic string) int {
	if b.topicError(topic) != nil {
		return 0
	}
	return b.partitions(topic)
}

// inOrder returns the members in the order in which Java's assignors see them.
func (g *group) inOrder() []*member {
	ms := slices.Clone(g.members)
	slices.SortStableFunc(ms, compareMembers)
	return ms
}

// remove takes a member out and rebalances the rest of the group.
func (g *group) remove(m *member) {
	g.delete(m)
	switch {
	case len(g.members) == 0:
		g.becomeEmpty()
	case g.byEpochs():
		g.retarget()
	case g.state == preparing:
		g.completeIfAllJoined()
	default:
		g.prepare()
	}
	g.changed.fire()
}

func (g *group) delete(m *member) {
	g.members = slices.DeleteFunc(g.members, func(n *member) bool { return n == m })
	m.stopSession()
	m.settled()
}

func (g *group) becomeEmpty() {
	g.stopTimer()
	g.state = empty
	g.leader = nil
	g.generation++
	g.forgetPins()
	g.changed.fire()
}

// metadataChanged rebalances a group that subscribes to topic.
func (g *group) metadataChanged(topic string) {
	g.changed.fire()
	if g.state != stable && g.state != completing {
		return
	}
	for _, m := range g.members {
		if slices.Contains(m.c.cfg.Topics, topic) {
			g.regroup()
			return
		}
	}
}

// regroup makes the members of a group share the partitions again.
func (g *group) regroup() {
	if g.byEpochs() {
		g.retarget()
	} else {
		g.prepare()
	}
}
