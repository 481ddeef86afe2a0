package memory

import "sync"

// An observer tells of commits in the order in which they are applied. The broker
// can not do so while it holds its mutex, and two members that tell of theirs
// after it would do it in any order.
type observer struct {
	f func(Commit)

	turn chan struct{} // holds a token, taken by who tells
	mu   sync.Mutex
	next []Commit // applied and not told
}

func newObserver(f func(Commit)) *observer {
	o := &observer{f: f, turn: make(chan struct{}, 1)}
	o.turn <- struct{}{}
	return o
}

// applied notes commits. The caller holds the broker's mutex.
func (o *observer) applied(cs ...Commit) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = append(o.next, cs...)
}

// tell returns when all commits that have been noted are told.
func (o *observer) tell() {
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
