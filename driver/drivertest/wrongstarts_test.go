package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

func wrongStarts() []wrong {
	return []wrong{
		{name: "starts at the end", fails: "OldestStartsAtTheBeginning", config: func(cfg *driver.ConsumerConfig) {
			cfg.InitialOffset = driver.OffsetNewest
		}, wide: true},
		{name: "starts at the beginning", fails: "NewestStartsAtTheEnd", config: func(cfg *driver.ConsumerConfig) {
			cfg.InitialOffset = driver.OffsetOldest
		}, also: []string{"StartThatSkipsIsReported", "NewestIsPinned", "NewestLosesNothing", "NewestReadsLaterPartitionsWhole", "OldestTopicsStartAtTheBeginning"}},
		{name: "reports a wrong Start", fails: "StartIsTheCommittedOffset", consumer: eachHandler(func(h *handler) {
			h.assign = func(claims []*driver.Claim) {
				for _, c := range claims {
					c.Start = 0
				}
				h.Handler.Assign(claims)
			}
		}), also: []string{"SeekMovesPositions", "SeekDrainsFirst", "SeekTakesMetadata", "SeekRefusesEndedClaims", "SeekOfALostMember", "SeekInTime", "SeekWaitsForNoStuckRevoke", "GroupCommit",
			"NothingOfAnEarlierClaim", "StartThatSkipsIsReported", "NewestStartsAtTheEnd", "CommitInsideRevoke", "LostWhenTheSessionEnds", "OutOfRangeOldest", "OutOfRangeNewest",
			"OldestTopicsStartAtTheBeginning", "MetadataIsKept", "MetadataOutlivesAKilledMember", "ForeignMetadataIsPassed"}},
		{name: "starts all topics at the end", fails: "OldestTopicsStartAtTheBeginning", config: func(cfg *driver.ConsumerConfig) {
			cfg.OldestTopics = nil
		}},
		{name: "pins after Assign", fails: "NewestIsPinned", consumer: pinLate},
		{name: "starts at the end as it is now", fails: "NewestLosesNothing", consumer: skipAtOpen, also: []string{"OldestTopicsStartAtTheBeginning"}},
		{name: "starts at the end of a new partition", fails: "NewestReadsLaterPartitionsWhole", consumer: skipNewPartitions, also: []string{"OldestTopicsStartAtTheBeginning"}},
		{name: "moves a position that is out of range", fails: "OutOfRangeEndsRun", open: moveIntoRange,
			also: []string{"OutOfRangeOldest", "OutOfRangeNewest"}},
		{name: "takes a lost place for transient", fails: "OutOfRangeEndsRunLater", consumer: func(c *consumer) {
			eachBatch(func(*driver.Batch) { c.ran.Store(true) })(c)
			c.run = func(h driver.Handler) error {
				err := c.Consumer.Run(h)
				if c.ran.Load() {
					return transient(err, "OFFSET_OUT_OF_RANGE")
				}
				return err
			}
		}, also: []string{"TruncationEndsRun"}},
		{name: "takes a truncation for transient", fails: "TruncationEndsRun", consumer: eachRun(func(c *consumer, _ driver.Handler, err error) error {
			if c.h.shorter.Load() {
				return transient(err, "OFFSET_OUT_OF_RANGE")
			}
			return err
		})},
		{name: "reports no gap at the beginning", fails: "OutOfRangeOldest", consumer: eachHandler(func(h *handler) {
			h.error = func(err error) {
				if gap, ok := errors.AsType[*driver.DataLossError](err); ok && gap.To == 10 {
					return
				}
				h.Handler.Error(err)
			}
		})},
		{name: "continues at the beginning instead of the end", fails: "OutOfRangeNewest", config: func(cfg *driver.ConsumerConfig) {
			if cfg.OutOfRange == driver.OutOfRangeNewest {
				cfg.OutOfRange = driver.OutOfRangeOldest
			}
		}},
		{name: "loses a claim that the log has overtaken", fails: "OutOfRangeCommitsFirst", consumer: func(c *consumer) {
			if c.cfg.OutOfRange == driver.OutOfRangeOldest {
				eachHandler(func(h *handler) {
					h.revoke = func(_ context.Context, claims []*driver.Claim) {
						h.Handler.Lost(claims, &driver.Error{Code: "OFFSET_OUT_OF_RANGE"})
					}
				})(c)
			}
		}},
	}
}

// pinLate hides the pinned position until Assign has returned.
func pinLate(c *consumer) {
	at := position{c.cfg.Group, c.cfg.Topics[0], 0}
	if c.cfg.InitialOffset != driver.OffsetNewest || c.h.broker.Committed(at.group, at.topic, 0) >= 0 {
		return
	}
	c.h.pretend(at, -1)
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) {
			h.Handler.Assign(claims)
			c.h.stopPretending(at)
		}
	}
}

// skipAtOpen makes a member that starts at the newest offset skip what its topic's
// first partition holds when it opens.
func skipAtOpen(c *consumer) {
	_, end, _ := c.h.broker.Offsets(c.cfg.Topics[0], 0)
	c.skipBelow(func(p int32) int64 {
		if p > 0 {
			return 0
		}
		return end
	})
}

// skipNewPartitions makes a member that starts at the newest offset skip what any
// other partition holds when it is assigned.
func skipNewPartitions(c *consumer) {
	var (
		mu   sync.Mutex
		ends = make(map[int32]int64)
	)
	c.skipBelow(func(p int32) int64 {
		mu.Lock()
		defer mu.Unlock()
		return ends[p]
	})
	skip := c.handler
	c.handler = func(h *handler) {
		if skip != nil {
			skip(h)
		}
		h.assign = func(claims []*driver.Claim) {
			for _, claim := range claims {
				if claim.Partition > 0 {
					_, end, _ := c.h.broker.Offsets(claim.Topic, claim.Partition)
					mu.Lock()
					ends[claim.Partition] = end
					mu.Unlock()
				}
			}
			h.Handler.Assign(claims)
		}
	}
}

// skipBelow makes a member that starts at the newest offset skip the records of a
// partition below an offset.
func (c *consumer) skipBelow(offset func(partition int32) int64) {
	if c.cfg.InitialOffset != driver.OffsetNewest {
		return
	}
	c.handler = func(h *handler) {
		h.deliver = func(claim *driver.Claim, b driver.Batch) {
			below := offset(claim.Partition)
			b.Records = slices.DeleteFunc(slices.Clone(b.Records), func(r driver.Record) bool { return r.Offset < below })
			h.Handler.Deliver(claim, b)
		}
	}
}

// moveIntoRange moves what a group without members has committed to the start of
// the log.
func moveIntoRange(h *wrongHarness, cfg driver.ConsumerConfig) {
	for p := range int32(h.broker.Partitions(cfg.Topics[0])) {
		start, _, _ := h.broker.Offsets(cfg.Topics[0], p)
		committed, _ := h.Committed(context.Background(), cfg.Group, cfg.Topics[0], p)
		if committed >= 0 && committed < start {
			_ = h.broker.SetCommitted(cfg.Group, cfg.Topics[0], p, start)
		}
	}
}
