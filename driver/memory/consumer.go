package memory

import (
	"context"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A consumer is one member of a group, as a client sees it. It is made of parts, each of
// which has what it needs and none of which knows the consumer:
//
//	life        Run and Close
//	link        the connection to the broker, and the heartbeats on it
//	claims      what it owns
//	membership  its place in the group
//	topics      which incarnations of its topics it has seen
//	commits     Commit
//	seeks       Seek
//
// The goroutine of Run ties them together: see run. The broker's mutex guards them all.
type consumer struct {
	b   *Broker
	g   *group
	cfg driver.ConsumerConfig

	life    life
	link    link
	claims  claimSet
	place   membership
	topics  topicHistory
	commits committer
	seeks   seeker
}

var _ interface {
	driver.HighWatermarker
	driver.SessionDeadliner
	driver.Seeker
} = (*consumer)(nil)

func newConsumer(b *Broker, cfg driver.ConsumerConfig) *consumer {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg.Topics = slices.Clone(cfg.Topics)
	cfg.BalanceStrategies = slices.Clone(cfg.BalanceStrategies)
	g := b.group(cfg.Group)
	c := &consumer{b: b, g: g, cfg: cfg, life: newLife()}
	c.link.b, c.link.wake = b, &g.changed
	c.link.every, c.link.session, c.link.group = cfg.HeartbeatInterval, cfg.SessionTimeout, cfg.SessionTimeout
	byEpochs := cfg.GroupProtocol == driver.ConsumerProtocol
	if byEpochs {
		c.link.every, c.link.group = b.consumerGroups.HeartbeatInterval, b.consumerGroups.SessionTimeout
	}
	c.claims.changed, c.claims.seeks = &g.changed, &c.seeks
	c.seeks.wake = &g.changed
	c.place = membership{g: g, instance: cfg.InstanceID, link: &c.link, claims: &c.claims, topics: &c.topics, byEpochs: byEpochs}
	c.topics = topicHistory{b: b, topics: cfg.Topics, known: make(map[string]int)}
	c.commits = committer{b: b, place: &c.place, claims: &c.claims}
	return c
}

// cooperative reports whether the consumer keeps its claims while it joins. As in
// Java's client, one eager strategy among its strategies makes a consumer eager.
func (c *consumer) cooperative() bool {
	return !slices.ContainsFunc(c.cfg.BalanceStrategies, func(s driver.BalanceStrategy) bool {
		return s != driver.CooperativeSticky
	})
}

func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	return c.commits.commit(ctx, marks)
}

func (c *consumer) Pause(claims ...*driver.Claim)  { c.setPaused(claims, true) }
func (c *consumer) Resume(claims ...*driver.Claim) { c.setPaused(claims, false) }

func (c *consumer) setPaused(claims []*driver.Claim, paused bool) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, dc := range claims {
		if k := c.claims.find(dc); k != nil {
			k.setPaused(paused)
		}
	}
}

// HighWatermark implements driver.HighWatermarker.
func (c *consumer) HighWatermark(dc *driver.Claim) int64 {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if k, ok := dc.Backend.(*claim); ok && k.set == &c.claims {
		return k.highWatermark()
	}
	return -1
}

// SessionDeadline implements driver.SessionDeadliner.
func (c *consumer) SessionDeadline() time.Time { return c.link.deadline() }

func (c *consumer) Run(h driver.Handler) error {
	c.b.mu.Lock()
	begun := c.life.begin()
	c.b.mu.Unlock()
	if !begun {
		return nil
	}
	defer c.finish()
	return newRun(c, h).run()
}

func (c *consumer) finish() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.link.leave()
	c.life.finish()
}

func (c *consumer) Close(ctx context.Context) error {
	if !c.beginClose(ctx) {
		return c.life.waitClosed(ctx)
	}
	return c.life.answer(c.waitEnded(ctx))
}

// beginClose reports whether this is the first Close.
func (c *consumer) beginClose(ctx context.Context) bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	first := c.life.close(ctx)
	if first {
		c.g.changed.fire()
	}
	return first
}

// waitEnded waits for the end of Run and severs the connection if ctx ends first. It
// returns ctx's error if ctx ended before Run did, in whichever order it sees the two.
func (c *consumer) waitEnded(ctx context.Context) error {
	if !c.life.waitEnded(ctx) {
		c.sever()
		return ctx.Err()
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.life.overran {
		return ctx.Err()
	}
	return nil
}

// sever drops the connection permanently. The member's session runs out.
func (c *consumer) sever() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.link.severed = true
	c.linkChanged()
}

// setCut cuts or heals the connection.
func (c *consumer) setCut(cut bool) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.link.cut = cut
	c.linkChanged()
}

// linkChanged informs the consumer and its group of a change of the link. The consumer
// may have left the group, or another one may have taken its place there.
func (c *consumer) linkChanged() {
	c.link.changed()
	for _, m := range c.g.members {
		if m.c == c {
			c.g.linkChanged(m)
		}
	}
	c.g.changed.fire()
}
