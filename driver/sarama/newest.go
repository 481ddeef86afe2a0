package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// Sarama's own OffsetNewest looks up the end of the log when a claim begins. So
// it loses records: those that arrive while nobody runs before the first
// commit, and those of a new partition before it is noticed. Here Sarama always
// starts at the oldest record where nothing is committed, and "newest" is a
// commit that is made before:
//
//   - A group without members gets the end of every partition of a topic for
//     which it has no position at all, in one request, before it is joined. A
//     group with members refuses that, so a late starter skips nothing.
//   - When the group has members, but none for this topic, the ends from before
//     the join are committed for the partitions that this member is assigned.
//   - A partition that then still has no position was created later. It starts
//     at its beginning, which is committed before the claim is assigned.

//   - What cannot be done for one partition, as it has no leader or its position is
//     refused, is owed to it until its claim starts. No other partition waits for that.

// endUnknown stands for an end that could not be looked up before the join. It is
// looked up when the claim starts: without a leader nothing comes in between.
const endUnknown = -1

// pinNewest does what has to be done before the join. It returns the ends of
// what could not be committed, and why the positions of some partitions are not known
// or could not be made durable.
func (c *consumer) pinNewest(ctx context.Context, asOf eras, topics []string) (pins map[partition]int64, failed map[partition]error, err error) {
	if c.cfg.InitialOffset != driver.OffsetNewest {
		return nil, nil, nil
	}
	topics = slices.DeleteFunc(slices.Clone(topics), c.incarnations.reborn) // these start at the beginning
	if len(topics) == 0 {
		return nil, nil, nil
	}
	if err := c.split.RefreshMetadata(topics...); err != nil {
		return nil, nil, err
	}
	partitions, err := c.partitions(topics)
	if err != nil {
		return nil, nil, err
	}
	fresh, failed, err := c.unknownTopics(ctx, partitions)
	if err != nil || len(fresh) == 0 {
		return c.owe(nil), failed, err
	}
	ends, _ := c.someOffsets(fresh, ibm.OffsetNewest)
	begins, _ := c.someOffsets(slices.Collect(maps.Keys(ends)), ibm.OffsetOldest)
	// Another member may have pinned the topic, and have gone again, since it was looked
	// at: what has come in between is not to be skipped.
	still, more, err := c.unknownTopics(ctx, fresh)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(failed, more)
	owed := map[partition]int64{}
	for _, p := range fresh {
		_, known := begins[p]
		switch {
		case !slices.Contains(still, p):
			delete(ends, p)
		case !known:
			delete(ends, p)
			owed[p] = endUnknown
		}
	}
	refused, err := c.pinAll(ctx, asOf, ends, begins)
	if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress) {
		pins := c.owe(owed)
		for p, end := range ends { // the group has members
			if _, earlier := pins[p]; !earlier {
				pins[p] = end
			}
		}
		return pins, failed, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for p := range refused {
		owed[p] = ends[p]
	}
	maps.Copy(failed, refused)
	return c.owe(owed), failed, nil
}

// pinAll commits the ends for a group without members, and reports these starts. It
// returns which were refused.
func (c *consumer) pinAll(ctx context.Context, asOf eras, ends, begins map[partition]int64) (refused map[partition]error, err error) {
	if len(ends) == 0 {
		return nil, nil
	}
	refused, err = c.somePositions(ctx, asOf, func() (member, error) { return noMember, nil }, ends)
	if err != nil {
		return nil, err
	}
	for p, end := range ends {
		if refused[p] == nil {
			c.tellNoPosition(p, end, begins[p])
		}
	}
	return refused, nil
}

// owe adds to the pins that are owed, and returns all of them. What is owed already
// stays: it is of an earlier end.
func (c *consumer) owe(more map[partition]int64) map[partition]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, end := range more {
		if _, ok := c.owed[p]; !ok {
			c.owed[p] = end
		}
	}
	return maps.Clone(c.owed)
}

// owesNothing notes that the claim of p has a start.
func (c *consumer) owesNothing(p partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.owed, p)
}

func (c *consumer) partitions(topics []string) ([]partition, error) {
	var all []partition
	for _, topic := range topics {
		ids, err := c.data.Partitions(topic)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			all = append(all, partition{topic, id})
		}
	}
	return all, nil
}

// unknownTopics returns the partitions of topics for which the group has no
// position in any partition, and why the position of some partitions is not known.
// Whether the topic of such a one has a position is not known either.
func (c *consumer) unknownTopics(ctx context.Context, partitions []partition) (fresh []partition, failed map[partition]error, err error) {
	at, err := c.committedOffsets(ctx, partitions)
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for p := range at.found {
		known[p.topic] = true
	}
	for p := range at.failed {
		known[p.topic] = true
	}
	for _, p := range partitions {
		if !known[p.topic] {
			fresh = append(fresh, p)
		}
	}
	return fresh, at.failed, nil
}

// logOffsets asks the leaders for the beginnings or the ends of partitions. At
// ReadCommitted an end is where the first open transaction begins. It is for those
// who need all of them; see someOffsets.
func (c *consumer) logOffsets(partitions []partition, which int64) (map[partition]int64, error) {
	offsets, failed := c.someOffsets(partitions, which)
	for p, err := range failed {
		return nil, fmt.Errorf("offset of %s/%d: %w", p.topic, p.id, err)
	}
	return offsets, nil
}

// someOffsets is logOffsets for those who can do with some: a partition without a
// leader, or with one that does not answer, is no verdict on the others.
func (c *consumer) someOffsets(partitions []partition, which int64) (offsets map[partition]int64, failed map[partition]error) {
	byLeader := map[*ibm.Broker][]partition{}
	offsets, failed = map[partition]int64{}, map[partition]error{}
	for _, p := range partitions {
		leader, err := c.data.Leader(p.topic, p.id)
		if err != nil {
			failed[p] = err
			continue
		}
		byLeader[leader] = append(byLeader[leader], p)
	}
	for leader, led := range byLeader {
		c.offsetsFrom(leader, led, which, offsets, failed)
	}
	return offsets, failed
}

func (c *consumer) offsetsFrom(leader *ibm.Broker, led []partition, which int64, offsets map[partition]int64, failed map[partition]error) {
	req := ibm.NewOffsetRequest(c.conf.Version)
	req.IsolationLevel = c.conf.Consumer.IsolationLevel
	for _, p := range led {
		req.AddBlock(p.topic, p.id, which, 1)
	}
	resp, err := leader.GetAvailableOffsets(req)
	if err != nil {
		leader.Close()
	}
	for _, p := range led {
		var block *ibm.OffsetResponseBlock
		if err == nil {
			block = resp.GetBlock(p.topic, p.id)
		}
		switch {
		case err != nil:
			failed[p] = err
		case block == nil:
			failed[p] = ibm.ErrIncompleteResponse
		case block.Err != ibm.ErrNoError:
			failed[p] = block.Err
		default:
			offsets[p] = block.Offset
		}
	}
}

// pinAssigned commits the ends that were looked up before the join, for what
// the member has been assigned. It runs before Sarama starts the claims.
func (c *consumer) pinAssigned(s *session) error {
	var mine []partition
	for topic, ids := range s.sess.Claims() {
		for _, id := range ids {
			if end, ok := s.pins[partition{topic, id}]; ok && end != endUnknown {
				mine = append(mine, partition{topic, id})
			}
		}
	}
	if len(mine) == 0 {
		return nil
	}
	ctx := s.sess.Context()
	at, err := c.committedOffsets(ctx, mine)
	if err != nil {
		return err
	}
	mine = slices.DeleteFunc(mine, func(p partition) bool { _, ok := at.found[p]; return ok || at.failed[p] != nil })
	begins, _ := c.someOffsets(mine, ibm.OffsetOldest)
	for _, p := range mine {
		if _, ok := begins[p]; !ok {
			continue // its claim does this when it starts
		}
		if err := c.pin(s, p, s.pins[p]); err != nil {
			return err
		}
		// Sarama reads this when it starts the claim; it commits nothing.
		s.sess.MarkOffset(p.topic, p.id, s.pins[p], "")
		c.tellNoPosition(p, s.pins[p], begins[p])
	}
	return nil
}

// start resolves where a claim starts, and which records are to be passed over
// because Sarama starts before that.
func (c *consumer) start(s *session, source ibm.ConsumerGroupClaim) (start, skip int64, err error) {
	p, at := partition{source.Topic(), source.Partition()}, source.InitialOffset()
	if err := c.restartClaim(s, p, at); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err == nil {
			c.owesNothing(p)
		}
	}()
	if at >= 0 {
		return at, 0, nil
	}
	begin, err := c.offsetOf(s.sess.Context(), p, ibm.OffsetOldest)
	if err != nil {
		return 0, 0, err
	}
	if c.cfg.InitialOffset == driver.OffsetOldest {
		c.tellNoPosition(p, begin, begin)
		return -1, 0, nil
	}
	at, ok := s.pins[p]
	switch {
	case !ok, c.incarnations.reborn(p.topic):
		at = begin
	case at == endUnknown:
		if at, err = c.offsetOf(s.sess.Context(), p, ibm.OffsetNewest); err != nil {
			return 0, 0, err
		}
	}
	if err := c.pin(s, p, at); err != nil {
		return 0, 0, err
	}
	c.tellNoPosition(p, at, begin)
	return at, at, nil
}

// offsetOf asks for the beginning or the end of one partition, until its leader says it
// or ctx ends: to end the claim would end the session, and all other claims with it.
func (c *consumer) offsetOf(ctx context.Context, p partition, which int64) (int64, error) {
	for reported := false; ; reported = true {
		offsets, failed := c.someOffsets([]partition{p}, which)
		err := c.wrap(failed[p])
		if err == nil || isPermanent(err) {
			return offsets[p], err
		}
		if !reported {
			c.tell(&driver.PartitionError{Topic: p.topic, Partition: p.id, Offset: -1, Err: err})
		}
		_ = c.split.RefreshMetadata(p.topic) // the leader may be another
		select {
		case <-time.After(metadataBackoff):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// tellNoPosition reports that a claim starts where the configuration says, as the
// group has no position. That of a topic that was created again has been reported.
func (c *consumer) tellNoPosition(p partition, start, begin int64) {
	if c.incarnations.reborn(p.topic) {
		return
	}
	err := &driver.NoPositionError{Topic: p.topic, Partition: p.id, Start: start, Begin: begin}
	c.tell(&driver.Error{Code: err.ErrorType(), Err: err})
}

// pin makes the start of a claim of s durable, however often that must be tried.
// An attempt that has waited for the coordinator until s was over must not be
// made in the name of the session after it: the partition may be another's.
func (c *consumer) pin(s *session, p partition, offset int64) error {
	ctx := s.sess.Context()
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		var by member
		err := c.commitPositions(ctx, s.eras, func() (member, error) {
			by, _ = c.membership.member()
			if by.session != s || ctx.Err() != nil {
				return member{}, driver.ErrClaimEnded
			}
			return by, nil
		}, map[partition]int64{p: offset})
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if err = c.wrap(err); !c.worthRetrying(by, err) {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
}
