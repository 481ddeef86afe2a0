package kafka

import "slices"

// A job knows the workers of its partitions across claims and sessions, for two
// reasons: somebody has to wait for one that outlives its claim, and a new one
// must not begin beside it. They form a chain for each partition, since the
// worker in the middle may be halted while it still waits for the first.

// enlist makes p the latest worker of its partition, and returns the one before
// if that is not clear yet.
func (j *job) enlist(p *partition) (before *partition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := keyOf(p.claim)
	p.before = j.workers[key]
	j.workers[key] = p
	return p.before
}

// unchain lets go of the worker before p, which is clear.
func (j *job) unchain(p *partition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p.before = nil
}

// forgetWorker drops p, which is clear.
func (j *job) forgetWorker(p *partition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p.before = nil
	if key := keyOf(p.claim); j.workers[key] == p {
		delete(j.workers, key)
	}
}

// busyWorkers returns the workers that have not ended, in order of partition.
func (j *job) busyWorkers() []*partition {
	j.mu.Lock()
	defer j.mu.Unlock()
	var busy []*partition
	for _, p := range j.workers {
		for ; p != nil; p = p.before {
			if !p.ended() {
				busy = append(busy, p)
			}
		}
	}
	slices.SortFunc(busy, func(a, b *partition) int { return keyOf(a.claim).compare(keyOf(b.claim)) })
	return busy
}

// stragglers returns the workers that have not ended though s does not own their
// claims any more.
func (j *job) stragglers(s *session) []*partition {
	var owned []*partition
	if s != nil {
		owned = s.live()
	}
	var rest []*partition
	for _, p := range j.busyWorkers() {
		if !contains(owned, p) {
			rest = append(rest, p)
		}
	}
	return rest
}

// awaitWorkers waits until every worker has ended, however long that takes: a
// shutdown that gives up names them.
func (j *job) awaitWorkers() {
	for {
		busy := j.busyWorkers()
		if len(busy) == 0 {
			return
		}
		<-busy[0].clear
	}
}
