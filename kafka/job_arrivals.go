package kafka

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Arrivals are when this process first saw records of retry topics that are dated ahead,
// or not dated. They outlive the claims: otherwise the wait of such a record would begin
// again with each rebalance.
type arrivals struct {
	mu sync.Mutex
	of map[TopicPartition][]arrival // in order of offset; none is empty
}

// An arrival is when a record was first seen. Its timestamp says that it is the same
// record, and no other one of a topic that was created again.
type arrival struct {
	offset int64
	dated  time.Time
	at     time.Time
}

// mostArrivals bounds what is kept of one partition, which are the first records.
const mostArrivals = 10_000

func newArrivals() *arrivals { return &arrivals{of: make(map[TopicPartition][]arrival)} }

// undated reports whether a record has no time. Kafka has -1 for it, and some clients make
// a time before 1970 of that.
func undated(r *driver.Record) bool { return r.Timestamp.Before(time.Unix(0, 0)) }

// find returns where the arrival of the record at offset is, or would be.
func find(all []arrival, offset int64) (i int, found bool) {
	return slices.BinarySearchFunc(all, offset, func(a arrival, offset int64) int { return cmp.Compare(a.offset, offset) })
}

// note notes records that have come, and returns when those were first seen that are dated
// ahead, or not dated. What lies below position is done and forgotten.
func (g *arrivals) note(key TopicPartition, position int64, records []driver.Record) (ahead []arrival) {
	now := time.Now()
	for i := range records {
		if r := &records[i]; undated(r) || r.Timestamp.After(now) {
			ahead = append(ahead, arrival{r.Offset, r.Timestamp, now})
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(ahead) == 0 && len(g.of) == 0 { // nearly always
		return nil
	}
	g.expire(now)
	known := g.of[key]
	done, _ := find(known, position)
	known = known[done:]
	for i, a := range ahead {
		switch at, found := find(known, a.offset); {
		case found && known[at].dated.Equal(a.dated):
			ahead[i] = known[at]
		case found:
			known[at] = a
		case len(known) < mostArrivals:
			known = slices.Insert(known, at, a)
		}
	}
	if g.of[key] = known; len(known) == 0 {
		delete(g.of, key)
	}
	return ahead
}

// expire forgets partitions of which nothing was noted for as long as a record can wait.
func (g *arrivals) expire(now time.Time) {
	for key, all := range g.of {
		if now.Sub(all[len(all)-1].at) > mostRetryDelay {
			delete(g.of, key)
		}
	}
}

// forget forgets a partition whose offsets other records have now.
func (g *arrivals) forget(key TopicPartition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, key)
}
