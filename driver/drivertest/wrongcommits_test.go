package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// eachCommit makes a consumer that gives f every call of Commit.
func eachCommit(f func(c *consumer, ctx context.Context, marks []driver.Mark) error) func(*consumer) {
	return func(c *consumer) {
		c.commit = func(ctx context.Context, marks []driver.Mark) error { return f(c, ctx, marks) }
	}
}

// pretend makes marks look committed from outside.
func (c *consumer) pretend(marks []driver.Mark) {
	for _, m := range marks {
		c.h.pretend(position{c.cfg.Group, m.Claim.Topic, m.Claim.Partition}, m.Offset)
	}
}

func wrongCommits() []wrong {
	return []wrong{
		{name: "commits one too far", fails: "CommitIsDurable", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			marks = slices.Clone(marks)
			for i := range marks {
				marks[i].Offset++
			}
			return c.Consumer.Commit(ctx, marks)
		}), wide: true},
		{name: "answers before it commits", fails: "CommitIsDurable", consumer: eachCommit(func(*consumer, context.Context, []driver.Mark) error {
			return nil
		}), wide: true},
		{name: "commits the first mark only", fails: "CommitIsDurable", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			return c.Consumer.Commit(ctx, marks[:min(1, len(marks))])
		}), also: []string{"CommitAnswersPerMark", "MetadataIsKept"}},
		{name: "commits backwards", fails: "CommitNeverRewinds", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			if err == nil && len(marks) == 1 && marks[0].Offset > marks[0].Claim.Start {
				c.pretend(marks)
			}
			return err
		}), also: []string{"SeekMovesPositions", "SeekDrainsFirst", "SeekTakesMetadata", "SeekWaitsForNoStuckRevoke", "OldPositionNeverCounts", "OutOfRangeOldest", "OutOfRangeNewest", "MetadataBelowThePositionIsNotSent"}},
		{name: "commits below Start", fails: "CommitBelowStartChangesNothing", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			if err == nil && len(marks) == 1 && marks[0].Offset <= marks[0].Claim.Start {
				c.pretend(marks)
			}
			return err
		}), also: []string{"MetadataBelowThePositionIsNotSent"}},
		{name: "commits for claims that have ended", fails: "CommitRefusesEndedClaims", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			if errors.Is(err, driver.ErrClaimEnded) {
				c.pretend(marks)
				return nil
			}
			return err
		}), also: []string{"SeekDrainsFirst", "CommitAnswersPerMark", "CommitRefusesWithoutAsking", "CommitRefusesTheSuperseded", "StuckRevokeEndsWithItsWindow", "OldPositionNeverCounts"}},
		{name: "commits for a member that is thrown out", fails: "CommitRefusesTheSuperseded", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			// The consumer may have noticed by itself that its session is over.
			if err != nil && c.h.expired.Load() {
				c.pretend(marks)
				return nil
			}
			return err
		})},
		{name: "fails all marks for one", fails: "CommitAnswersPerMark", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			var ce *driver.CommitError
			if !errors.As(err, &ce) {
				return err
			}
			all := new(driver.CommitError)
			for _, m := range marks {
				all.Failed = append(all.Failed, driver.MarkError{Mark: m, Err: ce.Failed[0].Err})
			}
			return all
		})},
		{name: "answers Commit with a plain error", fails: "CommitAnswersPerMark", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			var ce *driver.CommitError
			if errors.As(err, &ce) {
				return ce.Failed[0].Err
			}
			return err
		})},
		{name: "asks the broker about claims that have ended", fails: "CommitRefusesWithoutAsking", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			err := c.Consumer.Commit(ctx, marks)
			if errors.Is(err, driver.ErrClaimEnded) && c.h.cut.Load() {
				<-c.h.released
			}
			return err
		})},
		{name: "refuses to commit while it revokes", fails: "CommitInsideRevoke", consumer: refuseWhileRevoking,
			also: []string{"OneOwnerAtATime", "OneOwnerAtATimeCooperative", "OutOfRangeCommitsFirst", "SeekDrainsFirst"}},
		{name: "commits behind the fetch", fails: "CommitWaitsForNoFetch", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			time.Sleep(500 * time.Millisecond)
			return c.Consumer.Commit(ctx, marks)
		}), also: []string{"NothingOfAnEarlierClaim", "SameMetadataIsNotSent", "CommitHonoursItsContext", "CommitOutlivesARebalance", "CommitInsideRevoke", "OneOwnerAtATime", "OneOwnerAtATimeCooperative", "OutOfRangeCommitsFirst", "SeekDrainsFirst"}},
		{name: "commits when the join is over", fails: "CommitWaitsForNoJoin", consumer: commitAfterJoin, also: []string{
			"CommitInsideRevoke", "CommitOutlivesARebalance", "OneOwnerAtATime", "OneOwnerAtATimeCooperative", "CooperativeKeepsWhatStays"}},
		{name: "commits forever", fails: "CommitHonoursItsContext", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			return c.Consumer.Commit(context.WithoutCancel(ctx), marks)
		})},
		{name: "gives a commit up at once", fails: "CommitRetries", consumer: giveUpWithoutBroker, also: []string{"CommitHonoursItsContext"}},
		{name: "gives a commit up in a rebalance", fails: "CommitOutlivesARebalance", consumer: giveUpInARebalance,
			also: []string{"CommitWaitsForNoJoin", "OneOwnerAtATimeCooperative", "CooperativeKeepsWhatStays"}},
		{name: "loses metadata", fails: "MetadataIsKept", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			return c.Consumer.Commit(ctx, bare(marks))
		}), also: []string{
			"MetadataOutlivesAKilledMember", "MetadataAtThePositionIsSent", "SameMetadataIsNotSent", "MetadataBelowThePositionIsNotSent", "TooLargeMetadataIsLeftOut"}},
		{name: "commits metadata at the end of a claim", fails: "MetadataOutlivesAKilledMember", consumer: metadataAtTheEnd,
			also: []string{"MetadataIsKept", "MetadataAtThePositionIsSent", "SameMetadataIsNotSent", "MetadataBelowThePositionIsNotSent", "TooLargeMetadataIsLeftOut"}},
		{name: "passes marks at the position over", fails: "MetadataAtThePositionIsSent", consumer: eachMark(func(c *consumer, m *driver.Mark, at int64) bool {
			return m.Offset > at
		}), also: []string{"MetadataOutlivesAKilledMember", "SameMetadataIsNotSent"}},
		{name: "moves marks below the position up", fails: "MetadataBelowThePositionIsNotSent", consumer: eachMark(func(c *consumer, m *driver.Mark, at int64) bool {
			m.Offset = max(m.Offset, at)
			return true
		})},
		{name: "sends metadata that the broker has", fails: "SameMetadataIsNotSent", consumer: eachMark(func(c *consumer, m *driver.Mark, at int64) bool {
			if m.Offset == at && c.h.cut.Load() {
				<-c.h.released
			}
			return true
		}), also: []string{"CommitHonoursItsContext", "CommitRetries"}},
		{name: "passes on no metadata of other programs", fails: "ForeignMetadataIsPassed", consumer: eachHandler(func(h *handler) {
			h.assign = func(claims []*driver.Claim) {
				for _, c := range claims {
					if !strings.HasPrefix(c.Metadata, "mark ") {
						c.Metadata = ""
					}
				}
				h.Handler.Assign(claims)
			}
		})},
		{name: "does not ask for the end of the log", fails: "EndIsKnownBesideMetadata", consumer: eachHandler(func(h *handler) {
			h.assign = func(claims []*driver.Claim) {
				for _, c := range claims {
					c.End = -1
				}
				h.Handler.Assign(claims)
			}
		})},
		{name: "refuses metadata that is too large", fails: "TooLargeMetadataIsLeftOut", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			if slices.ContainsFunc(marks, tooLarge) {
				return refuse(marks, &driver.Error{Code: "OFFSET_METADATA_TOO_LARGE"})
			}
			return c.Consumer.Commit(ctx, marks)
		})},
		{name: "leaves metadata out that is too large, and no other", fails: "TooLargeMetadataIsLeftOut", consumer: eachCommit(func(c *consumer, ctx context.Context, marks []driver.Mark) error {
			if slices.ContainsFunc(marks, tooLarge) {
				marks = bare(marks)
			}
			return c.Consumer.Commit(ctx, marks)
		})},
		{name: "lets a commit that it gave up come late", fails: "CommitIsNotOvertaken", consumer: commitLate},
	}
}

// bare returns marks without their metadata.
func bare(marks []driver.Mark) []driver.Mark {
	marks = slices.Clone(marks)
	for i := range marks {
		marks[i].Metadata = ""
	}
	return marks
}

func tooLarge(m driver.Mark) bool { return len(m.Metadata) > 4096 }

// eachMark makes a consumer that sends the marks that f returns true for, after f may
// have changed them. The claim has committed up to at.
func eachMark(f func(c *consumer, m *driver.Mark, at int64) bool) func(*consumer) {
	return func(c *consumer) {
		var mu sync.Mutex
		committed := make(map[*driver.Claim]int64)
		c.commit = func(ctx context.Context, marks []driver.Mark) error {
			var sent []driver.Mark
			for _, m := range marks {
				mu.Lock()
				at := max(m.Claim.Start, committed[m.Claim])
				mu.Unlock()
				if f(c, &m, at) {
					sent = append(sent, m)
				}
			}
			err := c.Consumer.Commit(ctx, sent)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range sent {
					committed[m.Claim] = max(committed[m.Claim], m.Offset)
				}
			}
			return err
		}
	}
}

// metadataAtTheEnd commits the metadata of the last mark of each claim when the claim is
// revoked.
func metadataAtTheEnd(c *consumer) {
	var mu sync.Mutex
	last := make(map[*driver.Claim]driver.Mark)
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		mu.Lock()
		for _, m := range marks {
			last[m.Claim] = m
		}
		mu.Unlock()
		return c.Consumer.Commit(ctx, bare(marks))
	}
	c.handler = func(h *handler) {
		h.revoke = func(ctx context.Context, claims []*driver.Claim) {
			h.Handler.Revoke(ctx, claims)
			var marks []driver.Mark
			mu.Lock()
			for _, claim := range claims {
				if m, ok := last[claim]; ok {
					marks = append(marks, m)
				}
			}
			mu.Unlock()
			_ = c.Consumer.Commit(ctx, marks)
		}
	}
}

// refuse fails all marks with err.
func refuse(marks []driver.Mark, err error) error {
	ce := new(driver.CommitError)
	for _, m := range marks {
		ce.Failed = append(ce.Failed, driver.MarkError{Mark: m, Err: err})
	}
	return ce
}

func refuseWhileRevoking(c *consumer) {
	var revoking sync.Map
	c.handler = func(h *handler) {
		h.revoke = func(ctx context.Context, claims []*driver.Claim) {
			for _, claim := range claims {
				revoking.Store(claim, true)
			}
			h.Handler.Revoke(ctx, claims)
			for _, claim := range claims {
				revoking.Delete(claim)
			}
		}
	}
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		for _, m := range marks {
			if _, ok := revoking.Load(m.Claim); ok {
				return refuse(marks, driver.ErrClaimEnded)
			}
		}
		return c.Consumer.Commit(ctx, marks)
	}
}

// commitAfterJoin takes a member without an assignment for one whose join is
// pending.
func commitAfterJoin(c *consumer) {
	pending := func() bool {
		return slices.ContainsFunc(c.h.broker.Members(c.cfg.Group), func(m memory.Member) bool { return len(m.Assignment) == 0 })
	}
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		for pending() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		return c.Consumer.Commit(ctx, marks)
	}
}

func giveUpWithoutBroker(c *consumer) {
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		if !c.h.cut.Load() {
			return c.Consumer.Commit(ctx, marks)
		}
		soon, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		err := c.Consumer.Commit(soon, marks)
		if errors.Is(err, context.DeadlineExceeded) {
			return refuse(marks, &driver.Error{Code: "CONNECTION_FAILED"})
		}
		return err
	}
}

// giveUpInARebalance commits under the generation in which a claim was assigned,
// and takes the refusal for final.
func giveUpInARebalance(c *consumer) {
	var joins atomic.Int64
	var assigned sync.Map // *driver.Claim to the value of joins
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) {
			n := joins.Add(1)
			for _, claim := range claims {
				assigned.Store(claim, n)
			}
			h.Handler.Assign(claims)
		}
	}
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		if len(marks) == 0 {
			return nil
		}
		if n, _ := assigned.Load(marks[0].Claim); n != joins.Load() && c.Consumer.Commit(ctx, marks) == nil {
			return refuse(marks, &driver.Error{Code: "ILLEGAL_GENERATION"})
		}
		return c.Consumer.Commit(ctx, marks)
	}
}

func commitLate(c *consumer) {
	var mu sync.Mutex
	var gaveUp []driver.Mark
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		err := c.Consumer.Commit(ctx, marks)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, context.DeadlineExceeded) {
			gaveUp = marks
		} else if err == nil && gaveUp != nil {
			c.pretend(gaveUp)
		}
		return err
	}
}
