package groupview

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

var _ driver.OffsetFinder = (*View)(nil)

// FindOffsets implements driver.OffsetFinder.
func (v *View) FindOffsets(ctx context.Context, of map[string][]int32, t time.Time) (all []driver.FoundOffsets, err error) {
	err = v.call(ctx, func(ctx context.Context) (err error) {
		all, err = v.find(ctx, of, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (v *View) find(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
	var topics map[string]Topic
	err := v.retry(ctx, func() (err error) {
		topics, err = v.wire.Survey(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []driver.FoundOffsets
	var there []position.Partition
	for _, name := range v.topics {
		numbers, asked := of[name]
		if !asked {
			continue
		}
		topic := examine(topics, name)
		if topic.Err != nil {
			all = append(all, driver.FoundOffsets{Topic: name, Partition: -1, Begin: -1, End: -1, At: -1, Err: v.wire.Wrap(topic.Err)})
			continue
		}
		if len(numbers) == 0 {
			numbers = topic.Partitions
		}
		for _, id := range sorted(numbers) {
			f := driver.FoundOffsets{Topic: name, Partition: id, Begin: -1, End: -1, At: -1}
			if slices.Contains(topic.Partitions, id) {
				there = append(there, position.Partition{Topic: name, ID: id})
			} else {
				f.Err = errNoPartition(id, len(topic.Partitions))
			}
			all = append(all, f)
		}
	}
	v.lookUp(ctx, there, t, all)
	return all, nil
}

func sorted(numbers []int32) []int32 { return slices.Compact(slices.Sorted(slices.Values(numbers))) }

func errNoPartition(id int32, of int) error {
	return &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION", Err: fmt.Errorf("partition %d of %d", id, of)}
}

// lookUp asks for the offsets of partitions, and enters them in all. The ends come before the
// time: see driver.OffsetFinder.
func (v *View) lookUp(ctx context.Context, ps []position.Partition, t time.Time, all []driver.FoundOffsets) {
	if len(ps) == 0 {
		return
	}
	logs := v.wire.Logs(ctx, ps)
	from := millis(t)
	at, failed := logs.Begin, map[position.Partition]error(nil)
	if from >= 0 {
		at, failed = v.wire.Find(ctx, slices.DeleteFunc(slices.Clone(ps), func(p position.Partition) bool { return logs.Failed[p] != nil }), from)
	}
	for i, f := range all {
		p := position.Partition{Topic: f.Topic, ID: f.Partition}
		if f.Err != nil {
			continue
		}
		f.Begin, f.End, f.At = known(logs.Begin, p), known(logs.End, p), known(at, p)
		why := logs.Failed[p]
		if why == nil {
			why = failed[p]
		}
		switch f.Err = v.wire.Wrap(why); {
		case f.Err != nil:
			f.At = -1
		case f.At < 0:
			f.At = f.End
		default:
			f.At = max(f.At, f.Begin) // a leader may be another by now, with more of an old log
		}
		all[i] = f
	}
}

// millis returns t in milliseconds, as brokers compare times, rounded up.
func millis(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return -1
	case t.After(time.UnixMilli(math.MaxInt64)):
		return math.MaxInt64
	}
	from := t.UnixMilli()
	if time.UnixMilli(from).Before(t) {
		from++
	}
	return from
}

// known returns the offset of p, or -1.
func known(offsets map[position.Partition]int64, p position.Partition) int64 {
	if offset, ok := offsets[p]; ok {
		return offset
	}
	return -1
}
