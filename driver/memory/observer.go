package memory

import "sync"

// An observer calls f for commits in the order in which they were applied. The broker
// cannot call f while it holds its mutex, and two members that called it after releasing
// the mutex could do so in either order.
type observer struct {
	f func(Commit)

	turn chan struct{} // holds a token, which a caller of f takes
	mu   sync.Mutex
	next []Commit // applied, and f not yet called
}

func newObserver(f func(Commit)) *observer {
	o := &observer{f: f, turn: make(chan struct{}, 1)}
	o.turn <- struct{}{}
	return o
}

// applied queues commits. The caller holds the broker's mutex.
func (o *observer) applied(cs ...Commit) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = append(o.next, cs...)
}

// flush returns when f has been called for all queued commits.
func (o *observer) flush() {
	if o == nil {
		return
	}
	<-o.turn
	defer func() { o.turn <- struct{}{} }()
	for {
		o.mu.Lock()
		cs := o.next
		o.next = nil
		o.mu.Unlock()
		if len(cs) == 0 {
			return
		}
		for _, c := range cs {
			o.f(c)
		}
	}
}
