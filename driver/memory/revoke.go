package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// adopt makes the claims that an assignment brings and takes back those that it
// does not name any more, after which the group is to be joined once more.
func (c *consumer) adopt(tps []TopicPartition) error {
	added, dropped, missing := c.compare(tps)
	for _, topic := range missing {
		c.handler.Error(topic)
	}
	for _, start := range c.takeUnplaced() {
		c.handler.Error(&driver.Error{Code: start.ErrorType(), Err: start})
	}
	c.handler.Assign(claimsOf(added))
	for _, k := range added {
		go k.deliver(c.handler)
	}
	if len(dropped) == 0 {
		return nil
	}
	if err := c.revoke(dropped); err != nil {
		return err
	}
	return fail("REBALANCE_IN_PROGRESS", "%d partitions were given up", len(dropped))
}

func (c *consumer) takeUnplaced() []*driver.NoPositionError {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	starts := c.unplaced
	c.unplaced = nil
	return starts
}

// compare returns the claims that tps adds and those that it drops, and what is
// wrong with topics. A partition whose topic was created again is dropped first.
func (c *consumer) compare(tps []TopicPartition) (added, dropped []*claim, missing []*driver.PartitionError) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	held := make(map[TopicPartition]bool)
	for _, k := range c.claims {
		held[k.partition()] = true
		if k.orphaned() || !slices.Contains(tps, k.partition()) {
			dropped = append(dropped, k)
		}
	}
	for _, tp := range tps {
		if l := c.b.log(tp); l != nil && !held[tp] {
			added = append(added, c.newClaim(tp, l))
		}
	}
	c.claims = append(c.claims, added...)
	for _, topic := range c.cfg.Topics {
		if err := c.b.topicError(topic); err != nil {
			missing = append(missing, errTopic(topic, err))
		}
	}
	return added, dropped, missing
}

func (c *consumer) newClaim(tp TopicPartition, l *partitionLog) *claim {
	start := c.g.start(c, tp, l)
	k := &claim{c: c, log: l, done: make(chan struct{}), next: start, committed: start, watermark: -1, reported: -1}
	k.Claim = driver.Claim{
		Topic: tp.Topic, Partition: tp.Partition,
		Start: start, Generation: c.generation, Backend: k,
	}
	return k
}

func (c *consumer) liveClaims() []*claim {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return slices.Clone(c.claims)
}

// revoke drains claims. It returns nil when they were given back or their window
// is over, and the session's error if they were lost meanwhile. They have ended
// in any case.
func (c *consumer) revoke(ks []*claim) error {
	if len(ks) == 0 {
		return nil
	}
	ctx, cancel := c.window()
	c.b.mu.Lock()
	lost := c.sessionErr()
	c.b.mu.Unlock()
	if lost != nil || ctx.Err() != nil {
		c.lose(ks, cmp.Or(lost, context.Cause(ctx)))
		cancel(lost)
		return lost
	}
	c.stop(ks)
	begun, done := make(chan struct{}), make(chan struct{})
	c.revokes.Go(func() {
		defer close(done)
		close(begun)
		c.handler.Revoke(ctx, claimsOf(ks))
	})
	// Otherwise the window could be over before the handler has heard of it, and
	// the next claim of the partition be assigned first.
	<-begun
	err := c.awaitRevoke(ctx, done)
	c.end(ks)
	cancel(err)
	return err
}

// awaitRevoke returns when Revoke has, or its window or the session is over.
func (c *consumer) awaitRevoke(ctx context.Context, done <-chan struct{}) error {
	for {
		c.b.mu.Lock()
		err, changed, closing := c.sessionErr(), c.g.changed.wait(), c.closeContext()
		c.b.mu.Unlock()
		select {
		case <-done:
			return nil
		default:
		}
		if err != nil || ctx.Err() != nil || closing.Err() != nil {
			return err
		}
		select {
		case <-done:
		case <-changed:
		case <-ctx.Done():
		case <-closing.Done():
		}
	}
}

// window returns a context for one Revoke: DrainTimeout long, or as long as
// Close has left.
func (c *consumer) window() (context.Context, context.CancelCauseFunc) {
	c.b.mu.Lock()
	parent := c.closeContext()
	c.b.mu.Unlock()
	stop := context.CancelFunc(func() {})
	if _, bounded := parent.Deadline(); !bounded {
		parent, stop = context.WithTimeout(parent, c.cfg.DrainTimeout)
	}
	ctx, cancel := context.WithCancelCause(parent)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// lose ends claims that are gone already.
func (c *consumer) lose(ks []*claim, cause error) {
	if len(ks) == 0 {
		return
	}
	c.stop(ks)
	c.end(ks)
	c.handler.Lost(claimsOf(ks), cause)
}

// stop returns when nothing of ks is delivered any more.
func (c *consumer) stop(ks []*claim) {
	c.b.mu.Lock()
	for _, k := range ks {
		k.stop()
	}
	c.b.mu.Unlock()
	for _, k := range ks {
		<-k.done
	}
}

// end makes the broker deaf to claims.
func (c *consumer) end(ks []*claim) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.bury(ks)
	for _, k := range ks {
		k.ended = true
	}
	over := func(k *claim) bool { return k.ended }
	c.astray = slices.DeleteFunc(c.astray, over) // or they would be ended once more
	c.claims = slices.DeleteFunc(c.claims, over)
}

func claimsOf(ks []*claim) []*driver.Claim {
	cs := make([]*driver.Claim, len(ks))
	for i, k := range ks {
		cs[i] = &k.Claim
	}
	return cs
}
