package sarama

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// A restart is what remains to be done for a topic that has been created again:
// its partitions start at the beginning of the new log, which nothing was handled
// of, whatever position the group has. The position may be one that a member has
// earned in the old topic and committed to the new one, or the broker may have
// dropped it.
type restart struct {
	since time.Time
	from  map[int32]int64 // positions in the old topic, as far as this member knows them
	done  map[int32]bool
}

// newRestart takes the positions of one topic out of held.
func newRestart(held map[partition]int64, topic string) *restart {
	r := &restart{since: time.Now(), from: map[int32]int64{}, done: map[int32]bool{}}
	for p, at := range held {
		if p.topic == topic {
			r.from[p.id] = at
			delete(held, p)
		}
	}
	return r
}

// hold keeps the position of cl, which ends.
func (c *consumer) hold(cl *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.incarnations.era(cl.where.topic) == cl.era {
		c.held[cl.where] = cl.position()
	}
}

// forgetHeld drops the positions of earlier sessions: another member that holds one of
// these partitions from now on restarts it.
func (c *consumer) forgetHeld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.held, func(p partition, _ int64) bool { return slices.Contains(c.subscribed, p.topic) })
}

// restartWindow is how long a partition of a topic that was created again starts at
// its beginning when this member is assigned it. By then every other member has
// noticed, too, and has overwritten what it may have committed. Later, a position
// was earned in the new topic.
func (c *consumer) restartWindow() time.Duration {
	return c.cfg.RebalanceTimeout + c.cfg.SessionTimeout + 2*lookEvery
}

// restarting reports whether p is to start at the beginning of its log. The
// position is where the member was in the old topic, or -1.
func (c *consumer) restarting(p partition) (from int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.restarts[p.topic]
	if r == nil || r.done[p.id] || time.Since(r.since) > c.restartWindow() {
		return -1, false
	}
	if from, held := r.from[p.id]; held {
		return from, true
	}
	return -1, true
}

// settle notes that p starts at its beginning, and reports whether that is news.
func (c *consumer) settle(p partition) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.restarts[p.topic]
	if r == nil || r.done[p.id] {
		return false
	}
	r.done[p.id] = true
	return true
}

// restarted notes that the beginning of p is durable, and reports the gap.
func (c *consumer) restarted(p partition, from, to int64) {
	if !c.settle(p) {
		return
	}
	gap := &driver.DataLossError{
		Topic: p.topic, Partition: p.id, From: from, To: to, Recreated: true, Begin: to, End: -1,
	}
	c.tell(&driver.Error{Code: gap.ErrorType(), Err: gap})
}

// restartHeld makes the beginnings durable, between two sessions, of what the
// member held in the last one. So a process that joins now, and knows nothing of
// the old topic, starts there. If the group has gone on without this member, that
// is done at the assignment.
func (c *consumer) restartHeld(ctx context.Context, asOf eras) error {
	froms, by := c.heldRestarts()
	if len(froms) == 0 {
		return nil
	}
	begins, err := c.beginnings(slices.Collect(maps.Keys(froms)))
	if err != nil {
		return err
	}
	if len(begins) == 0 {
		return nil
	}
	err = c.commitPositions(ctx, asOf, func() (member, error) { return by, nil }, begins)
	if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress) {
		return nil
	}
	if err != nil {
		return err
	}
	for p, begin := range begins {
		c.restarted(p, froms[p], begin)
	}
	return nil
}

func (c *consumer) heldRestarts() (map[partition]int64, member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	froms := map[partition]int64{}
	for topic, r := range c.restarts {
		for id, from := range r.from {
			if !r.done[id] && slices.Contains(c.subscribed, topic) {
				froms[partition{topic, id}] = from
			}
		}
	}
	return froms, c.membership.last()
}

// beginnings asks the leaders where the logs of topics begin that have been created
// again. A leader that does not know of the new topic yet would answer for the old.
func (c *consumer) beginnings(partitions []partition) (map[partition]int64, error) {
	var topics []string
	for _, p := range partitions {
		if !slices.Contains(topics, p.topic) {
			topics = append(topics, p.topic)
		}
	}
	if err := c.split.RefreshMetadata(topics...); err != nil {
		return nil, err
	}
	var kept []partition
	leaders := map[*ibm.Broker]bool{}
	for _, p := range partitions {
		ids, err := c.data.Partitions(p.topic)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, p.id) {
			continue // the new topic has fewer
		}
		leader, err := c.data.Leader(p.topic, p.id)
		if err != nil {
			return nil, err
		}
		leaders[leader] = true
		kept = append(kept, p)
	}
	for leader := range leaders {
		s, err := askTopics(leader, c.conf.Version, topics)
		if err != nil {
			return nil, err
		}
		for _, topic := range topics {
			if !c.incarnations.holds(topic, c.incarnations.era(topic), s.topics[topic].id) {
				return nil, recreated(topic)
			}
		}
	}
	return c.logOffsets(kept, ibm.OffsetOldest)
}

// restartAssigned makes the beginnings durable of what has been assigned, before
// Sarama starts the claims.
func (c *consumer) restartAssigned(s *session) error {
	froms := map[partition]int64{}
	for topic, ids := range s.sess.Claims() {
		for _, id := range ids {
			p := partition{topic, id}
			if from, ok := c.restarting(p); ok {
				froms[p] = from
			}
		}
	}
	if len(froms) == 0 {
		return nil
	}
	partitions := slices.Collect(maps.Keys(froms))
	begins, err := c.beginnings(partitions)
	if err != nil {
		return fmt.Errorf("beginning of a topic that was created again: %w", err)
	}
	positions, err := c.committedOffsets(s.sess.Context(), partitions)
	if err != nil {
		return err
	}
	for p, begin := range begins {
		if at, ok := positions.found[p]; ok && at == begin && froms[p] < 0 {
			c.settle(p) // the member that held it has seen to it, and has reported it
			continue
		}
		if err := c.pin(s, p, begin); err != nil {
			return err
		}
		// Sarama reads this when it starts the claim; it commits nothing. The one
		// moves the position up only, the other down only.
		s.sess.MarkOffset(p.topic, p.id, begin, "")
		s.sess.ResetOffset(p.topic, p.id, begin, "")
		c.restarted(p, froms[p], begin)
	}
	return nil
}

// restartClaim does the same for a claim that a cooperative rebalance has brought.
// Sarama has read the position of such a claim before the driver hears of it, so
// the session ends where that is not the beginning.
func (c *consumer) restartClaim(s *session, p partition, at int64) error {
	from, ok := c.restarting(p)
	if !ok {
		return nil
	}
	begins, err := c.beginnings([]partition{p})
	if err != nil {
		return err
	}
	begin, ok := begins[p]
	if !ok {
		return nil
	}
	if err := c.pin(s, p, begin); err != nil {
		return err
	}
	c.restarted(p, from, begin)
	if at >= 0 && at != begin {
		return recreated(p.topic)
	}
	return nil
}
