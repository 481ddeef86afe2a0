package kafka

// A pauseReason is one reason for which a claim is not fetched. A partition has
// a set of them: each is set and lifted by its owner alone, so that none lifts
// another.
type pauseReason uint8

const (
	pauseQueue pauseReason = 1 << iota // the partition's own queue is above its bounds
	pauseTotal                         // the consumer's queues together are; see budget
)

// A flow is why a claim should be paused and whether it is. It is guarded by the
// partition's mutex, which is not held while the driver is called.
type flow struct {
	reasons  pauseReason // the claim should be paused while there is one
	have     bool        // the driver has been told to pause
	changing bool        // a goroutine is telling the driver
}

func (f *flow) set(r pauseReason)  { f.reasons |= r }
func (f *flow) lift(r pauseReason) { f.reasons &^= r }

// unmet reports whether the driver has to be told, and no goroutine does.
func (f *flow) unmet() bool { return (f.reasons != 0) != f.have && !f.changing }

// syncFlow brings the driver to the wanted state. The reasons are decided under
// the mutex, where the queue is looked at; and while one goroutine tells the
// driver, another one only leaves its reason, which the first one sees before it
// stops. Otherwise this could happen: Deliver finds the queue full, the worker
// empties it and resumes, then the pause arrives, and nothing ever resumes.
func (p *partition) syncFlow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.flow.unmet() {
		pause := p.flow.reasons != 0
		p.flow.changing = true
		p.mu.Unlock()
		if pause {
			p.s.driver.Pause(p.claim)
		} else {
			p.s.driver.Resume(p.claim)
		}
		p.mu.Lock()
		p.flow.have, p.flow.changing = pause, false
	}
}

// judgeQueue sets or lifts pauseQueue: above a bound it is set, and lifted when
// half is gone. Called under the mutex.
func (p *partition) judgeQueue() {
	most, mostBytes := p.s.job.cfg.MaxBufferedMessages, p.s.job.cfg.MaxBufferedBytes
	switch {
	case p.queue.n > most || p.queue.bytes > mostBytes:
		p.flow.set(pauseQueue)
	case p.queue.n <= most/2 && p.queue.bytes <= mostBytes/2:
		p.flow.lift(pauseQueue)
	}
}
