package kafka

// A flow is whether a claim is paused and whether it should be. It is guarded
// by the partition's mutex, which is not held while the driver is called.
type flow struct {
	want, have bool
	changing   bool // somebody is telling the driver
}

// unmet reports whether the driver has to be told, and nobody does.
func (f *flow) unmet() bool { return f.want != f.have && !f.changing }

// syncFlow brings the driver to the wanted state. What is wanted is decided
// under the mutex, where the queue is looked at; and while one goroutine tells
// the driver, another one only leaves its wish, which the first one sees before
// it stops. Otherwise this could happen: Deliver finds the queue full, the
// worker empties it and resumes, then the pause arrives, and nothing ever
// resumes.
func (p *partition) syncFlow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.flow.unmet() {
		pause := p.flow.want
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
