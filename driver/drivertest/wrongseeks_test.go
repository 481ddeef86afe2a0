package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// aside tampers with Seek. The marks are made durable beside the driver, which keeps the
// positions of the claims.
func (c *consumer) aside(to []driver.Mark) {
	for _, m := range to {
		c.h.pretend(position{c.cfg.Group, m.Claim.Topic, m.Claim.Partition}, m.Offset)
	}
}

// whileSeeking returns a consumer that reports whether Seek runs.
func whileSeeking(f func(c *consumer, seeking *atomic.Bool)) func(*consumer) {
	return func(c *consumer) {
		var seeking atomic.Bool
		c.seek = func(ctx context.Context, to []driver.Mark) error {
			seeking.Store(true)
			defer seeking.Store(false)
			return c.rightSeek(ctx, to)
		}
		f(c, &seeking)
	}
}

// answering changes the error of each mark that Seek has not made durable.
func answering(change func(c *consumer, err error) error) func(*consumer) {
	return func(c *consumer) {
		c.seek = func(ctx context.Context, to []driver.Mark) error {
			err := c.rightSeek(ctx, to)
			var ce *driver.CommitError
			if !errors.As(err, &ce) {
				return err
			}
			var failed []driver.MarkError
			for _, f := range ce.Failed {
				if f.Err = change(c, f.Err); f.Err != nil {
					failed = append(failed, f)
				}
			}
			if len(failed) == 0 {
				return nil
			}
			return &driver.CommitError{Failed: failed}
		}
	}
}

// wrongSeeks break rules of how positions are moved.
func wrongSeeks() []wrong {
	all := []string{
		"SeekMovesPositions", "SeekDrainsFirst", "SeekTakesMetadata", "SeekRefusesEndedClaims", "SeekOfAClaimThatEndsFirst", "SeekOfALostMember",
		"SeekAfterTheEndOfItsContext", "SeekInTime", "SeekWithoutBrokers", "SeekWaitsForNoStuckRevoke", "CloseEndsSeek",
	}
	return []wrong{
		{name: "moves no position back", fails: "SeekMovesPositions", also: all, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error { return c.Consumer.Commit(ctx, to) }
		}},
		{name: "moves only the first position", fails: "SeekMovesPositions", also: all, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error { return c.rightSeek(ctx, to[:1]) }
		}},
		{name: "loses what it moves", fails: "SeekMovesPositions", also: all, consumer: whileSeeking(func(c *consumer, seeking *atomic.Bool) {
			eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
				if seeking.Load() {
					h.Handler.Lost(claims, driver.ErrClaimEnded)
					return
				}
				h.Handler.Revoke(ctx, claims)
			})(c)
		})},
		{name: "moves a position before it drains", fails: "SeekDrainsFirst", also: []string{"SeekInTime", "SeekOfALostMember", "SeekOfAClaimThatEndsFirst", "SeekWithoutBrokers", "CloseEndsSeek", "SeekAfterTheEndOfItsContext"}, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				c.aside(to)
				err := c.rightSeek(ctx, to)
				for _, m := range to {
					c.h.stopPretending(position{c.cfg.Group, m.Claim.Topic, m.Claim.Partition})
				}
				return err
			}
		}},
		{name: "moves positions without their metadata", fails: "SeekTakesMetadata", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				plain := slices.Clone(to)
				for i := range plain {
					plain[i].Metadata = ""
				}
				return c.rightSeek(ctx, plain)
			}
		}},
		{name: "fails a seek with too much metadata", fails: "SeekTakesMetadata", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				if strings.Count(to[0].Metadata, "m") > 4096 {
					return &driver.CommitError{Failed: []driver.MarkError{{Mark: to[0], Err: &driver.Error{Code: "OFFSET_METADATA_TOO_LARGE"}}}}
				}
				return c.rightSeek(ctx, to)
			}
		}},
		{name: "moves the position of an ended claim", fails: "SeekRefusesEndedClaims", also: []string{"SeekOfAClaimThatEndsFirst", "SeekOfALostMember", "CloseEndsSeek"}, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if errors.Is(err, driver.ErrClaimEnded) {
					c.aside(to)
				}
				return err
			}
		}},
		{name: "asks the broker for an ended claim", fails: "SeekRefusesEndedClaims", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if errors.Is(err, driver.ErrClaimEnded) {
					c.h.waitForBroker()
				}
				return err
			}
		}},
		{name: "refuses all marks for one", fails: "SeekRefusesEndedClaims", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if err == nil || len(to) < 2 {
					return err
				}
				failed := &driver.CommitError{}
				for _, m := range to {
					failed.Failed = append(failed.Failed, driver.MarkError{Mark: m, Err: driver.ErrClaimEnded})
				}
				return failed
			}
		}},
		{name: "moves what a rebalance has taken", fails: "SeekOfAClaimThatEndsFirst", also: []string{"SeekRefusesEndedClaims"}, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if errors.Is(err, driver.ErrClaimEnded) && len(c.h.broker.Members(c.cfg.Group)) > 1 {
					return nil
				}
				return err
			}
		}},
		{name: "hides that the member was lost", fails: "SeekOfALostMember", also: all, consumer: answering(func(_ *consumer, err error) error {
			if errors.Is(err, driver.ErrClaimEnded) {
				return &driver.Error{Code: "UNKNOWN_MEMBER_ID"}
			}
			return err
		})},
		{name: "ends claims after the end of a seek's context", fails: "SeekAfterTheEndOfItsContext", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := ctx.Err()
				if err == nil {
					return c.rightSeek(ctx, to)
				}
				c.rightSeek(context.WithoutCancel(ctx), []driver.Mark{{Claim: to[0].Claim, Offset: 6}})
				return &driver.CommitError{Failed: []driver.MarkError{{Mark: to[0], Err: err}}}
			}
		}},
		{name: "drains beyond the end of a seek's context", fails: "SeekInTime", consumer: whileSeeking(func(c *consumer, seeking *atomic.Bool) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				if ctx.Err() != nil || c.h.cut.Load() {
					return c.rightSeek(ctx, to)
				}
				return c.rightSeek(context.WithoutCancel(ctx), to)
			}
		}), also: []string{"SeekWithoutBrokers"}},
		{name: "moves a position after Seek has returned", fails: "SeekInTime", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if ctx.Err() != nil && errors.Is(err, context.Canceled) && c.joined.Load() {
					time.AfterFunc(10*time.Millisecond, func() { c.aside(to) })
				}
				c.joined.Store(true)
				return err
			}
			c.joined.Store(true)
		}, also: []string{"SeekAfterTheEndOfItsContext"}},
		{name: "assigns nothing where a seek was given up", fails: "SeekInTime", consumer: func(c *consumer) {
			var gaveUp atomic.Bool
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				before := ctx.Err()
				err := c.rightSeek(ctx, to)
				gaveUp.Store(before == nil && errors.Is(err, context.Canceled))
				return err
			}
			eachHandler(func(h *handler) {
				h.assign = func(claims []*driver.Claim) {
					if gaveUp.Load() {
						return
					}
					h.Handler.Assign(claims)
				}
				h.deliver = func(claim *driver.Claim, b driver.Batch) {
					if !gaveUp.Load() {
						h.Handler.Deliver(claim, b)
					}
				}
				h.revoke = func(ctx context.Context, claims []*driver.Claim) {
					if !gaveUp.Load() {
						h.Handler.Revoke(ctx, claims)
					}
				}
			})(c)
		}},
		{name: "seeks until the brokers answer", fails: "SeekWithoutBrokers", also: []string{"SeekRefusesEndedClaims"}, consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				c.h.waitForBroker()
				return c.rightSeek(ctx, to)
			}
		}},
		{name: "says that nothing was sent", fails: "SeekWithoutBrokers", consumer: func(c *consumer) {
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if errors.Is(err, context.DeadlineExceeded) {
					c.aside(to)
				}
				return err
			}
		}},
		{name: "seeks only when all has been drained", fails: "SeekWaitsForNoStuckRevoke", also: []string{"StuckRevokeEndsWithItsWindow", "StuckRevokeHoldsUpNothingElse"}, consumer: func(c *consumer) {
			var stuck atomic.Int32
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				for err == nil && stuck.Load() > 0 {
					time.Sleep(time.Millisecond)
				}
				return err
			}
			eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
				stuck.Add(1)
				defer stuck.Add(-1)
				h.Handler.Revoke(ctx, claims)
			})(c)
		}},
		{name: "leaves a seek behind Close", fails: "CloseEndsSeek", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error {
				c.closing.Store(true)
				return c.Consumer.Close(ctx)
			}
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				err := c.rightSeek(ctx, to)
				if c.closing.Load() {
					<-ctx.Done()
				}
				return err
			}
		}},
		{name: "says that Close has moved a position", fails: "CloseEndsSeek", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error {
				c.closing.Store(true)
				return c.Consumer.Close(ctx)
			}
			c.seek = func(ctx context.Context, to []driver.Mark) error {
				if err := c.rightSeek(ctx, to); err != nil && !c.closing.Load() {
					return err
				}
				return nil
			}
		}},
	}
}
