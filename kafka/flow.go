package kafka

// A flow is whether a claim is paused and whether it should be. It is guarded
// by the partition's mutex, which is not held while the driver is called.
type flow struct {
	want, have bool
	changing   bool // somebody is telling the driver
}

// setPaused brings the driver to the wanted state. The queue's two ends may
// want different things at once; whoever comes second only leaves its wish, and
// the first one sees it before it stops. Otherwise this could happen: Deliver
// decides to pause, the worker empties the queue and resumes, then the pause
// arrives, and nothing ever resumes.
func (p *partition) setPaused(want bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flow.want = want
	if p.flow.changing {
		return
	}
	p.flow.changing = true
	for p.flow.have != p.flow.want {
		pause := p.flow.want
		p.mu.Unlock()
		if pause {
			p.s.driver.Pause(p.claim)
		} else {
			p.s.driver.Resume(p.claim)
		}
		p.mu.Lock()
		p.flow.have = pause
	}
	p.flow.changing = false
}
