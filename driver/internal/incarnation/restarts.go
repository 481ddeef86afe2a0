package incarnation

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// Restarts knows which partitions start at the beginning of a log, whatever position the
// group has: those of topics that were created again. A member may have earned that
// position in the old topic and committed it to the new one, or the broker may have
// dropped it. Several goroutines may use it.
type Restarts struct {
	window time.Duration

	mu     sync.Mutex // guards what follows
	held   map[position.Partition]int64
	topics map[string]*restart
}

type restart struct {
	since time.Time
	from  map[int32]int64 // positions in the old topic, as far as this member knows them
	done  map[int32]bool
}

// NewRestarts returns Restarts that let a partition start at its beginning for so long
// after its topic was created again. By the end of that window every other member must
// have noticed, too, and have overwritten what it may have committed: a later position
// was earned in the new topic.
func NewRestarts(window time.Duration) *Restarts {
	return &Restarts{window: window, held: map[position.Partition]int64{}, topics: map[string]*restart{}}
}

// Hold keeps the position of a claim that ends, unless its era is over.
func (r *Restarts) Hold(t *Topics, era int, p position.Partition, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.Era(p.Topic) == era {
		r.held[p] = at
	}
}

// Forget drops the held positions of topics: another member restarts its own partitions.
func (r *Restarts) Forget(topics ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(topics...)
}

// Drop drops the held positions of partitions, which this member has given up.
func (r *Restarts) Drop(partitions []position.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range partitions {
		delete(r.held, p)
	}
}

// forget is called with mu held.
func (r *Restarts) forget(topics ...string) {
	maps.DeleteFunc(r.held, func(p position.Partition, _ int64) bool { return slices.Contains(topics, p.Topic) })
}

// Begin restarts the partitions of a topic, which was created again. Live has the positions
// of its claims that have not ended; it may have those of other topics, too.
func (r *Restarts) Begin(topic string, live map[position.Partition]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := &restart{since: time.Now(), from: map[int32]int64{}, done: map[int32]bool{}}
	for _, positions := range []map[position.Partition]int64{r.held, live} {
		for p, at := range positions {
			if p.Topic == topic {
				begun.from[p.ID] = at
			}
		}
	}
	r.forget(topic)
	r.topics[topic] = begun
}

// Pending reports whether p is to start at the beginning of its log, and where the member
// was in the old topic, or -1.
func (r *Restarts) Pending(p position.Partition) (from int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := r.topics[p.Topic]
	if begun == nil || begun.done[p.ID] || time.Since(begun.since) > r.window {
		return -1, false
	}
	if from, held := begun.from[p.ID]; held {
		return from, true
	}
	return -1, true
}

// Held returns the partitions of topics that this member held in the old topic and that
// have not started yet, and where it was in each.
func (r *Restarts) Held(topics []string) map[position.Partition]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	froms := map[position.Partition]int64{}
	for _, topic := range topics {
		begun := r.topics[topic]
		if begun == nil {
			continue
		}
		for id, from := range begun.from {
			if !begun.done[id] {
				froms[position.Partition{Topic: topic, ID: id}] = from
			}
		}
	}
	return froms
}

// Release forgets where this member was in the old topics, except in the partitions that
// it has just been assigned: the owners of the others restart those. Otherwise this could
// happen: this member could not restart a partition before it joined; another member is
// assigned it, restarts it and goes on; and this member moves it back to the beginning
// before a later join.
func (r *Restarts) Release(assigned []position.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, begun := range r.topics {
		maps.DeleteFunc(begun.from, func(id int32, _ int64) bool {
			return !slices.Contains(assigned, position.Partition{Topic: topic, ID: id})
		})
	}
}

// Settle notes that p starts at its beginning, and reports whether that is news.
func (r *Restarts) Settle(p position.Partition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := r.topics[p.Topic]
	if begun == nil || begun.done[p.ID] {
		return false
	}
	begun.done[p.ID] = true
	return true
}
