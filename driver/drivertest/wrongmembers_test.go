package drivertest_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// eachHandler makes a consumer that has f tamper with its Handler.
func eachHandler(f func(h *handler)) func(*consumer) {
	return func(c *consumer) { c.handler = f }
}

// eachRevoke is the same for Revoke.
func eachRevoke(f func(h *handler, ctx context.Context, claims []*driver.Claim)) func(*consumer) {
	return eachHandler(func(h *handler) {
		h.revoke = func(ctx context.Context, claims []*driver.Claim) { f(h, ctx, claims) }
	})
}

// eachRun makes a consumer that has f change what Run returns.
func eachRun(f func(c *consumer, h driver.Handler, err error) error) func(*consumer) {
	return func(c *consumer) {
		c.run = func(h driver.Handler) error { return f(c, h, c.Consumer.Run(h)) }
	}
}

func wrongMembers() []wrong {
	return []wrong{
		{name: "joins at Open", fails: "OpenJoinsNothing", consumer: joinAtOpen},
		{name: "depends on the context of Open", fails: "OpenContextEndsNothing", consumer: func(c *consumer) {
			c.run = func(h driver.Handler) error {
				if err := c.ctx.Err(); err != nil {
					return err
				}
				return c.Consumer.Run(h)
			}
		}},
		{name: "opens what it has refused", fails: "ValidatorAgreesWithOpen", validate: driver.ErrPermanent},
		{name: "ignores the context of Open", fails: "OpenReturnsByItsContext", open: func(h *wrongHarness, _ driver.ConsumerConfig) {
			h.waitForBroker()
		}},
		{name: "delivers before Assign", fails: "AssignComesFirst", consumer: eachHandler(func(h *handler) {
			h.assign = func(claims []*driver.Claim) {
				for _, c := range claims {
					h.Handler.Deliver(c, driver.Batch{Next: max(c.Start, 0)})
				}
				h.Handler.Assign(claims)
			}
		})},
		{name: "forgets Assign without claims", fails: "AssignWithoutClaims", consumer: eachHandler(func(h *handler) {
			h.assign = func(claims []*driver.Claim) {
				if len(claims) > 0 {
					h.Handler.Assign(claims)
				}
			}
		}), also: []string{"PauseEndsWithItsClaim", "PauseOfEndedClaimIsIgnored", "CommitOutlivesARebalance", "ReturningPartitionIsANewClaim"}},
		{name: "changes a claim", fails: "ClaimsNeverChange", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			for _, c := range claims {
				c.Generation++
			}
			h.Handler.Revoke(ctx, claims)
		})},
		{name: "moves the end of a claim", fails: "ClaimsNeverChange", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			for _, c := range claims {
				c.End++
			}
			h.Handler.Revoke(ctx, claims)
		})},
		{name: "fails Run after Close", fails: "RunReturnsNilAfterClose", consumer: eachRun(func(_ *consumer, _ driver.Handler, err error) error {
			if err == nil {
				return driver.ErrClosed
			}
			return err
		}), also: []string{"RunAfterCloseReturnsAtOnce"}},
		{name: "calls its Handler when Run comes after Close", fails: "RunAfterCloseReturnsAtOnce", consumer: func(c *consumer) {
			c.close = func(ctx context.Context) error { c.closing.Store(true); return c.Consumer.Close(ctx) }
			c.run = func(h driver.Handler) error {
				if c.closing.Load() {
					h.Assign(nil)
				}
				return c.Consumer.Run(h)
			}
		}},
		{name: "leaves a claim behind", fails: "RunEndsEveryClaim", consumer: eachRevoke(func(h *handler, ctx context.Context, claims []*driver.Claim) {
			h.Handler.Revoke(ctx, claims[1:])
		})},
		{name: "reports an error after Run", fails: "SilenceAfterRun", consumer: eachRun(func(c *consumer, h driver.Handler, err error) error {
			if c.closing.Load() {
				return err
			}
			go func() {
				time.Sleep(time.Millisecond)
				h.Error(&driver.Error{Code: "CONNECTION_FAILED"})
			}()
			return err
		})},
		{name: "calls its Handler from Close", fails: "HandlerRunsOnTheDriversGoroutines", consumer: func(c *consumer) {
			handlers := make(chan *handler, 1)
			c.handler = func(h *handler) { handlers <- h }
			c.close = func(ctx context.Context) error {
				select {
				case h := <-handlers:
					h.Error(driver.ErrClosed)
				default:
				}
				return c.Consumer.Close(ctx)
			}
		}},
		{name: "fails Run for an outage", fails: "RunOutlivesAnOutage", consumer: failInAnOutage,
			also: []string{"SeekWithoutBrokers", "SeekRefusesEndedClaims", "LostAtTheSessionDeadline", "SessionDeadlineIsHonest", "CommitHonoursItsContext", "CommitRetries", "CommitIsNotOvertaken", "CommitRefusesWithoutAsking", "ErrorsHaveNames", "PauseMakesNoRoundTrip", "RunDoesNotSpin", "SameMetadataIsNotSent"}},
		{name: "ignores a protocol that it does not declare", fails: "UnsupportedProtocolIsRejected", denies: true},
		{name: "spins in an outage", fails: "RunDoesNotSpin", consumer: eachHandler(func(h *handler) {
			h.error = func(err error) {
				for range 1000 {
					h.Handler.Error(err)
				}
			}
		}), also: []string{"TooLargeMetadataIsLeftOut"}},
		{name: "keeps an unknown topic to itself", fails: "UnknownTopicIsReported", consumer: eachHandler(func(h *handler) {
			h.error = func(err error) {
				if code(err) != "UNKNOWN_TOPIC_OR_PARTITION" {
					h.Handler.Error(err)
				}
			}
		}), also: []string{"MissingTopicStopsNoOther"}},
		{name: "takes a fenced instance for transient", fails: "FencedInstanceEndsRun", consumer: eachRun(func(_ *consumer, _ driver.Handler, err error) error {
			return transient(err, "FENCED_INSTANCE_ID")
		})},
		{name: "reports errors without a name", fails: "ErrorsHaveNames", consumer: eachHandler(func(h *handler) {
			h.lost = func(claims []*driver.Claim, _ error) { h.Handler.Lost(claims, errors.New("gone")) }
		})},
	}
}

// code returns an error's Kafka name.
func code(err error) string {
	var de *driver.Error
	if errors.As(err, &de) {
		return de.Code
	}
	return ""
}

// transient takes the kind from an error with this code.
func transient(err error, name string) error {
	if code(err) != name {
		return err
	}
	return &driver.Error{Code: name}
}

// joinAtOpen runs the consumer from Open on and keeps its Handler waiting until
// Run is called.
func joinAtOpen(c *consumer) {
	given, closing := make(chan driver.Handler, 1), make(chan struct{})
	wait := sync.OnceValue(func() driver.Handler {
		select {
		case h := <-given:
			return h
		case <-closing:
			return testkit.Idle{}
		}
	})
	result := make(chan error, 1)
	go func() {
		result <- c.Consumer.Run(&handler{
			assign:  func(claims []*driver.Claim) { wait().Assign(claims) },
			deliver: func(c *driver.Claim, b driver.Batch) { wait().Deliver(c, b) },
			revoke:  func(ctx context.Context, claims []*driver.Claim) { wait().Revoke(ctx, claims) },
			lost:    func(claims []*driver.Claim, cause error) { wait().Lost(claims, cause) },
			error:   func(err error) { wait().Error(err) },
		})
	}()
	c.run = func(h driver.Handler) error {
		given <- h
		return <-result
	}
	var once sync.Once
	c.close = func(ctx context.Context) error {
		once.Do(func() { close(closing) })
		return c.Consumer.Close(ctx)
	}
}

// failInAnOutage ends Run with the first error that Handler.Error gets in an
// outage.
func failInAnOutage(c *consumer) { failOn("CONNECTION_FAILED")(c) }

// failOn ends Run with the first error with a code that Handler.Error gets.
func failOn(name string) func(*consumer) {
	return func(c *consumer) { failWith(c, name) }
}

func failWith(c *consumer, name string) {
	failed := make(chan error, 1)
	c.handler = func(h *handler) {
		h.error = func(err error) {
			h.Handler.Error(err)
			if code(err) != name {
				return
			}
			select {
			case failed <- err:
			default:
			}
		}
	}
	c.run = func(h driver.Handler) error {
		done := make(chan error, 1)
		go func() { done <- c.Consumer.Run(h) }()
		select {
		case err := <-done:
			return err
		case err := <-failed:
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			_ = c.Consumer.Close(ended)
			<-done
			return err
		}
	}
}

// wrongsOfTheConsumerProtocol are wrong with that protocol.
func wrongsOfTheConsumerProtocol() []wrong {
	silent := func(name string) func(c *consumer) {
		return eachHandler(func(h *handler) {
			h.error = func(err error) {
				if code(err) != name {
					h.Handler.Error(err)
				}
			}
		})
	}
	return []wrong{
		{name: "keeps a taken instance to itself", fails: "FencedInstanceEndsRun", consumer: silent("UNRELEASED_INSTANCE_ID")},
		{name: "lets a newcomer join beside the member of its instance", fails: "FencedInstanceEndsRun", config: func(cfg *driver.ConsumerConfig) {
			cfg.InstanceID = "" // the newcomer joins beside the older member
		}},
	}
}
