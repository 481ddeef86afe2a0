package memory

import (
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// errOrphaned ends a generation because claims have lost their topic, or because a
// topic is there again of which claims were lost.
var errOrphaned = errors.New("a topic was deleted")

// orphaned reports whether the claim's topic has been deleted. What bears its name
// now, if anything does, is another topic.
func (k *claim) orphaned() bool { return k.c.b.log(k.partition()) != k.log }

func (c *consumer) orphans() (ks []*claim) {
	for _, k := range c.claims {
		if k.orphaned() {
			ks = append(ks, k)
		}
	}
	return ks
}

// orphanErr returns errOrphaned if Run has to see to what has become of topics. A
// consumer that is cut off knows nothing of that.
func (c *consumer) orphanErr() error {
	if c.reachable() && (slices.ContainsFunc(c.claims, (*claim).orphaned) || len(c.reborn()) > 0) {
		return errOrphaned
	}
	return nil
}

// bury notes the positions of claims that end when their topic is gone already.
func (c *consumer) bury(ks []*claim) {
	for _, k := range ks {
		if k.orphaned() {
			c.buried = append(c.buried, grave{k.partition(), k.committed})
		}
	}
}

// A grave is where the group stood in a partition of a deleted topic.
type grave struct {
	TopicPartition
	position int64
}

// reborn returns what there is to report: of which topics there is another now.
func (c *consumer) reborn() (gaps []*driver.DataLossError) {
	for _, g := range c.buried {
		if c.b.topics[g.Topic] == nil {
			continue
		}
		gap := &driver.DataLossError{
			Topic: g.Topic, Partition: g.Partition, From: g.position, Recreated: true, Begin: -1, End: -1,
		}
		if l := c.b.log(g.TopicPartition); l != nil {
			gap.To, gap.Begin, gap.End = l.start, l.start, l.end
		}
		gaps = append(gaps, gap)
	}
	return gaps
}

// loseOrphans ends the claims of deleted topics, and reports those that were
// created again. Their new claims come with the next generation, which the group
// has begun already.
func (c *consumer) loseOrphans() {
	c.b.mu.Lock()
	ks := c.orphans()
	c.b.mu.Unlock()
	c.stop(ks)
	c.end(ks)
	for len(ks) > 0 {
		n := 1
		for n < len(ks) && ks[n].Topic == ks[0].Topic {
			n++
		}
		c.handler.Lost(claimsOf(ks[:n]), c.deletion(ks[0].Topic))
		ks = ks[n:]
	}
	for _, gap := range c.takeReborn() {
		c.handler.Error(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
}

func (c *consumer) takeReborn() []*driver.DataLossError {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	gaps := c.reborn()
	c.buried = slices.DeleteFunc(c.buried, func(g grave) bool { return c.b.topics[g.Topic] != nil })
	return gaps
}

// deletion is why the claims of a deleted topic are lost.
func (c *consumer) deletion(topic string) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.b.topics[topic] == nil {
		return errUnknownTopic(topic)
	}
	return fail("INCONSISTENT_TOPIC_ID", "topic %q was created again", topic)
}

// remember notes which incarnations of its topics the consumer has joined for.
func (c *consumer) remember() {
	for _, topic := range c.cfg.Topics {
		c.known[topic] = c.b.topicID(topic)
	}
}

// outlived reports whether the consumer has joined for a topic's name before this
// incarnation came to be. Then all of it is later than the group, whatever has
// become of the group since.
func (c *consumer) outlived(topic string) bool {
	id, joined := c.known[topic]
	return joined && id != c.b.topicID(topic)
}
