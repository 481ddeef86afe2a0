package sarama

import "time"

// holdTime is how long a paused claim only stops reading, before Sarama pauses it. When
// all partitions of a broker are paused, Sarama's fetch loop sleeps for 100 ms, so a
// handler that empties its queue in less time starves between a Pause and the fetch after
// the Resume. The price is that the other partitions of the broker wait as long, at most
// once per pause.
//
// With a queue of 10,000 records that resumes at half (BenchmarkSlowHandler), a
// record takes, against raw Sarama with the same handler:
//
//	handler                  2 µs   3 µs   5 µs   8 µs   12 µs  20 µs
//	raw Sarama               3.9    4.2    7.8    11.8   17.2   25.0
//	held for up to 50 ms     4.5    4.0    6.1    9.7    14.6   22.4
//	paused at once           6.3    6.7    7.9    11.9   14.2   22.3
//
// The bytes that are held while Sarama goes on fetching are bounded: see claims.arrived.
//
// It must be well below two ticks of Consumer.MaxProcessingTime, after which
// Sarama unsubscribes the partition.
const holdTime = 50 * time.Millisecond

func (cl *claim) pause() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && !cl.paused.Load() {
		cl.held.Store(0)
		cl.paused.Store(true)
		cl.pauses.Add(1)
		cl.wake()
	}
}

// resume ends a pause. It calls Sarama with mu held, which waits for nothing there. Otherwise
// the partition could leave, come back, and be paused as a new claim between the look at
// ended and the call.
func (cl *claim) resume() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.ended || !cl.paused.Swap(false) {
		return
	}
	if cl.stopped {
		cl.stopped = false
		cl.proceed()
	}
	cl.wake()
}

// proceed lets Sarama fetch again, unless there is another reason not to. It is
// called with mu held.
func (cl *claim) proceed() {
	if !cl.stopped && !cl.standing && !cl.behind.Load() {
		cl.group.Resume(list(cl.where))
	}
}

// stand keeps Sarama from fetching records that cannot be read.
func (cl *claim) stand() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && !cl.standing {
		cl.standing = true
		cl.group.Pause(list(cl.where))
	}
}

// tryAgain lets Sarama fetch once more the records that could not be read: they may have been
// removed, or another replica may hold them intact. It reports false if the claim is
// paused anyway.
func (cl *claim) tryAgain() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.ended || cl.stopped {
		return false
	}
	if cl.standing {
		cl.standing = false
		cl.proceed()
	}
	return true
}

func (cl *claim) isStanding() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.standing
}

// stop has Sarama pause the claim if it is still paused.
func (cl *claim) stop() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && cl.paused.Load() && !cl.stopped {
		cl.stopped = true
		cl.group.Pause(list(cl.where))
	}
}

// fallBehind has Sarama pause the claim until deliver has taken what has come.
func (cl *claim) fallBehind() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && !cl.behind.Load() {
		cl.behind.Store(true)
		cl.group.Pause(list(cl.where))
		cl.wake()
	}
}

// took notes that deliver has taken so many bytes, and has passed them on.
func (cl *claim) took(bytes int64) {
	for {
		n := cl.unread.Load()
		if cl.unread.CompareAndSwap(n, max(0, n-bytes)) {
			return
		}
	}
}

// catchUp lets Sarama fetch again after fallBehind. deliver has taken all that has come: some of
// it may have been no record, so what is counted does not say that.
func (cl *claim) catchUp() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && cl.behind.Load() {
		cl.behind.Store(false)
		cl.unread.Store(0)
		cl.proceed()
	}
}

func (cl *claim) wake() {
	select {
	case cl.signal <- struct{}{}:
	default:
	}
}

// awaitResume waits, reading nothing, for the pause to end, and has Sarama pause the claim if
// that takes long. It reports false when the claim is taken away.
func (cl *claim) awaitResume(done <-chan struct{}) bool {
	if cl.isStopped() {
		return true
	}
	t := time.NewTimer(holdTime)
	defer t.Stop()
	for cl.paused.Load() {
		select {
		case <-cl.signal:
		case <-t.C:
			cl.stop()
			return true
		case <-done:
			return false
		case <-cl.closing:
			return false
		}
	}
	return true
}

func (cl *claim) isStopped() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.stopped
}
