package sarama

import (
	"context"
	"maps"
	"slices"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// stray notes that the group's position in a partition is no longer in the log.
//
// What is to happen then happens between two sessions. Within one it could not
// be told what the claim still commits: the new position would be committed, and
// then what was handled before the gap, below it. Between two, all claims have
// ended, and the group counts on this member until it joins anew.
func (c *consumer) stray(p partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.astray[p] = true
}

// moveIntoLog moves the positions that have been found astray, as the
// configuration asks, and tells of each when it is durable. If the group has gone
// on without this member it does nothing: whoever owns the partition next finds
// the same.
func (c *consumer) moveIntoLog(ctx context.Context) error {
	partitions, by := c.takeAstray()
	if len(partitions) == 0 {
		return nil
	}
	gaps, err := c.gaps(ctx, partitions)
	if err != nil || len(gaps) == 0 {
		return err
	}
	to := map[partition]int64{}
	for p, gap := range gaps {
		to[p] = gap.To
	}
	err = c.commitPositions(ctx, func() (member, error) { return by, nil }, to)
	if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, gap := range gaps {
		c.tell(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
	return nil
}

func (c *consumer) takeAstray() ([]partition, member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	partitions := slices.Collect(maps.Keys(c.astray))
	clear(c.astray)
	return partitions, c.last
}

// gaps returns from where to where positions are to be moved. What is in the log
// after all is left out: somebody else has seen to it.
func (c *consumer) gaps(ctx context.Context, partitions []partition) (map[partition]*driver.DataLossError, error) {
	found, err := c.committedOffsets(ctx, partitions)
	if err != nil {
		return nil, err
	}
	begins, err := c.logOffsets(partitions, ibm.OffsetOldest)
	if err != nil {
		return nil, err
	}
	ends, err := c.logOffsets(partitions, ibm.OffsetNewest)
	if err != nil {
		return nil, err
	}
	gaps := map[partition]*driver.DataLossError{}
	for _, p := range partitions {
		from, ok := found[p]
		if !ok || begins[p] <= from && from <= ends[p] {
			continue
		}
		gap := &driver.DataLossError{Topic: p.topic, Partition: p.id, From: from, To: begins[p]}
		if c.cfg.OutOfRange == driver.OutOfRangeNewest {
			gap.To = ends[p]
		}
		gaps[p] = gap
	}
	return gaps, nil
}
