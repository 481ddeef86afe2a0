package drivertest_test

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

func wrongPauses() []wrong {
	return []wrong{
		{name: "does not pause", fails: "PauseStopsFetching", consumer: func(c *consumer) {
			c.pause = func([]*driver.Claim) {}
		}, wide: true},
		{name: "pauses its other claims too", fails: "PauseLeavesOthers", consumer: func(c *consumer) {
			assigned := c.track()
			c.pause = func([]*driver.Claim) { c.Consumer.Pause(assigned()...) }
			c.resume = func([]*driver.Claim) { c.Consumer.Resume(assigned()...) }
		}, also: []string{"PauseOfEndedClaimIsIgnored"}},
		{name: "counts pauses", fails: "PauseIsIdempotent", consumer: countPauses, also: []string{"ResumeContinuesWherePauseStopped"}},
		{name: "does not pause inside Deliver", fails: "PauseInsideDeliver", consumer: func(c *consumer) {
			c.handler = func(*handler) {}
			c.pauseOutside("(*handler).Deliver")
		}},
		{name: "does not pause inside Assign", fails: "PauseInsideAssign", consumer: func(c *consumer) {
			c.handler = func(*handler) {}
			c.pauseOutside("(*handler).Assign")
		}},
		{name: "drops a record after Resume", fails: "ResumeContinuesWherePauseStopped", consumer: func(c *consumer) {
			var resumed atomic.Bool
			eachBatch(func(b *driver.Batch) {
				if len(b.Records) > 10 && resumed.Load() {
					b.Records = b.Records[1:]
				}
			})(c)
			c.resume = func(claims []*driver.Claim) { resumed.Store(true); c.Consumer.Resume(claims...) }
		}},
		{name: "remembers a pause", fails: "PauseEndsWithItsClaim", consumer: rememberPauses},
		{name: "pauses by partition", fails: "PauseOfEndedClaimIsIgnored", consumer: func(c *consumer) {
			assigned := c.track()
			successors := func(claims []*driver.Claim) []*driver.Claim {
				return slices.DeleteFunc(assigned(), func(a *driver.Claim) bool {
					return !slices.ContainsFunc(claims, func(c *driver.Claim) bool { return c.Partition == a.Partition })
				})
			}
			c.pause = func(claims []*driver.Claim) { c.Consumer.Pause(successors(claims)...) }
			c.resume = func(claims []*driver.Claim) { c.Consumer.Resume(successors(claims)...) }
		}},
		{name: "asks the broker to pause", fails: "PauseMakesNoRoundTrip", consumer: func(c *consumer) {
			c.pause = func(claims []*driver.Claim) {
				c.h.waitForBroker()
				c.Consumer.Pause(claims...)
			}
		}},
	}
}

// track returns all claims that have been assigned.
func (c *consumer) track() (assigned func() []*driver.Claim) {
	var mu sync.Mutex
	var all []*driver.Claim
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) {
			mu.Lock()
			all = append(all, claims...)
			mu.Unlock()
			h.Handler.Assign(claims)
		}
	}
	return func() []*driver.Claim {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// pauseOutside ignores a Pause that is called from inside a method.
func (c *consumer) pauseOutside(method string) {
	c.pause = func(claims []*driver.Claim) {
		if !calledBy(method) {
			c.Consumer.Pause(claims...)
		}
	}
}

// calledBy reports whether the caller was called, by others, from a method.
func calledBy(method string) bool {
	callers := make([]uintptr, 100)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, method) {
			return true
		}
		if !more {
			return false
		}
	}
}

func countPauses(c *consumer) {
	var mu sync.Mutex
	pauses := make(map[*driver.Claim]int)
	count := func(claims []*driver.Claim, by int) (changed []*driver.Claim) {
		mu.Lock()
		defer mu.Unlock()
		for _, claim := range claims {
			before := pauses[claim]
			pauses[claim] = max(0, before+by)
			if (before == 0) != (pauses[claim] == 0) {
				changed = append(changed, claim)
			}
		}
		return changed
	}
	c.pause = func(claims []*driver.Claim) { c.Consumer.Pause(count(claims, 1)...) }
	c.resume = func(claims []*driver.Claim) { c.Consumer.Resume(count(claims, -1)...) }
}

func rememberPauses(c *consumer) {
	var paused sync.Map // partition
	c.handler = func(h *handler) {
		h.assign = func(claims []*driver.Claim) {
			for _, claim := range claims {
				if _, ok := paused.Load(claim.Partition); ok {
					c.Consumer.Pause(claim)
				}
			}
			h.Handler.Assign(claims)
		}
	}
	c.pause = func(claims []*driver.Claim) {
		for _, claim := range claims {
			paused.Store(claim.Partition, true)
		}
		c.Consumer.Pause(claims...)
	}
	c.resume = func(claims []*driver.Claim) {
		for _, claim := range claims {
			paused.Delete(claim.Partition)
		}
		c.Consumer.Resume(claims...)
	}
}
