package drivertest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func wrongRevokes() []wrong {
	return []wrong{
		{name: "acknowledges before Revoke returns", fails: "OneOwnerAtATime", consumer: acknowledgeEarly(driver.RoundRobin)},
		{name: "acknowledges before Revoke returns, cooperatively", fails: "OneOwnerAtATimeCooperative", consumer: acknowledgeEarly(driver.CooperativeSticky)},
		{name: "delivers after Revoke", fails: "NothingIsDeliveredAfterTheEnd", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			h.Handler.Revoke(ctx, claims)
			for _, c := range claims {
				h.Handler.Deliver(c, driver.Batch{Next: 1 << 40})
			}
		})},
		{name: "calls Lost after Revoke", fails: "ClaimsEndOnce", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			h.Handler.Revoke(ctx, claims)
			h.Handler.Lost(claims, driver.ErrClosed)
		})},
		{name: "revokes what is lost", fails: "LostWhenTheSessionEnds", consumer: eachHandler(func(h *handler) {
			h.lost = func(claims []*driver.Claim, _ error) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				h.Handler.Revoke(ctx, claims)
			}
		}), also: []string{"TruncationEndsRun", "LostNamesItsCause", "AnotherMemberKeepsNoClaim", "RecreatedTopicIsAnother", "LostAtTheSessionDeadline", "SessionDeadlineIsHonest", "OutOfRangeEndsRun", "OutOfRangeEndsRunLater", "ClaimsEndOnce", "ErrorsHaveNames"}},
		{name: "gives back the same claim", fails: "ReturningPartitionIsANewClaim", consumer: reuseClaims},
		{name: "gives Revoke no window", fails: "RevokeHasAWindow", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			unbounded, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
			defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
			h.Handler.Revoke(unbounded, claims)
		})},
		{name: "waits for a stuck Revoke", fails: "StuckRevokeEndsWithItsWindow", config: longWindow, consumer: func(c *consumer) {
			eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
				ctx, cancel := context.WithTimeout(ctx, c.cfg.DrainTimeout)
				defer cancel()
				h.Handler.Revoke(ctx, claims)
			})(c)
		}, also: []string{"SeekWaitsForNoStuckRevoke", "StuckRevokeHoldsUpNothingElse"}},
		{name: "assigns nothing beside a stuck Revoke", fails: "StuckRevokeHoldsUpNothingElse", consumer: assignAfterRevoke, also: []string{"SeekWaitsForNoStuckRevoke"}},
		{name: "stops for a rebalance what it keeps", fails: "CooperativeKeepsWhatStays", config: func(cfg *driver.ConsumerConfig) {
			cfg.BalanceStrategies = []driver.BalanceStrategy{driver.RoundRobin}
		}, also: []string{"NoCommonStrategyWaits", "CommitWaitsForNoJoin", "CommitOutlivesARebalance", "AnotherMemberKeepsNoClaim"}},
		{name: "delivers nothing of what it keeps while another claim drains", fails: "CooperativeKeepsWhatStays", consumer: standStill, also: []string{"StuckRevokeHoldsUpNothingElse"}},
		{name: "delivers under a later claim what it has fetched", fails: "NothingOfAnEarlierClaim", consumer: deliverLate},
		{name: "makes up a cause for Lost", fails: "LostNamesItsCause", consumer: eachHandler(func(h *handler) {
			h.lost = func(claims []*driver.Claim, _ error) {
				h.Handler.Lost(claims, &driver.Error{Code: "MEMBERSHIP_LOST", Err: driver.ErrMembershipLost})
			}
		})},
		{name: "keeps claims as another member", fails: "AnotherMemberKeepsNoClaim", consumer: keepClaims},
		{name: "hides from Revoke that the claims are lost", fails: "LossCancelsRevoke", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			deadline, _ := ctx.Deadline()
			same, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(-time.Millisecond))
			defer cancel()
			h.Handler.Revoke(same, claims)
		}), also: []string{"CloseBoundsRevoke", "AnotherMemberKeepsNoClaim", "SeekOfALostMember"}},

		{name: "hangs in Close before Run", fails: "CloseBeforeRun", consumer: func(c *consumer) {
			c.run = func(h driver.Handler) error { c.ran.Store(true); return c.Consumer.Run(h) }
			c.hangInClose(func(error) bool { return !c.ran.Load() })
		}, also: []string{"OpenJoinsNothing", "ValidatorAgreesWithOpen", "RunAfterCloseReturnsAtOnce", "CloseWithoutBrokers"}},
		{name: "hangs in Close beside a stuck Revoke", fails: "CloseReturnsInTime", consumer: func(c *consumer) {
			c.hangInClose(func(err error) bool { return err != nil && !c.h.cut.Load() })
		}, also: []string{"CloseEndsSeek", "StuckRevokeHoldsUpNothingElse", "CloseBoundsRevoke", "CloseWithEndedContext", "CloseTwice"}},
		{name: "hangs in Close without brokers", fails: "CloseWithoutBrokers", consumer: func(c *consumer) {
			c.hangInClose(func(err error) bool { return c.h.cut.Load() })
		}},
		{name: "hangs in Close while it joins", fails: "CloseWhileJoinIsPending", consumer: func(c *consumer) {
			c.run = func(h driver.Handler) error { c.ran.Store(true); return c.Consumer.Run(h) }
			c.handler = func(h *handler) {
				h.assign = func(claims []*driver.Claim) { c.joined.Store(true); h.Handler.Assign(claims) }
			}
			c.hangInClose(func(error) bool { return c.ran.Load() && !c.joined.Load() })
		}, also: []string{"PauseEndsWithItsClaim", "PauseOfEndedClaimIsIgnored", "CommitWaitsForNoJoin", "LossCancelsRevoke", "ReturningPartitionIsANewClaim"}},
		{name: "loses its claims at Close", fails: "CloseDrains", consumer: whenClosing(func(h *handler, _ context.Context, claims []*driver.Claim) {
			h.Handler.Lost(claims, driver.ErrClosed)
		}), also: []string{"OneOwnerAtATime", "OneOwnerAtATimeCooperative", "CloseReturnsInTime", "CloseBoundsRevoke", "CloseTwice"}},
		{name: "gives Revoke more time than Close has", fails: "CloseBoundsRevoke", consumer: whenClosing(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			deadline, _ := ctx.Deadline()
			longer, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(5*time.Second))
			defer cancel()
			h.Handler.Revoke(longer, claims)
		})},
		{name: "forgets its claims when Close has no time", fails: "CloseWithEndedContext", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error {
				c.closing.Store(ctx.Err() != nil)
				return c.Consumer.Close(ctx)
			}
			eachHandler(func(h *handler) {
				h.lost = func(claims []*driver.Claim, cause error) {
					if !c.closing.Load() {
						h.Handler.Lost(claims, cause)
					}
				}
				h.revoke = func(ctx context.Context, claims []*driver.Claim) {
					if !c.closing.Load() {
						h.Handler.Revoke(ctx, claims)
					}
				}
			})(c)
		}, also: []string{"NewestLosesNothing", "MetadataOutlivesAKilledMember"}},
		{name: "does not leave the group", fails: "CloseLeavesTheGroup", config: func(cfg *driver.ConsumerConfig) {
			if cfg.InstanceID == "" {
				cfg.InstanceID = rand.Text()
			}
		}},
		{name: "leaves the group as a static member", fails: "CloseKeepsAStaticMember", config: func(cfg *driver.ConsumerConfig) {
			cfg.InstanceID = ""
		}, also: []string{"FencedInstanceEndsRun"}},
		{name: "answers a second Close at once", fails: "CloseTwice", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error {
				if c.closing.Swap(true) {
					return nil
				}
				return c.Consumer.Close(ctx)
			}
		}},
		{name: "fails a Close beside another", fails: "CloseConcurrently", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error {
				if c.closing.Swap(true) {
					return errors.Join(c.Consumer.Close(ctx), driver.ErrClosed)
				}
				return c.Consumer.Close(ctx)
			}
		}, also: []string{"CloseTwice"}},
		{name: "leaves a goroutine behind", fails: "CloseLeavesNothingBehind", consumer: func(c *consumer) {
			go func() { <-c.h.released }()
		}},
	}
}

func longWindow(cfg *driver.ConsumerConfig) {
	cfg.DrainTimeout *= 1000
	cfg.RebalanceTimeout = 2 * cfg.DrainTimeout
}

// hangInClose makes Close hang until the end of the case when hang says so of
// its answer.
func (c *consumer) hangInClose(hang func(err error) bool) {
	c.close = func(ctx context.Context) error {
		err := c.Consumer.Close(ctx)
		if hang(err) {
			<-c.h.released
		}
		return err
	}
}

// whenClosing replaces the Revokes that Close brings about.
func whenClosing(f func(h *handler, ctx context.Context, claims []*driver.Claim)) func(*consumer) {
	return func(c *consumer) {
		c.close = func(ctx context.Context) error {
			c.closing.Store(true)
			return c.Consumer.Close(ctx)
		}
		eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			if c.closing.Load() {
				f(h, ctx, claims)
				return
			}
			h.Handler.Revoke(ctx, claims)
		})(c)
	}
}

// acknowledgeEarly lets the group proceed 10 ms before it calls Revoke, but for
// Close.
func acknowledgeEarly(s driver.BalanceStrategy) func(*consumer) {
	return func(c *consumer) {
		var late sync.WaitGroup
		c.close = func(ctx context.Context) error {
			c.closing.Store(true)
			return c.Consumer.Close(ctx)
		}
		eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			if c.closing.Load() || !slices.Contains(c.cfg.BalanceStrategies, s) {
				h.Handler.Revoke(ctx, claims)
				return
			}
			deadline, _ := ctx.Deadline()
			late.Go(func() {
				time.Sleep(10 * time.Millisecond)
				same, cancel := context.WithDeadline(context.Background(), deadline)
				defer cancel()
				h.Handler.Revoke(same, claims)
			})
		})(c)
		c.run = func(h driver.Handler) error {
			defer late.Wait()
			return c.Consumer.Run(h)
		}
	}
}

// assignAfterRevoke holds Assign back while a Revoke runs.
func assignAfterRevoke(c *consumer) {
	var revokes atomic.Int32
	c.handler = func(h *handler) {
		h.revoke = func(ctx context.Context, claims []*driver.Claim) {
			revokes.Add(1)
			defer revokes.Add(-1)
			h.Handler.Revoke(ctx, claims)
		}
		h.assign = func(claims []*driver.Claim) {
			for revokes.Load() > 0 {
				time.Sleep(10 * time.Millisecond)
			}
			h.Handler.Assign(claims)
		}
	}
}

// reuseClaims has one permanent Claim per partition.
func reuseClaims(c *consumer) {
	var mu sync.Mutex
	first := make(map[int32]*driver.Claim)          // by partition, as the Handler knows it
	latest := make(map[*driver.Claim]*driver.Claim) // by that, as the driver below knows it
	shown := func(claims []*driver.Claim) []*driver.Claim {
		mu.Lock()
		defer mu.Unlock()
		out := slices.Clone(claims)
		for i, claim := range claims {
			if first[claim.Partition] == nil {
				first[claim.Partition] = claim
			}
			out[i] = first[claim.Partition]
			latest[out[i]] = claim
		}
		return out
	}
	below := func(claim *driver.Claim) *driver.Claim {
		mu.Lock()
		defer mu.Unlock()
		return latest[claim]
	}
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) { h.Handler.Assign(shown(claims)) }
		h.deliver = func(claim *driver.Claim, b driver.Batch) { h.Handler.Deliver(shown([]*driver.Claim{claim})[0], b) }
		h.revoke = func(ctx context.Context, claims []*driver.Claim) { h.Handler.Revoke(ctx, shown(claims)) }
		h.lost = func(claims []*driver.Claim, cause error) { h.Handler.Lost(shown(claims), cause) }
	}
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		marks = slices.Clone(marks)
		for i := range marks {
			marks[i].Claim = below(marks[i].Claim)
		}
		return c.Consumer.Commit(ctx, marks)
	}
}

// standStill delivers nothing while a Revoke runs.
func standStill(c *consumer) {
	var draining atomic.Int32
	c.handler = func(h *handler) {
		h.revoke = func(ctx context.Context, claims []*driver.Claim) {
			draining.Add(1)
			defer draining.Add(-1)
			h.Handler.Revoke(ctx, claims)
		}
		h.deliver = func(claim *driver.Claim, b driver.Batch) {
			for draining.Load() > 0 {
				time.Sleep(time.Millisecond)
			}
			h.Handler.Deliver(claim, b)
		}
	}
}

// deliverLate passes batches on a millisecond after they were fetched, under the claim
// that the partition has then. It does so only where records take many fetches: all cases
// in which a partition changes hands would see it otherwise.
func deliverLate(c *consumer) {
	if c.cfg.MaxMessageBytes > 4<<10 {
		return
	}
	type fetched struct {
		of position
		b  driver.Batch
	}
	turn := make(chan struct{}, 1) // held during a delivery, which no end of a claim overlaps
	of := func(claim *driver.Claim) position { return position{topic: claim.Topic, partition: claim.Partition} }
	claims := make(map[position]*driver.Claim)
	end := func(ended []*driver.Claim) {
		turn <- struct{}{}
		defer func() { <-turn }()
		for _, claim := range ended {
			delete(claims, of(claim))
		}
	}
	late := make(chan fetched, 10_000)
	c.handler = func(h *handler) {
		h.assign = func(assigned []*driver.Claim) {
			h.Handler.Assign(assigned)
			turn <- struct{}{}
			defer func() { <-turn }()
			for _, claim := range assigned {
				claims[of(claim)] = claim
			}
		}
		h.deliver = func(claim *driver.Claim, b driver.Batch) { late <- fetched{of(claim), b} }
		h.revoke = func(ctx context.Context, claims []*driver.Claim) { end(claims); h.Handler.Revoke(ctx, claims) }
		h.lost = func(claims []*driver.Claim, cause error) { end(claims); h.Handler.Lost(claims, cause) }
	}
	c.run = func(h driver.Handler) error {
		var delivering sync.WaitGroup
		delivering.Go(func() {
			for f := range late {
				time.Sleep(time.Millisecond)
				turn <- struct{}{}
				if claim := claims[f.of]; claim != nil {
					h.(*handler).Handler.Deliver(claim, f.b)
				}
				<-turn
			}
		})
		defer delivering.Wait()
		defer close(late)
		return c.Consumer.Run(h)
	}
}

// keepClaims takes the claims of a member of a cooperative group that has lost them for
// those of the next member that it is.
func keepClaims(c *consumer) {
	if !slices.Contains(c.cfg.BalanceStrategies, driver.CooperativeSticky) {
		return
	}
	var mu sync.Mutex
	kept := make(map[int32]*driver.Claim)          // that it should have lost
	above := make(map[*driver.Claim]*driver.Claim) // by the claim below
	below := make(map[*driver.Claim]*driver.Claim)
	shown := func(claims []*driver.Claim) []*driver.Claim {
		mu.Lock()
		defer mu.Unlock()
		out := slices.Clone(claims)
		for i, claim := range out {
			if old := above[claim]; old != nil {
				out[i] = old
			}
		}
		return out
	}
	c.handler = func(h *handler) {
		h.lost = func(claims []*driver.Claim, _ error) {
			mu.Lock()
			defer mu.Unlock()
			for _, claim := range claims {
				kept[claim.Partition] = claim
			}
		}
		h.assign = func(claims []*driver.Claim) {
			mu.Lock()
			claims = slices.DeleteFunc(slices.Clone(claims), func(claim *driver.Claim) bool {
				old := kept[claim.Partition]
				if old != nil {
					above[claim], below[old] = old, claim
				}
				delete(kept, claim.Partition)
				return old != nil
			})
			mu.Unlock()
			h.Handler.Assign(claims)
		}
		h.deliver = func(claim *driver.Claim, b driver.Batch) {
			h.Handler.Deliver(shown([]*driver.Claim{claim})[0], b)
		}
		h.revoke = func(ctx context.Context, claims []*driver.Claim) { h.Handler.Revoke(ctx, shown(claims)) }
	}
	c.commit = func(ctx context.Context, marks []driver.Mark) error {
		mu.Lock()
		marks = slices.Clone(marks)
		for i, m := range marks {
			if now := below[m.Claim]; now != nil {
				marks[i].Claim = now
			}
		}
		mu.Unlock()
		return c.Consumer.Commit(ctx, marks)
	}
}
