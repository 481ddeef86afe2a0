package kafka

import "sync/atomic"

// A budget bounds what the queues of one session's partitions hold together, as
// ConsumerConfig.MaxTotalBufferedBytes asks. It is tight from the moment when the
// total exceeds the bound until it has fallen to half of it. While it is tight, a
// partition that holds more than an equal share of the bound is paused, until it
// holds no more than half a share.
//
// So a partition that holds little is fetched whatever the others hold: those
// whose handler fails keep their records and never starve a healthy one.
//
// A pause depends on three numbers that others change: tight, the share, and what
// the partition holds. Each change is followed by a judgement of every partition
// that it can affect, under the intake's mutex:
//
//   - The partition's own queue: by the goroutine that has changed it, at once.
//   - tight: by reflow, which visits every live partition. Let a partition read
//     the old value, and set or lift its pause by it. It does so while it holds its
//     mutex, and before the value turns; the visit begins after that, waits for the
//     mutex, and judges by the new value.
//   - The share: by reflow too, which Assign and end call after the number of
//     partitions has changed.
type budget struct {
	most    int64        // 0 is no bound: nothing is counted
	total   atomic.Int64 // what the queues of the live partitions cost
	sharers atomic.Int64 // how many live partitions there are
	tight   atomic.Bool
}

// bounds reports whether there is a bound.
func (b *budget) bounds() bool { return b.most != 0 }

// split notes how many partitions share the bound.
func (b *budget) split(n int) { b.sharers.Store(int64(n)) }

// share is what each partition may hold while the budget is tight.
func (b *budget) share() int64 { return b.most / max(1, b.sharers.Load()) }

// add changes the total, and brings tight in step with it. It reports whether
// tight has turned: then the caller must call keeper.reflow.
//
// It looks again after each turn. Otherwise this could happen: one goroutine
// exceeds the bound, another one empties its queue and finds tight false still,
// then the first one makes it true; and it stays so with nothing in the queues.
func (b *budget) add(change int64) (turned bool) {
	b.total.Add(change)
	for {
		total, tight := b.total.Load(), b.tight.Load()
		if tight && total > b.most/2 || !tight && total <= b.most {
			return turned
		}
		turned = b.tight.CompareAndSwap(tight, !tight) || turned
	}
}

// count counts what the window has gained or lost since it was last counted, and
// judges the partition. It reports whether the caller, once it holds no mutex,
// must call keeper.reflow. Called under the mutex.
func (in *intake) count() (turned bool) {
	if !in.env.budget.bounds() || in.uncounted {
		return false
	}
	bytes := in.window.Bytes()
	change := bytes - in.counted
	in.counted = bytes
	turned = in.env.budget.add(int64(change))
	in.judgeTotal()
	return turned
}

// judgeTotal sets or lifts pauseTotal. Called under the mutex.
func (in *intake) judgeTotal() {
	b, held := in.env.budget, int64(in.counted)
	switch share, tight := b.share(), b.tight.Load(); {
	case tight && held > share:
		in.flow.set(pauseTotal)
	case !tight || held <= share/2:
		in.flow.lift(pauseTotal)
	}
}

// rejudge judges the partition by the budget as it is now.
func (in *intake) rejudge() {
	in.mu.Lock()
	in.judgeTotal()
	unmet := in.flow.unmet()
	in.mu.Unlock()
	if unmet {
		in.syncFlow()
	}
}

// uncount takes what the window of an ended claim holds out of the total. What a
// handler that outlives its claim still holds must not keep others paused. The
// caller calls keeper.reflow.
func (in *intake) uncount() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.uncounted {
		in.env.budget.add(-int64(in.counted))
		in.counted, in.uncounted = 0, true
	}
}

// reflow judges every live partition by the budget as it is now.
func (c *claims) reflow() {
	if !c.env.budget.bounds() {
		return
	}
	for _, p := range c.live() {
		p.intake.rejudge()
	}
}
