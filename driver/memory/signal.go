package memory

// A signal wakes all goroutines that wait for a change. The broker's mutex guards it.
// Firing under the mutex does not block.
type signal struct {
	ch chan struct{}
}

// wait returns the channel that the next fire closes. A caller that reads a state and
// takes the channel under one hold of the mutex misses no change of the state.
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
