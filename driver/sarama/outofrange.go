package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// An astray position was found not to be in the log.
type astray struct {
	err error                 // how it was found
	gap *driver.DataLossError // once it has been tried to pass it
}

// stray notes that the group's position in a partition is no longer in the log.
//
// What is to happen then happens between two sessions. Within one it could not
// be told what the claim still commits: the new position would be committed, and
// then what was handled before the gap, below it. Between two, all claims have
// ended, and the group counts on this member until it joins anew.
func (c *consumer) stray(p partition, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.astray[p]; !ok { // it may have the gap of an earlier attempt
		c.astray[p] = astray{err: err}
	}
}

// outOfRange says which position is not in which log, if the cluster tells.
func (c *consumer) outOfRange(p partition, err error) error {
	ctx, cancel := context.WithTimeout(c.hard, surveyTimeout)
	defer cancel()
	all, failed := c.committedOffsets(ctx, []partition{p})
	at, ok := all.found[p]
	if failed != nil || !ok {
		return err
	}
	begins, beginErr := c.logOffsets([]partition{p}, ibm.OffsetOldest)
	ends, endErr := c.logOffsets([]partition{p}, ibm.OffsetNewest)
	if beginErr != nil || endErr != nil {
		return err
	}
	return &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Kind: driver.ErrPermanent, Err: fmt.Errorf(
		"%s/%d: offset %d, the log holds [%d, %d): %w", driver.Printable(p.topic, 0), p.id, at, begins[p], ends[p], err)}
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
func (c *consumer) moveIntoLog(ctx context.Context, asOf eras) error {
	all, by := c.takeAstray()
	if len(all) == 0 {
		return nil
	}
	moved, gaps, inside, err := c.gaps(ctx, all)
	if err != nil {
		c.keepAstray(all)
		return err
	}
	c.tellGaps(moved)
	for _, err := range inside {
		c.tell(err)
	}
	if len(gaps) == 0 {
		return nil
	}
	to := map[partition]int64{}
	for p, a := range gaps {
		to[p] = a.gap.To
	}
	err = c.commitPositions(ctx, asOf, func() (member, error) { return by, nil }, to)
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

func (c *consumer) takeAstray() (map[partition]astray, member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := maps.Clone(c.astray)
	clear(c.astray)
	return all, c.membership.last()
}

func (c *consumer) keepAstray(some map[partition]astray) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.astray, some)
}

func (c *consumer) tellGaps(some map[partition]astray) {
	for _, a := range some {
		c.tell(&driver.Error{Code: a.gap.ErrorType(), Err: a.gap})
	}
}

// gaps returns which partitions an earlier attempt has moved, and from where to
// where others are to be moved. What is in the log after all is left out, and why
// it was thought not to be is returned: somebody else has seen to it, or a replica
// that is behind has been asked. That comes again, so it must not go unheard.
func (c *consumer) gaps(ctx context.Context, all map[partition]astray) (moved, gaps map[partition]astray, inside []error, err error) {
	partitions := slices.Collect(maps.Keys(all))
	at, err := c.committedOffsets(ctx, partitions)
	if err != nil {
		return nil, nil, nil, err
	}
	begins, failed := c.someOffsets(partitions, ibm.OffsetOldest)
	ends, more := c.someOffsets(slices.Collect(maps.Keys(begins)), ibm.OffsetNewest)
	maps.Copy(failed, more)
	maps.Copy(failed, at.failed)
	for p, a := range all {
		if failed[p] != nil { // it waits, for its leader mostly, and no other waits with it
			c.keepAstray(map[partition]astray{p: a})
			delete(all, p)
		}
	}
	if len(all) == 0 {
		return nil, nil, nil, fmt.Errorf("ends of partitions that are out of range: %w", errors.Join(slices.Collect(maps.Values(failed))...))
	}
	moved, gaps = map[partition]astray{}, map[partition]astray{}
	for p, a := range all {
		from, ok := at.found[p]
		switch {
		case ok && a.gap != nil && from == a.gap.To:
			moved[p] = a
		case ok && (from < begins[p] || from > ends[p]):
			a.gap = &driver.DataLossError{
				Topic: p.topic, Partition: p.id, From: from, To: begins[p], Begin: begins[p], End: ends[p],
			}
			if c.cfg.OutOfRange == driver.OutOfRangeNewest {
				a.gap.To = ends[p]
			}
			gaps[p] = a
		default:
			inside = append(inside, a.err)
		}
	}
	return moved, gaps, inside, nil
}
