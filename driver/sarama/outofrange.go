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
	if _, ok := c.astray[p]; !ok { // it may have the gap of an earlier attempt
		c.astray[p] = nil
	}
}

// moveIntoLog moves the positions that have been found astray, as the
// configuration asks, and tells of each when it is durable. If the group has gone
// on without this member it moves nothing: whoever owns the partition next finds
// the same.
//
// An attempt that failed may have been applied all the same. Then the position is
// in the log, nothing is astray any more, and what was skipped would never be
// told. So the gap is kept until an attempt has come to an end, and what lies
// where an earlier attempt wanted it counts as moved by that one.
func (c *consumer) moveIntoLog(ctx context.Context) error {
	astray, by := c.takeAstray()
	if len(astray) == 0 {
		return nil
	}
	moved, gaps, err := c.gaps(ctx, astray)
	if err != nil {
		c.keepAstray(astray)
		return err
	}
	c.tellGaps(moved)
	if len(gaps) == 0 {
		return nil
	}
	to := map[partition]int64{}
	for p, gap := range gaps {
		to[p] = gap.To
	}
	err = c.commitPositions(ctx, func() (member, error) { return by, nil }, to)
	if err != nil {
		c.keepAstray(gaps)
		if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress) {
			return nil
		}
		return err
	}
	c.tellGaps(gaps)
	return nil
}

func (c *consumer) takeAstray() (map[partition]*driver.DataLossError, member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	astray := maps.Clone(c.astray)
	clear(c.astray)
	return astray, c.last
}

func (c *consumer) keepAstray(gaps map[partition]*driver.DataLossError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.astray, gaps)
}

func (c *consumer) tellGaps(gaps map[partition]*driver.DataLossError) {
	for _, gap := range gaps {
		c.tell(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
}

// gaps returns which partitions an earlier attempt has moved, and from where to
// where the others are to be moved. What is in the log after all is left out:
// somebody else has seen to it.
func (c *consumer) gaps(ctx context.Context, astray map[partition]*driver.DataLossError) (moved, gaps map[partition]*driver.DataLossError, err error) {
	partitions := slices.Collect(maps.Keys(astray))
	found, err := c.committedOffsets(ctx, partitions)
	if err != nil {
		return nil, nil, err
	}
	begins, err := c.logOffsets(partitions, ibm.OffsetOldest)
	if err != nil {
		return nil, nil, err
	}
	ends, err := c.logOffsets(partitions, ibm.OffsetNewest)
	if err != nil {
		return nil, nil, err
	}
	moved, gaps = map[partition]*driver.DataLossError{}, map[partition]*driver.DataLossError{}
	for p, tried := range astray {
		from, ok := found[p]
		switch {
		case !ok:
		case tried != nil && from == tried.To:
			moved[p] = tried
		case from < begins[p] || from > ends[p]:
			gaps[p] = &driver.DataLossError{Topic: p.topic, Partition: p.id, From: from, To: begins[p]}
			if c.cfg.OutOfRange == driver.OutOfRangeNewest {
				gaps[p].To = ends[p]
			}
		}
	}
	return moved, gaps, nil
}
