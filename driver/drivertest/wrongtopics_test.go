package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// hiding drops the errors for which hide is true.
func hiding(hide func(err error) bool) func(*consumer) {
	return eachHandler(func(h *handler) {
		h.error = func(err error) {
			if !hide(err) {
				h.Handler.Error(err)
			}
		}
	})
}

func wrongTopics() []wrong {
	return []wrong{
		{name: "waits for all of its topics", fails: "MissingTopicStopsNoOther", consumer: waitForTopics},
		{name: "keeps a forbidden topic to itself", fails: "ForbiddenTopicStopsNoOther", consumer: hiding(func(err error) bool {
			return code(err) == "TOPIC_AUTHORIZATION_FAILED"
		})},
		{name: "reports topics that only others read", fails: "ForeignTopicsAreNoError", consumer: reportForeignTopics},
		{name: "gives up where strategies do not meet", fails: "NoCommonStrategyWaits", consumer: func(c *consumer) {
			failOn("INCONSISTENT_GROUP_PROTOCOL")(c)
		}},
		{name: "keeps damage to itself", fails: "DamageStopsItsPartitionOnly", consumer: hiding(func(err error) bool {
			return code(err) == "CORRUPT_MESSAGE"
		})},
		{name: "stops all partitions for a damaged one", fails: "DamageStopsItsPartitionOnly", consumer: pauseAllForDamage},
		{name: "reports no recreation", fails: "RecreatedTopicIsAnother", consumer: hiding(func(err error) bool {
			gap, ok := errors.AsType[*driver.DataLossError](err)
			return ok && gap.Recreated
		})},
		{name: "skips the beginning of a new topic", fails: "RecreatedTopicIsReadWhole", consumer: skipBeginning,
			also: []string{"RecreatedTopicIsAnother", "OldPositionNeverCounts"}},
		{name: "takes an old position for a new one", fails: "OldPositionNeverCounts", consumer: func(c *consumer) {
			id := c.h.broker.TopicID(c.cfg.Topics[0])
			c.commit = func(ctx context.Context, marks []driver.Mark) error {
				err := c.Consumer.Commit(ctx, marks)
				if c.h.broker.TopicID(c.cfg.Topics[0]) != id {
					return nil
				}
				return err
			}
		}},
		{name: "skips without a word", fails: "StartThatSkipsIsReported", consumer: hiding(func(err error) bool {
			_, ok := errors.AsType[*driver.NoPositionError](err)
			return ok
		})},
		{name: "keeps its claims over the session", fails: "LostAtTheSessionDeadline", consumer: func(c *consumer) {
			eachHandler(func(h *handler) {
				h.lost = func(claims []*driver.Claim, cause error) {
					if errors.Is(cause, driver.ErrMembershipLost) {
						time.Sleep(3 * c.cfg.SessionTimeout)
					}
					h.Handler.Lost(claims, cause)
				}
			})(c)
		}},
		{name: "hides why its claims are lost", fails: "LostAtTheSessionDeadline", consumer: eachHandler(func(h *handler) {
			h.lost = func(claims []*driver.Claim, _ error) {
				h.Handler.Lost(claims, &driver.Error{Code: "CONNECTION_FAILED"})
			}
		}), also: []string{"LostNamesItsCause", "LostWhenTheSessionEnds"}},
		{name: "counts the deadline from now", fails: "SessionDeadlineIsHonest", consumer: func(c *consumer) {
			c.deadline = func(at time.Time) time.Time {
				if at.IsZero() {
					return at
				}
				return time.Now().Add(c.cfg.SessionTimeout)
			}
		}},
		{name: "has a deadline without a membership", fails: "SessionDeadlineIsHonest", consumer: func(c *consumer) {
			c.deadline = func(at time.Time) time.Time {
				if at.IsZero() {
					return time.Now().Add(time.Hour)
				}
				return at
			}
		}},
		{name: "has the high watermark of the latest delivery", fails: "HighWatermarkOfAPausedClaim", consumer: watermarkOfDelivery(func(*driver.Batch) bool { return true }),
			also: []string{"HighWatermarkOfAnOpenTransaction"}},
		{name: "has the last stable offset for a high watermark", fails: "HighWatermarkOfAnOpenTransaction",
			consumer: watermarkOfDelivery(func(*driver.Batch) bool { return true }), also: []string{"HighWatermarkOfAPausedClaim"}},
	}
}

// waitForTopics makes a consumer that joins when all of its topics exist.
func waitForTopics(c *consumer) {
	closing := make(chan struct{})
	closed := sync.OnceFunc(func() { close(closing) })
	c.close = func(ctx context.Context) error {
		closed()
		return c.Consumer.Close(ctx)
	}
	c.run = func(h driver.Handler) error {
		for slices.ContainsFunc(c.cfg.Topics, func(topic string) bool { return c.h.broker.Partitions(topic) == 0 }) {
			h.Error(&driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION"})
			select {
			case <-closing:
				return c.Consumer.Run(h)
			case <-time.After(time.Second):
			}
		}
		return c.Consumer.Run(h)
	}
}

func reportForeignTopics(c *consumer) {
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) {
			h.Handler.Assign(claims)
			for _, m := range c.h.broker.Members(c.cfg.Group) {
				if topic := missing(c.h.broker, m); topic != "" && !slices.Contains(c.cfg.Topics, topic) {
					h.Handler.Error(&driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION"})
				}
			}
		}
	}
}

func missing(b *memory.Broker, m memory.Member) string {
	for _, topic := range m.Topics {
		if b.Partitions(topic) == 0 {
			return topic
		}
	}
	return ""
}

func pauseAllForDamage(c *consumer) {
	var claims sync.Map
	c.handler = func(h *handler) {
		h.assign = func(cs []*driver.Claim) {
			for _, k := range cs {
				claims.Store(k, true)
			}
			h.Handler.Assign(cs)
		}
		h.error = func(err error) {
			h.Handler.Error(err)
			if code(err) == "CORRUPT_MESSAGE" {
				claims.Range(func(k, _ any) bool {
					c.Consumer.Pause(k.(*driver.Claim))
					return true
				})
			}
		}
	}
}

// skipBeginning leaves the first record of a topic out that was created again.
func skipBeginning(c *consumer) {
	id := c.h.broker.TopicID(c.cfg.Topics[0])
	eachBatch(func(b *driver.Batch) {
		if c.h.broker.TopicID(c.cfg.Topics[0]) != id {
			b.Records = slices.DeleteFunc(b.Records, func(r driver.Record) bool { return r.Offset == 0 && string(r.Value) == "new-0" })
		}
	})(c)
}

// watermarkOfDelivery makes a consumer whose high watermark is what has been
// delivered.
func watermarkOfDelivery(counts func(*driver.Batch) bool) func(*consumer) {
	return func(c *consumer) {
		var next atomic.Int64
		next.Store(-1)
		eachBatch(func(b *driver.Batch) {
			if counts(b) {
				next.Store(b.Next)
			}
		})(c)
		c.highWatermark = func(*driver.Claim) int64 { return next.Load() }
	}
}
