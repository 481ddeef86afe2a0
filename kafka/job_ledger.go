package kafka

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A ledger counts the failures of a job's records by offset. It outlives the claims,
// so that HandlerFailed counts on and the backoff goes on growing across a rebalance
// that brings the partition back. A record that is handled is struck out.
type ledger struct {
	mu       sync.Mutex
	failures map[TopicPartition]map[int64]int // by offset; no map is empty
	left     map[TopicPartition]time.Time     // when a partition was owned last that is not now
	expected map[TopicPartition]int64         // where Seek moves partitions
}

// forgetAfter is how long the failures of a partition are kept that does not come back.
const forgetAfter = time.Hour

func newLedger() *ledger {
	return &ledger{
		failures: make(map[TopicPartition]map[int64]int),
		left:     make(map[TopicPartition]time.Time),
		expected: make(map[TopicPartition]int64),
	}
}

// open strikes out what lies below the start of a new claim: another member has
// handled it. If Seek has moved the partition there, it strikes out everything.
func (g *ledger) open(c *driver.Claim) {
	g.expire()
	g.mu.Lock()
	to, expected := g.expected[keyOf(c)]
	delete(g.expected, keyOf(c))
	delete(g.left, keyOf(c))
	g.mu.Unlock()
	g.clear(keyOf(c), c.Start-1)
	if expected && to == c.Start {
		g.forget(keyOf(c), 0)
	}
}

// expect notes that Seek moves a partition. Its failures are struck out when a claim starts
// there: until then its handler may fail.
func (g *ledger) expect(key TopicPartition, offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expected[key] = offset
}

// unexpect notes that Seek has not moved a partition.
func (g *ledger) unexpect(key TopicPartition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.expected, key)
}

// end notes that a claim has ended. If the partition does not come back within the hour,
// its failures are struck out: another member has handled them, or counts its own.
func (g *ledger) end(c *driver.Claim) {
	g.expire()
	g.mu.Lock()
	defer g.mu.Unlock()
	if key := keyOf(c); g.failures[key] != nil {
		g.left[key] = time.Now()
	}
}

// expire strikes out the failures of partitions that have not been owned for an hour.
func (g *ledger) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, since := range g.left {
		if time.Since(since) >= forgetAfter {
			delete(g.left, key)
			delete(g.failures, key)
		}
	}
}

// count notes a failure of a record and returns how many there were in a row, under
// earlier claims too.
func (g *ledger) count(key TopicPartition, offset int64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.failures[key]
	if of == nil {
		of = make(map[int64]int)
		g.failures[key] = of
	}
	of[offset]++
	return of[offset]
}

// failuresOf returns how many failures of a record have been counted.
func (g *ledger) failuresOf(key TopicPartition, offset int64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures[key][offset]
}

// has reports whether a record of the partition has failed and is not struck out.
func (g *ledger) has(key TopicPartition) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures[key] != nil
}

// strike strikes out one record.
func (g *ledger) strike(key TopicPartition, offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.failures[key]
	delete(of, offset)
	if len(of) == 0 {
		delete(g.failures, key)
	}
}

// clear strikes out the records of a partition up to offset.
func (g *ledger) clear(key TopicPartition, offset int64) {
	g.drop(key, func(o int64) bool { return o <= offset })
}

// clearRuns strikes out the records of a partition that lie in runs.
func (g *ledger) clearRuns(key TopicPartition, runs []finished.Run) {
	g.drop(key, func(o int64) bool {
		return slices.ContainsFunc(runs, func(r finished.Run) bool { return r.From <= o && o < r.To })
	})
}

// forget strikes out the records of a partition from offset on. Other records have
// these offsets now.
func (g *ledger) forget(key TopicPartition, offset int64) {
	g.drop(key, func(o int64) bool { return o >= offset })
}

// drop strikes out the records of a partition whose offsets fit.
func (g *ledger) drop(key TopicPartition, fits func(offset int64) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.failures[key]
	maps.DeleteFunc(of, func(o int64, _ int) bool { return fits(o) })
	if len(of) == 0 {
		delete(g.failures, key)
	}
}

// reset strikes out everything.
func (g *ledger) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.failures)
	clear(g.left)
	clear(g.expected)
}
