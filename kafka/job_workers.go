package kafka

import (
	"slices"
	"sync"
)

// A workers knows the partitions of a job whose goroutine has not ended, across claims
// and sessions, for two reasons: the job has to wait for one that outlives its claim,
// and a new one must not begin beside it. They form a chain per topic and number,
// since the one in the middle may be halted while it still waits for the first.
type workers struct {
	mu     sync.Mutex
	latest map[TopicPartition]*partition // of each partition, until it is clear
}

func newWorkers() *workers { return &workers{latest: make(map[TopicPartition]*partition)} }

// enlist makes p the latest of its partition, and returns the one before if that is
// not clear yet.
func (w *workers) enlist(p *partition) (before *partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := keyOf(p.claim)
	p.before = w.latest[key]
	w.latest[key] = p
	return p.before
}

// unchain lets go of the partition before p, which is clear.
func (w *workers) unchain(p *partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.before = nil
}

// forget drops p, which is clear.
func (w *workers) forget(p *partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.before = nil
	if key := keyOf(p.claim); w.latest[key] == p {
		delete(w.latest, key)
	}
}

// busy returns the partitions whose goroutine has not ended, in order.
func (w *workers) busy() []*partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	var busy []*partition
	for _, p := range w.latest {
		for ; p != nil; p = p.before {
			if !p.ended() {
				busy = append(busy, p)
			}
		}
	}
	slices.SortFunc(busy, func(a, b *partition) int { return keyOf(a.claim).compare(keyOf(b.claim)) })
	return busy
}

// stragglers returns the busy ones that are not among those that are owned.
func (w *workers) stragglers(owned []*partition) []*partition {
	var rest []*partition
	for _, p := range w.busy() {
		if !slices.Contains(owned, p) {
			rest = append(rest, p)
		}
	}
	return rest
}

// await waits until every goroutine has ended, however long that takes: a shutdown
// that gives up names them.
func (w *workers) await() {
	for {
		busy := w.busy()
		if len(busy) == 0 {
			return
		}
		<-busy[0].clear
	}
}
