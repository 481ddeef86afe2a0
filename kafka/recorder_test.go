package kafka

import "sync"

// A recorder keeps the events of a manager.
type recorder struct {
	NopHook
	mu     sync.Mutex
	events []Event
}

func (r *recorder) Event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func eventsOf[E Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var es []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			es = append(es, e)
		}
	}
	return es
}
