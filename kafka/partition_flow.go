package kafka

// A pauseReason is one reason for which a claim is not fetched. A partition has
// a set of them: each is set and lifted by its owner alone, so that none lifts
// another.
type pauseReason uint8

const (
	pauseOperator pauseReason = 1 << PausedByOperator // the operator's; see pauses
	pauseQueue    pauseReason = 1 << PausedByQueue    // the partition's own queue is above its bounds
	pauseTotal    pauseReason = 1 << PausedByTotal    // the consumer's queues together are; see budget
	pauseDone     pauseReason = 1 << PausedByDone     // too many records are done above one that is not
)

// list returns the reasons for a status.
func (r pauseReason) list() (all []PauseReason) {
	for one := range pauseReasonCount {
		if r&(1<<one) != 0 {
			all = append(all, one)
		}
	}
	return all
}

// A flow is why a claim should be paused and whether it is. It is guarded by the
// intake's mutex, which is not held while the driver is called.
type flow struct {
	reasons  pauseReason // the claim should be paused while there is one
	have     bool        // the driver has been called to pause
	changing bool        // a goroutine calls the driver
}

func (f *flow) set(r pauseReason)  { f.reasons |= r }
func (f *flow) lift(r pauseReason) { f.reasons &^= r }

// unmet reports whether the driver has to be called, and no goroutine does.
func (f *flow) unmet() bool { return (f.reasons != 0) != f.have && !f.changing }

// syncFlow brings the driver to the wanted state. The reasons are decided under
// the mutex, where the window is looked at; and while one goroutine calls the
// driver, another one only leaves its reason, which the first one sees before it
// stops. Otherwise this could happen: Deliver finds the queue full, the lane
// empties it and resumes, then the pause arrives, and nothing ever resumes.
func (in *intake) syncFlow() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.flow.unmet() {
		pause := in.flow.reasons != 0
		in.flow.changing = true
		in.mu.Unlock()
		in.callDriver(pause)
		in.mu.Lock()
		in.flow.have, in.flow.changing = pause, false
	}
}

// callDriver pauses or resumes the claim. A driver that panics does not take the lane
// along.
func (in *intake) callDriver(pause bool) {
	err := guard(func() error {
		if pause {
			in.env.driver.Pause(in.claim)
		} else {
			in.env.driver.Resume(in.claim)
		}
		return nil
	})
	if err != nil {
		in.env.log.Error("kafka: driver failed", "topic", in.claim.Topic, "partition", in.claim.Partition,
			"pause", pause, "error", loggable(err))
	}
}

// judgeQueue sets or lifts pauseQueue: above a bound it is set, and lifted when
// half is gone. It is also lifted when the queue is within its bounds and no record is
// ready. Otherwise records that wait behind a failing one would stop their partition
// when they fill half of the queue.
//
// pauseDone is set while the window is full, and lifted as soon as it is not. Records that
// fail keep it from having more room than that, so half might never be free. Called under
// the mutex.
func (in *intake) judgeQueue() {
	n, bytes := in.window.Len(), in.window.Bytes()
	most, mostBytes := in.env.maxMessages, in.env.maxBytes
	switch {
	case n > most || bytes > mostBytes:
		in.flow.set(pauseQueue)
	case n <= most/2 && bytes <= mostBytes/2, in.window.Idle():
		in.flow.lift(pauseQueue)
	}
	if in.window.Full() {
		in.flow.set(pauseDone)
	} else {
		in.flow.lift(pauseDone)
	}
}
