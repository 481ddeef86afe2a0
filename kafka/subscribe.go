package kafka

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Subscribe calls f for every event from now on, as [Hook].Event is called, until stop is
// called or the manager has shut down. stop does not wait for calls of f that are under way.
// Use it for what is attached to a running manager, such as a page for operators; a hook
// that should see everything is given to New.
func (m *Manager) Subscribe(f func(Event)) (stop func()) {
	if m.ready() != nil || f == nil {
		return func() {}
	}
	s := &subscriber{f: f}
	m.subscribers.add(s)
	return func() { m.subscribers.remove(s) }
}

// A subscriber is a hook that sees events alone.
type subscriber struct {
	NopHook
	f func(Event)
}

// Event calls the subscriber's function.
func (s *subscriber) Event(e Event) { s.f(e) }

// Subscribers are read for every event, without a lock, and rarely change.
type subscribers struct {
	mu  sync.Mutex
	all atomic.Pointer[[]*subscriber] // never changed in place
}

func (s *subscribers) now() []*subscriber {
	if all := s.all.Load(); all != nil {
		return *all
	}
	return nil
}

func (s *subscribers) add(one *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(slices.Clone(s.now()), one)
	s.all.Store(&all)
}

func (s *subscribers) remove(one *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(s.now()), func(o *subscriber) bool { return o == one })
	s.all.Store(&all)
}
