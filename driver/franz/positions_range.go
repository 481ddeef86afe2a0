package franz

import (
	"context"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A stray is a position that is not in the log, or that a cut of the log has overtaken.
type stray struct {
	err    error                 // how it was found
	parted int64                 // where the log was cut back, or -1
	gap    *driver.DataLossError // once an attempt has been made to pass it
}

// outOfRange adds to err which position is not in which log, if the cluster answers.
func (o *positions) outOfRange(ctx context.Context, p partition, err error) error {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	kind := &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Kind: driver.ErrPermanent, Err: err}
	at, begin, end, failed := o.look(ctx, p)
	if failed != nil || at < 0 {
		return kind
	}
	kind.Err = fmt.Errorf("%s/%d: offset %d, the log holds [%d, %d): %w", driver.Printable(p.Topic, 0), p.ID, at, begin, end, err)
	return kind
}

// look returns the group's position in p, or -1, and where the log begins and ends.
func (o *positions) look(ctx context.Context, p partition) (at, begin, end int64, err error) {
	all, err := o.coordinator.committed(ctx, []partition{p})
	if err == nil {
		err = all.Failed[p]
	}
	if err != nil {
		return 0, 0, 0, err
	}
	begins, err := o.leaders.all(ctx, []partition{p}, logBegin)
	if err != nil {
		return 0, 0, 0, err
	}
	ends, err := o.leaders.all(ctx, []partition{p}, logEnd)
	if err != nil {
		return 0, 0, 0, err
	}
	at, ok := all.At[p]
	if !ok {
		at = -1
	}
	return at, begins[p], ends[p], nil
}

// moveIntoLog moves the group's position in p, as the configuration asks, and reports the
// gap when the new position is durable. It returns where the next claim starts, or
// startUnknown if the group has no position.
//
// An attempt that failed may have been applied all the same. Then the position is in the
// log, and the gap would never be reported. So the stray keeps the gap until an attempt has
// come to an end, and a position where an earlier attempt wanted it counts as moved by that
// attempt.
func (o *positions) moveIntoLog(ctx context.Context, s *session, by member, p partition, st *stray) (int64, error) {
	at, begin, end, err := o.look(ctx, p)
	if err != nil {
		return 0, err
	}
	verdict, gap := position.Judge(p, at, at >= 0, begin, end, o.cfg.OutOfRange, st.gap)
	if verdict == position.Inside && at > st.parted && st.parted >= 0 {
		verdict, gap = position.Move, position.Parted(p, at, st.parted, begin, end, o.cfg.OutOfRange)
	}
	switch verdict {
	case position.Inside:
		o.core.report(wrap(st.err)) // it happens again, so it must be reported
		return at, nil
	case position.Move:
		st.gap = gap
		refused, err := o.pin(ctx, s, by, map[partition]int64{p: gap.To})
		if err == nil {
			err = refused[p]
		}
		if err != nil {
			return 0, err
		}
	}
	o.core.report(&driver.Error{Code: gap.ErrorType(), Err: gap})
	return gap.To, nil
}
