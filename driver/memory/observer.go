package memory

import "sync"

// An observer tells of commits in the order in which they are applied. The broker
// can not do so while it holds its mutex, and two members that tell of theirs
// after it would do it in any order.
type observer struct {
	f func(Commit)

	turn sync.Mutex // held by who tells
	mu   sync.Mutex
	next []Commit // applied and not told
}

// applied notes commits. The caller holds the broker's mutex, or is otherwise
// the only one.
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
	o.turn.Lock()
	defer o.turn.Unlock()
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
