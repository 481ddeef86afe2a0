package sarama

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// An astray position was found not to be in the log.
type astray struct {
	err error                 // how it was found
	gap *driver.DataLossError // once an attempt has been made to pass it
}

// stray notes that the group's position in a partition is no longer in the log.
//
// It is moved between two sessions. Within one, the driver could not know what the claim
// still commits: the new position would be committed, and then the records that were
// handled before the gap, below it. Between two sessions all claims have ended, and the
// group counts on this member until it joins again.
func (o *positions) stray(p partition, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.astray[p]; !ok { // it may have the gap of an earlier attempt
		o.astray[p] = astray{err: err}
	}
}

// judgeTimeout bounds how long a claim waits while its position is compared with the log.
const judgeTimeout = 5 * time.Second

// outside returns the error of a position that is certainly not in the log, or nil if it is in
// the log, or if the cluster does not answer in time: that passes by itself. A broker that has
// just started refuses the position before it knows the group, so outside asks again.
func (o *positions) outside(ctx context.Context, p partition, err error) error {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		if outside, ok := o.compare(ctx, p, err); ok {
			return outside
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil
		}
	}
}

// compare compares the group's position in p with the log. It returns the error of one that is
// outside. A group without a position has nothing that could be compared, so err, which shows
// how that was found, counts. Ok is false if the cluster does not answer.
func (o *positions) compare(ctx context.Context, p partition, err error) (outside error, ok bool) {
	_ = o.leaders.within(ctx, func() { _ = o.refresh(p.Topic) }) // its leader may be another; an error shows below
	all, failed := o.coordinator.committed(ctx, []partition{p})
	if failed != nil || all.Failed[p] != nil {
		return nil, false
	}
	at, ok := all.At[p]
	if !ok {
		return err, true
	}
	begins, beginErr := o.leaders.all(ctx, []partition{p}, ibm.OffsetOldest)
	ends, endErr := o.leaders.all(ctx, []partition{p}, ibm.OffsetNewest)
	if beginErr != nil || endErr != nil {
		return nil, false
	}
	verdict, gap := position.Judge(p, at, true, begins[p], ends[p], o.cfg.OutOfRange, nil)
	if verdict == position.Inside {
		return nil, true
	}
	return outOfRange(p, gap, err), true
}

// outOfRange is the error of a position that is not in the log.
func outOfRange(p partition, gap *driver.DataLossError, err error) error {
	return &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Kind: driver.ErrPermanent, Err: fmt.Errorf(
		"%s/%d: offset %d, the log holds [%d, %d): %w", driver.Printable(p.Topic, 0), p.ID, gap.From, gap.Begin, gap.End, err)}
}

// moveIntoLog moves the positions that were found astray, as the configuration asks, and
// reports each when it is durable. If the group has gone on without this member it moves
// nothing: the next owner of the partition finds the same.
//
// An attempt that failed may have been applied all the same. Then the position is in the
// log, nothing is astray any longer, and the gap would never be reported. So the gap is
// kept until an attempt has come to an end, and a position where an earlier attempt wanted
// it counts as moved by that attempt.
//
// A position whose log does not answer waits, and no other waits with it: its claim finds
// the same. One of a topic that is not among topics waits for the topic. MoveIntoLog
// returns the positions that the coordinator has refused permanently. Any other failure of
// an attempt is an error, since that attempt may have been applied. With OutOfRangeStop it
// moves nothing: a position that is to be moved is a permanent error.
func (o *positions) moveIntoLog(ctx context.Context, asOf incarnation.Eras, topics []string) (refused map[partition]error, err error) {
	all, by := o.takeAstray(topics), o.membership.last()
	if len(all) == 0 {
		return nil, nil
	}
	moved, gaps, inside, err := o.gaps(ctx, all)
	if err != nil {
		o.keepAstray(all)
		return nil, err
	}
	o.reportGaps(moved)
	for _, err := range inside {
		o.core.Report(err)
	}
	if len(gaps) == 0 {
		return nil, nil
	}
	if o.cfg.OutOfRange == driver.OutOfRangeStop {
		for p, a := range gaps {
			return nil, outOfRange(p, a.gap, a.err)
		}
	}
	to := map[partition]int64{}
	for p, a := range gaps {
		to[p] = a.gap.To
	}
	failed, err := o.committer.start(ctx, asOf, func() (member, error) { return by, nil }, to)
	if err != nil {
		o.keepAstray(gaps)
		if otherMembers(err) {
			return nil, nil
		}
		return nil, err
	}
	o.leaveAstray(gaps, failed)
	o.reportGaps(gaps)
	return o.refusals(failed)
}

// takeAstray takes the positions in topics.
func (o *positions) takeAstray(topics []string) map[partition]astray {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := map[partition]astray{}
	for p, a := range o.astray {
		if slices.Contains(topics, p.Topic) {
			taken[p] = a
			delete(o.astray, p)
		}
	}
	return taken
}

// leaveAstray takes the partitions that have failed out of all, for a later attempt.
func (o *positions) leaveAstray(all map[partition]astray, failed map[partition]error) {
	for p, a := range all {
		if failed[p] != nil {
			o.keepAstray(map[partition]astray{p: a})
			delete(all, p)
		}
	}
}

func (o *positions) keepAstray(some map[partition]astray) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(o.astray, some)
}

// settleAstray drops the positions that marks have moved.
func (o *positions) settleAstray(marks []driver.Mark) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		delete(o.astray, partition{Topic: m.Claim.Topic, ID: m.Claim.Partition})
	}
}

// forgetAstray drops the positions in topics that were created again.
func (o *positions) forgetAstray(topics map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.astray, func(p partition, _ astray) bool { return topics[p.Topic] })
}

func (o *positions) reportGaps(some map[partition]astray) {
	for _, a := range some {
		o.core.Report(&driver.Error{Code: a.gap.ErrorType(), Err: a.gap})
	}
}

// gaps returns which positions an earlier attempt has moved, and which are to be moved. It
// leaves out a position that is in the log after all, and returns why it was thought to be
// outside: that happens again, so it must be reported.
func (o *positions) gaps(ctx context.Context, all map[partition]astray) (moved, gaps map[partition]astray, inside []error, err error) {
	partitions := slices.Collect(maps.Keys(all))
	_ = o.refresh(topicsOf(partitions)...) // their leaders may be others; an error shows below
	at, err := o.coordinator.committed(ctx, partitions)
	if err != nil {
		return nil, nil, nil, err
	}
	begins, failed := o.leaders.some(partitions, ibm.OffsetOldest)
	ends, more := o.leaders.some(slices.Collect(maps.Keys(begins)), ibm.OffsetNewest)
	maps.Copy(failed, more)
	for p, a := range all {
		from, ok := at.At[p]
		switch why := at.Failed[p]; {
		case why != nil && a.gap != nil && !isPermanent(o.coordinator.wrap(why)): // in doubt: see moveIntoLog
			return nil, nil, nil, fmt.Errorf("position of %s/%d: %w", p.Topic, p.ID, why)
		case why != nil:
			failed[p] = why
		case ok && a.gap != nil && from == a.gap.To: // moved, whatever its leader says
			delete(failed, p)
		}
	}
	o.leaveAstray(all, failed) // mostly until they have a leader
	o.inTrouble(failed)
	moved, gaps = map[partition]astray{}, map[partition]astray{}
	for p, a := range all {
		from, ok := at.At[p]
		verdict, gap := position.Judge(p, from, ok, begins[p], ends[p], o.cfg.OutOfRange, a.gap)
		switch verdict {
		case position.Moved:
			moved[p] = a
		case position.Move:
			gaps[p] = astray{err: a.err, gap: gap}
		case position.Inside:
			inside = append(inside, a.err)
		}
	}
	return moved, gaps, inside, nil
}
