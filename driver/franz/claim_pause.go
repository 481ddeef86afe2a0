package franz

import "time"

// A claim that the core has paused keeps one batch that arrives, and has kgo pause the
// partition then. To have kgo pause at once would waste a fetch: kgo throws away what it
// has buffered of a paused partition, and fetches it again.

func (cl *claim) pause() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.done {
		cl.paused = true
	}
}

// resume ends a pause. It calls kgo with mu held, which waits for nothing there. Otherwise
// the partition could leave, come back, and be resumed as a new claim that is paused,
// between the look at done and the call.
func (cl *claim) resume() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.done || !cl.paused {
		return
	}
	cl.paused = false
	cl.moved.Store(time.Now().UnixNano()) // nothing can have come before
	if cl.stopped {
		cl.stopped = false
		cl.proceed()
	}
	if len(cl.held) > 0 {
		cl.session.turn.nudge() // the poll loop delivers it
	}
}

// proceed lets kgo fetch again, unless there is another reason not to. It is called with
// mu held.
func (cl *claim) proceed() {
	if !cl.stopped && !cl.standing {
		cl.session.client.ResumeFetchPartitions(byTopic(cl.where))
	}
}

// stop has kgo pause the claim if the core has paused it. It is called by the poll loop as
// soon as a batch has come: kgo has probably not yet asked for the next one.
func (cl *claim) stop() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.done && cl.paused && !cl.stopped {
		cl.stopped = true
		cl.session.client.PauseFetchPartitions(byTopic(cl.where))
	}
}

// stand keeps kgo from fetching records that cannot be read.
func (cl *claim) stand() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.done && !cl.standing {
		cl.standing = true
		cl.session.client.PauseFetchPartitions(byTopic(cl.where))
	}
}

// readAgain lets kgo fetch once more the records that could not be read: they may have been
// removed, or another replica may hold them intact. It reports false if the claim is
// paused anyway.
func (cl *claim) readAgain() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.done || cl.paused {
		return false
	}
	if cl.standing {
		cl.standing = false
		cl.proceed()
	}
	return true
}

// isStanding reports whether the claim waits for a look.
func (cl *claim) isStanding() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.standing
}

// isIdle reports whether the claim is paused or cannot be read on.
func (cl *claim) isIdle() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.paused || cl.standing
}
