package memory

import (
	"context"
	"maps"

	"github.com/aarontianqx/gopkg/driver"
)

// A Commit is one committed offset, which [WithCommitObserver] observes.
type Commit struct {
	Group      string
	Member     string
	Generation int32
	TopicPartition
	Offset   int64
	Metadata string
	Gap      bool // the consumer has moved the position into the log, see driver.OutOfRange
	Seek     bool // the position was asked for by driver.Seeker or driver.Group, and may be behind
}

// Committed returns the offset that a group has committed for a partition, or -1. A group
// that starts at the newest offset commits that offset when it first joins for the topic.
func (b *Broker) Committed(group, topic string, partition int32) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.look(group).committed(TopicPartition{topic, partition})
}

// CommittedMetadata returns what a group has committed beside its offset for a partition.
func (b *Broker) CommittedMetadata(group, topic string, partition int32) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.look(group).offsets[TopicPartition{topic, partition}].metadata
}

// SetCommitted sets the committed offset of a group, without metadata, like an operator.
// It fails for a group with members.
func (b *Broker) SetCommitted(group, topic string, partition int32, offset int64) error {
	return b.SetCommittedMetadata(group, topic, partition, offset, "")
}

// SetCommittedMetadata is SetCommitted with metadata. It fails with
// OFFSET_METADATA_TOO_LARGE for metadata that the broker accepts from no consumer either.
func (b *Broker) SetCommittedMetadata(group, topic string, partition int32, offset int64, metadata string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	tp := TopicPartition{topic, partition}
	g := b.group(group)
	switch {
	case b.log(tp) == nil:
		return errUnknownPartition(topic, partition)
	case len(g.members) > 0:
		return fail("UNKNOWN_MEMBER_ID", "group %q: offsets cannot be set while it has %d members", group, len(g.members))
	}
	if err := metadataErr(tp, metadata); err != nil {
		return err
	}
	g.offsets[tp] = place{offset, metadata}
	g.progress.fire()
	return nil
}

// WaitCommitted blocks until a group has committed offset or more for a
// partition, or ctx ends, and then returns ctx's error.
func (b *Broker) WaitCommitted(ctx context.Context, group, topic string, partition int32, offset int64) error {
	tp := TopicPartition{topic, partition}
	for {
		b.mu.Lock()
		g := b.group(group)
		done, changed := g.committed(tp) >= offset, g.progress.wait()
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A place is a committed offset and what was committed beside it.
type place struct {
	offset   int64
	metadata string
}

func (g *group) committed(tp TopicPartition) int64 {
	if at, ok := g.offsets[tp]; ok {
		return at.offset
	}
	return -1
}

// pin commits the newest offset of all partitions that a topic has when the group first
// joins for it. A partition that is not pinned was created later: see start.
func (g *group) pin(c *consumer) {
	for _, topic := range c.cfg.Topics {
		if c.cfg.Initial(topic) != driver.OffsetNewest {
			continue
		}
		if t := g.b.topics[topic]; g.pinned[topic] || t != nil && t.forbidden {
			continue
		}
		g.pinned[topic] = true
		for p := range g.b.partitions(topic) {
			tp := TopicPartition{topic, int32(p)}
			l := g.b.log(tp)
			if g.committed(tp) < 0 && !c.topics.outlived(topic) {
				g.offsets[tp] = place{offset: l.limit(c.cfg.IsolationLevel)}
				c.topics.placed(tp, g.offsets[tp].offset, l)
			}
		}
	}
	g.progress.fire()
}

// start returns where an assigned partition is delivered from. For a group
// that starts at the newest offset, it also commits the beginning of a partition that was
// created later, or this could happen: the owner commits nothing, retention removes
// records, and the next owner skips them without a report.
func (g *group) start(c *consumer, tp TopicPartition, l *partitionLog) place {
	if at, ok := g.offsets[tp]; ok {
		return at
	}
	if c.cfg.Initial(tp.Topic) == driver.OffsetNewest {
		g.begin(tp)
	}
	return place{offset: l.start}
}

// begin commits the beginning of a partition for which the group has no position.
func (g *group) begin(tp TopicPartition) {
	if l := g.b.log(tp); l != nil && g.committed(tp) < 0 {
		g.offsets[tp] = place{offset: l.start}
		g.progress.fire()
	}
}

// forget drops the committed offsets of a deleted topic. A topic that is created under
// its name while the group has members stays pinned: it is later than they are.
func (g *group) forget(topic string) {
	maps.DeleteFunc(g.offsets, func(tp TopicPartition, _ place) bool { return tp.Topic == topic })
	g.forgetPins()
	g.progress.fire()
}

// forgetPins makes a group without members new to the topics for which it has no
// position.
func (g *group) forgetPins() {
	if len(g.members) > 0 {
		return
	}
	known := make(map[string]bool)
	for tp := range g.offsets {
		known[tp.Topic] = true
	}
	maps.DeleteFunc(g.pinned, func(topic string, _ bool) bool { return !known[topic] })
}

// ExpireOffsets drops the committed offsets of a group, as Kafka does when the group has
// been empty for offsets.retention.minutes. It fails for a group with members.
func (b *Broker) ExpireOffsets(group string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.group(group)
	if n := len(g.members); n > 0 {
		return fail("NON_EMPTY_GROUP", "group %q: its offsets do not expire while it has %d members", group, n)
	}
	clear(g.offsets)
	clear(g.pinned)
	g.progress.fire()
	return nil
}

// mayCommit is the coordinator's answer to a commit.
func (g *group) mayCommit(instance, id string, generation int32) error {
	if _, err := g.member(instance, id); err != nil {
		return err
	}
	if generation != g.generation {
		return errIllegalGeneration(g, generation)
	}
	// While the members are asked to join, the old generation may still commit.
	if g.state == completing {
		return errRebalance(g)
	}
	return nil
}

func errIllegalGeneration(g *group, generation int32) *driver.Error {
	return fail("ILLEGAL_GENERATION", "group %q: generation %d, now %d", g.name, generation, g.generation)
}

func errRebalance(g *group) *driver.Error {
	return fail("REBALANCE_IN_PROGRESS", "group %q", g.name)
}
