package kafka

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Places bound how many handlers of a consumer run at once, as
// ConsumerConfig.MaxConcurrency says. A lane asks for a place before it takes a record,
// never with a record at hand, and has it for one record while others wait. Otherwise
// lanes that wait with records would hold up keys that no handler is at.
//
// The partitions get places in turn, so that one with many records does not keep the
// others from theirs. A nil places is no bound.
type places struct {
	waiting atomic.Bool // queue is not empty

	mu    sync.Mutex
	free  int
	queue []*crew // those of which seats wait, in turn
}

func newPlaces(most int) *places {
	if most == 0 {
		return nil
	}
	return &places{free: most}
}

// contended reports whether a lane waits for a place.
func (p *places) contended() bool { return p != nil && p.waiting.Load() }

// asked reports whether a lane of c waits for a place.
func (p *places) asked(c *crew) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(c.asking) > 0
}

// ask gives s a place, or lets it wait for one: then its goroutine begins when it gets it.
// A seat whose partition is halted waits for nothing; its lane takes no record.
func (p *places) ask(s *seat) (got bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := s.crew
	switch {
	case p.free > 0:
		p.free--
		s.owns = true
		return true
	case c.brake.halted():
		return true
	}
	if len(c.asking) == 0 {
		p.queue = append(p.queue, c)
		p.waiting.Store(true)
	}
	c.asking = append(c.asking, s)
	return false
}

// release gives a place back: to the partition whose turn it is, if a lane waits.
func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.free++
		return
	}
	c := p.queue[0]
	p.queue = p.queue[1:]
	s := c.asking[0]
	if c.asking = c.asking[1:]; len(c.asking) > 0 {
		p.queue = append(p.queue, c)
	}
	p.waiting.Store(len(p.queue) > 0)
	s.owns = true
	go s.work()
}

// withdraw returns the seats of c that wait for a place. They get none.
func (p *places) withdraw(c *crew) (seats []*seat) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = slices.DeleteFunc(p.queue, func(o *crew) bool { return o == c })
	p.waiting.Store(len(p.queue) > 0)
	seats, c.asking = c.asking, nil
	return seats
}
