package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A stray is a position that is not in the log, or that a cut of the log has overtaken.
type stray struct {
	err    error                 // how it was found
	parted int64                 // where the log was cut back, or -1
	from   int64                 // where the claim was, if the group has no position; or -1
	gap    *driver.DataLossError // once an attempt has been made to pass it
}

// insidePause is how long the partition of a position rests that is in the log after all: the
// replica that has refused it may be behind.
const insidePause = 500 * time.Millisecond

// judgeTimeout bounds how long a claim waits while its position is compared with the log.
const judgeTimeout = 5 * time.Second

// outside returns the error of a position that is certainly not in the log. It returns nil if
// the position is in the log, or if the cluster does not answer in time: that passes by itself.
// A broker that has just started refuses the position before it knows the group, so outside
// asks again.
func (o *positions) outside(ctx context.Context, p partition, st *stray) error {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		at, begin, end, err := o.locate(ctx, p, st)
		if err == nil {
			if verdict, _ := o.judge(p, at.at, begin, end, st); verdict == position.Inside {
				return nil
			}
			return outOfRange(p, at.at, begin, end, st.err)
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil
		}
	}
}

// outOfRange is the error of a position that is not in the log.
func outOfRange(p partition, at, begin, end int64, err error) error {
	return &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Kind: driver.ErrPermanent, Err: fmt.Errorf(
		"%s/%d: offset %d, the log holds [%d, %d): %w", driver.Printable(p.Topic, 0), p.ID, at, begin, end, err)}
}

// locate returns the group's position in p, and where the log begins and ends. If the group has
// none, the position is where the claim was, or -1.
func (o *positions) locate(ctx context.Context, p partition, st *stray) (at startAt, begin, end int64, err error) {
	all, err := o.coordinator.committed(ctx, []partition{p})
	if err == nil {
		err = all.Failed[p]
	}
	if err != nil {
		return at, 0, 0, err
	}
	begins, err := o.leaders.all(ctx, []partition{p}, logBegin)
	if err != nil {
		return at, 0, 0, err
	}
	ends, err := o.leaders.all(ctx, []partition{p}, logEnd)
	if err != nil {
		return at, 0, 0, err
	}
	at = startingAt(st.from)
	if offset, ok := all.At[p]; ok {
		at.at, at.metadata, at.end = offset, all.Beside[p], ends[p]
	}
	return at, begins[p], ends[p], nil
}

// judge decides about a position, with the gap if it is not in the log.
func (o *positions) judge(p partition, at, begin, end int64, st *stray) (position.Verdict, *driver.DataLossError) {
	verdict, gap := position.Judge(p, at, at >= 0, begin, end, o.cfg.OutOfRange, st.gap)
	if verdict == position.Inside && at > st.parted && st.parted >= 0 {
		return position.Move, position.Parted(p, at, st.parted, begin, end, o.cfg.OutOfRange)
	}
	return verdict, gap
}

// moveIntoLog moves the group's position in p, as the configuration asks, and reports the
// gap when the new position is durable. It returns where the next claim starts, or
// startUnknown if there is no position. With OutOfRangeStop it returns a permanent error
// instead of moving it.
//
// An attempt that failed may have been applied all the same. Then the position is in the
// log, and the gap would never be reported. So the stray keeps the gap until an attempt has
// come to an end, and a position where an earlier attempt wanted it counts as moved by that
// attempt.
func (o *positions) moveIntoLog(ctx context.Context, s *session, by member, p partition, st *stray) (startAt, error) {
	at, begin, end, err := o.locate(ctx, p, st)
	if err != nil {
		return at, err
	}
	verdict, gap := o.judge(p, at.at, begin, end, st)
	switch {
	case verdict == position.Inside:
		o.core.Report(wrap(st.err)) // it happens again, so it must be reported
		select {
		case <-time.After(insidePause):
		case <-ctx.Done():
		}
		return at, nil
	case o.cfg.OutOfRange == driver.OutOfRangeStop:
		return at, outOfRange(p, at.at, begin, end, st.err)
	case verdict == position.Move:
		st.gap = gap
		refused, err := o.pin(ctx, s, by, map[partition]int64{p: gap.To})
		if err == nil {
			err = refused[p]
		}
		if err != nil {
			return at, err
		}
	}
	o.core.Report(&driver.Error{Code: gap.ErrorType(), Err: gap})
	return startingAt(gap.To), nil
}
