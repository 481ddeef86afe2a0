package franz

import (
	"context"
	"slices"
	"sync"
	"time"
	"weak"
)

const (
	abandonAgain = 10 * time.Millisecond // the distance of two looks for messages
	smallRoster  = 1024
)

// A roster knows every slot of a producer, also those that kgo has. It keeps none alive.
type roster struct {
	mu    sync.Mutex // guards what follows
	slots []weak.Pointer[slot]
	full  int // the length at which the slots go that are no more
}

func (r *roster) add(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.slots) >= max(r.full, smallRoster) {
		r.slots = slices.DeleteFunc(r.slots, func(w weak.Pointer[slot]) bool { return w.Value() == nil })
		r.full = 2 * len(r.slots)
	}
	r.slots = append(r.slots, weak.Make(s))
}

// take takes all messages that are not acknowledged.
func (r *roster) take() (taken []*slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.slots {
		if s := w.Value(); s != nil && s.take() {
			taken = append(taken, s)
		}
	}
	return taken
}

// abandon acknowledges all messages of the epochs that are left, and returns when no Ack runs.
// It looks repeatedly, as Produce may fill a slot only now. The producer must be severed. kgo
// may still have the slots, so they are not used again.
func (p *producer) abandon(epochs []*epoch) {
	for {
		for _, s := range p.roster.take() {
			s.m.Acker.Ack(abandonedUnknown)
			p.buffer.release(s.cost)
			s.epoch.leave()
		}
		ctx, cancel := context.WithTimeout(background, abandonAgain)
		left := await(ctx, epochs)
		cancel()
		if left == nil {
			return
		}
	}
}
