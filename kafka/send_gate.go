package kafka

import "sync/atomic"

// A gate counts the calls that are inside, and can be closed: then no further call
// gets in, and close waits for the last one to leave. It costs an atomic addition
// each way.
type gate struct {
	state atomic.Int64  // how many are inside, plus gateClosed
	empty chan struct{} // holds a token once it is closed and empty
}

const gateClosed = 1 << 40

func (g *gate) init() { g.empty = make(chan struct{}, 1) }

// enter reports whether the gate was open. Only a call that got in may leave.
func (g *gate) enter() bool {
	if g.state.Add(1) < gateClosed {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateClosed {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// close closes the gate, once. The channel that it returns gives one token when no
// call is inside.
func (g *gate) close() <-chan struct{} {
	g.state.Add(gateClosed + 1)
	g.leave()
	return g.empty
}
