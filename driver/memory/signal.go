package memory

// A signal wakes everybody who waits for a change. The broker's mutex guards
// it; closing a channel under it blocks nobody.
type signal struct {
	ch chan struct{}
}

// wait returns what the next fire closes. Who looks at a state and takes the
// channel under one hold of the mutex misses no change of it.
func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
