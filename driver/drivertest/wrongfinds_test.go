package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// finding returns a group that changes what FindOffsets has found.
func finding(change func(g *groupOutside, t time.Time, all []driver.FoundOffsets) []driver.FoundOffsets) func(*groupOutside) {
	return func(g *groupOutside) {
		g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
			all, err := g.rightFind(ctx, of, t)
			if err != nil {
				return nil, err
			}
			return change(g, t, all), nil
		}
	}
}

// asking returns a group that asks FindOffsets for another time.
func asking(change func(t time.Time) time.Time) func(*groupOutside) {
	return func(g *groupOutside) {
		g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
			return g.rightFind(ctx, of, change(t))
		}
	}
}

// wrongFinds break rules of how offsets are looked up.
func wrongFinds() []wrong {
	found := []string{"FindOffsets", "FindOffsetsByTime", "FindOffsetsOfOpenTransactions", "FindOffsetsAsksForTheEndsFirst", "FindOffsetsBesideAMissingTopic"}
	return []wrong{
		{name: "finds offsets of all partitions", fails: "FindOffsets", also: found, group: func(g *groupOutside) {
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				every := map[string][]int32{}
				for topic := range of {
					every[topic] = nil
				}
				return g.rightFind(ctx, every, t)
			}
		}},
		{name: "finds no offsets for an empty list", fails: "FindOffsets", also: found, group: func(g *groupOutside) {
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				some := map[string][]int32{}
				for topic, numbers := range of {
					if len(numbers) > 0 {
						some[topic] = numbers
					}
				}
				return g.rightFind(ctx, some, t)
			}
		}},
		{name: "finds offsets in another order", fails: "FindOffsets", also: found, group: finding(func(_ *groupOutside, _ time.Time, all []driver.FoundOffsets) []driver.FoundOffsets {
			slices.Reverse(all)
			return all
		})},
		{name: "finds offsets once", fails: "FindOffsets", also: found, group: func(g *groupOutside) {
			var mu sync.Mutex
			known := map[string]map[int32]driver.FoundOffsets{}
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				all, err := g.rightFind(ctx, of, t)
				mu.Lock()
				defer mu.Unlock()
				for i, p := range all {
					if known[p.Topic] == nil {
						known[p.Topic] = map[int32]driver.FoundOffsets{}
					}
					if before, ok := known[p.Topic][p.Partition]; ok {
						all[i] = before
					}
					known[p.Topic][p.Partition] = all[i]
				}
				return all, err
			}
		}},
		{name: "rounds a time down", fails: "FindOffsetsByTime", group: asking(func(t time.Time) time.Time { return t.Truncate(time.Millisecond) })},
		{name: "takes the past for the end", fails: "FindOffsetsByTime", group: finding(func(_ *groupOutside, t time.Time, all []driver.FoundOffsets) []driver.FoundOffsets {
			for i := range all {
				if t.Unix() < 0 {
					all[i].At = all[i].End
				}
			}
			return all
		})},
		{name: "passes the -1 of a broker on", fails: "FindOffsetsByTime", also: found, group: finding(func(_ *groupOutside, _ time.Time, all []driver.FoundOffsets) []driver.FoundOffsets {
			for i := range all {
				if all[i].At == all[i].End {
					all[i].At = -1
				}
			}
			return all
		})},
		{name: "finds the last stable offset", fails: "FindOffsetsOfOpenTransactions", group: finding(func(g *groupOutside, _ time.Time, all []driver.FoundOffsets) []driver.FoundOffsets {
			for i := range all {
				if records, err := g.h.broker.Records(all[i].Topic, all[i].Partition, g.cfg.IsolationLevel); err == nil && len(records) > 0 {
					all[i].End = records[len(records)-1].Offset + 1
				}
			}
			return all
		})},
		{name: "asks for the time first", fails: "FindOffsetsAsksForTheEndsFirst", group: func(g *groupOutside) {
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				early, err := g.rightFind(ctx, of, t)
				if err != nil {
					return nil, err
				}
				time.Sleep(5 * time.Millisecond)
				all, err := g.rightFind(ctx, of, t)
				for i := range all {
					if i < len(early) && early[i].At < early[i].End {
						all[i].At = early[i].At
					} else if all[i].Err == nil {
						all[i].At = all[i].End
					}
				}
				return all, err
			}
		}},
		{name: "finds nothing beside a missing topic", fails: "FindOffsetsBesideAMissingTopic", group: func(g *groupOutside) {
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				all, err := g.rightFind(ctx, of, t)
				for _, p := range all {
					err = errors.Join(err, p.Err)
				}
				return all, err
			}
		}},
		{name: "finds offsets of a partition that does not exist", fails: "FindOffsetsBesideAMissingTopic", group: finding(func(_ *groupOutside, _ time.Time, all []driver.FoundOffsets) []driver.FoundOffsets {
			for i := range all {
				if all[i].Err != nil && all[i].Partition >= 0 {
					all[i] = driver.FoundOffsets{Topic: all[i].Topic, Partition: all[i].Partition}
				}
			}
			return all
		})},
		{name: "finds offsets after Close", fails: "GroupInTime", also: []string{"GroupClose"}, group: func(g *groupOutside) {
			g.find = func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
				all, err := g.rightFind(ctx, of, t)
				if errors.Is(err, driver.ErrClosed) {
					return nil, nil
				}
				return all, err
			}
		}},
	}
}
