package drivertest_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// eachBatch makes a consumer that gives f every batch before it is delivered.
func eachBatch(f func(b *driver.Batch)) func(*consumer) {
	return func(c *consumer) {
		c.handler = func(h *handler) {
			h.deliver = func(claim *driver.Claim, b driver.Batch) {
				b.Records = slices.Clone(b.Records)
				f(&b)
				h.Handler.Deliver(claim, b)
			}
		}
	}
}

// eachRecord changes every record.
func eachRecord(f func(r *driver.Record)) func(*consumer) {
	return eachBatch(func(b *driver.Batch) {
		for i := range b.Records {
			f(&b.Records[i])
		}
	})
}

func wrongDeliveries() []wrong {
	return []wrong{
		{name: "delivers a record twice", fails: "DeliverInOrder", consumer: eachBatch(func(b *driver.Batch) {
			if n := len(b.Records); n > 0 {
				b.Records = append(b.Records, b.Records[n-1])
			}
		})},
		{name: "skips a record", fails: "DeliverInOrder", consumer: eachBatch(func(b *driver.Batch) {
			if n := len(b.Records); n > 200 {
				b.Records = slices.Delete(b.Records, n/2, n/2+1)
			}
		}), also: []string{"NothingOfAnEarlierClaim"}},
		{name: "reorders records", fails: "DeliverInOrder", consumer: eachBatch(func(b *driver.Batch) { slices.Reverse(b.Records) })},
		{name: "delivers nil as empty", fails: "DeliverWholeRecords", consumer: eachRecord(func(r *driver.Record) {
			r.Value = append([]byte{}, r.Value...)
		})},
		{name: "delivers one header a key", fails: "DeliverAllHeaders", consumer: eachRecord(func(r *driver.Record) {
			r.Headers = oneHeaderAKey(r.Headers)
		})},
		{name: "delivers seconds", fails: "DeliverTimestamps", consumer: eachRecord(func(r *driver.Record) {
			r.Timestamp = r.Timestamp.Truncate(time.Minute)
		})},
		{name: "writes what it has delivered", fails: "DeliveredBytesAreNeverWritten", consumer: reuseKeys},
		{name: "delivers the same slice again", fails: "DeliveredBytesAreNeverWritten", consumer: reuseRecords},
		{name: "skips what is too large", fails: "DeliverLargeRecords", consumer: func(c *consumer) {
			eachBatch(func(b *driver.Batch) {
				b.Records = slices.DeleteFunc(b.Records, func(r driver.Record) bool { return len(r.Value) > c.cfg.MaxMessageBytes })
			})(c)
		}},
		{name: "delivers from two goroutines", fails: "CallsForAClaimNeverOverlap", consumer: deliverConcurrently},
		{name: "reports a Next that it has passed", fails: "NextPassesHoles", consumer: eachBatch(func(b *driver.Batch) { b.Next = 1 })},
		{name: "reports the wrong high watermark", fails: "HighWatermark", consumer: func(c *consumer) {
			c.highWatermark = func(*driver.Claim) int64 { return 1 }
		}, also: []string{"HighWatermarkIsKnownAtDelivery", "HighWatermarkOfAPausedClaim", "HighWatermarkOfAnOpenTransaction"}},
		{name: "reports the high watermark after it has delivered", fails: "HighWatermarkIsKnownAtDelivery", consumer: func(c *consumer) {
			var delivered atomic.Bool
			c.handler = func(h *handler) {
				h.deliver = func(claim *driver.Claim, b driver.Batch) {
					h.Handler.Deliver(claim, b)
					delivered.Store(true)
				}
			}
			c.highWatermark = func(claim *driver.Claim) int64 {
				if !delivered.Load() {
					return -1
				}
				return c.Consumer.(driver.HighWatermarker).HighWatermark(claim)
			}
		}},
		{name: "reads what is not committed", fails: "ReadCommitted", config: func(cfg *driver.ConsumerConfig) {
			cfg.IsolationLevel = driver.ReadUncommitted
		}},
		{name: "reads only what is committed", fails: "ReadUncommitted", config: func(cfg *driver.ConsumerConfig) {
			cfg.IsolationLevel = driver.ReadCommitted
		}},
	}
}

func oneHeaderAKey(headers []driver.Header) []driver.Header {
	var kept []driver.Header
	for _, h := range headers {
		if !slices.ContainsFunc(kept, func(k driver.Header) bool { return k.Key == h.Key }) {
			kept = append(kept, h)
		}
	}
	return kept
}

// deliverConcurrently delivers from two goroutines, of which one has nothing.
func deliverConcurrently(c *consumer) {
	c.handler = func(h *handler) {
		h.deliver = func(claim *driver.Claim, b driver.Batch) {
			var other sync.WaitGroup
			other.Go(func() { h.Handler.Deliver(claim, driver.Batch{}) })
			h.Handler.Deliver(claim, b)
			other.Wait()
		}
	}
}

// reuse makes a consumer that gives f what it reuses for a claim, and every batch of
// that claim.
func reuse[T any](f func(kept *T, b *driver.Batch)) func(*consumer) {
	return func(c *consumer) {
		var mu sync.Mutex
		kept := make(map[*driver.Claim]*T)
		c.handler = func(h *handler) {
			h.deliver = func(claim *driver.Claim, b driver.Batch) {
				mu.Lock()
				if kept[claim] == nil {
					kept[claim] = new(T)
				}
				own := kept[claim]
				mu.Unlock()
				b.Records = slices.Clone(b.Records)
				f(own, &b)
				h.Handler.Deliver(claim, b)
			}
		}
	}
}

// reuseRecords copies the records of each batch to where it copied those of the last.
var reuseRecords = reuse(func(records *[]driver.Record, b *driver.Batch) {
	*records = append((*records)[:0], b.Records...)
	b.Records = *records
})

// reuseKeys copies the keys of each batch to where it copied those of the last.
var reuseKeys = reuse(func(buffers *[1000][64]byte, b *driver.Batch) {
	for i := range b.Records {
		if r := &b.Records[i]; len(r.Key) > 0 {
			r.Key = buffers[i][:copy(buffers[i][:], r.Key)]
		}
	}
})
