package kafka

import (
	"context"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

// A partition is the core's side of one claim. It joins the rooms that do the work,
// each of which knows only what lies below it:
//
//   - the intake holds the records that were delivered, and when to pause;
//   - the lane is the goroutine that hands them to the handler, with its cursor; or the
//     crew has several lanes that do, and each has one record at a time;
//   - the brake stops the lane or the crew;
//   - the env is what all of them need from above.
//
// The goroutine is started by Assign and ends after the brake is pulled; Revoke waits
// for it, or else the job does.
type partition struct {
	env    *env
	claim  *driver.Claim
	brake  *brake
	intake *intake
	lane   *lane // nil if there is a crew
	crew   *crew // nil if there is one lane

	sought atomic.Bool // Seek ends the claim: no other member waits for the partition

	done  chan struct{} // closed when the lane or the crew has handed out its last record
	clear chan struct{} // closed when done, and before is clear too

	// before is the partition of the claim before on the same topic and number, if
	// that was not clear yet. The mutex of the job's workers guards it.
	before *partition

	// The lane's latest, or the crew's; 0 until it may begin. Calls that a handler must
	// not make ask hasGoroutine.
	goroutine atomic.Uint64
}

func newPartition(e *env, c *driver.Claim) *partition {
	brake := newBrake(e.ctx)
	e.hold.enlist(brake)
	intake := newIntake(e, c)
	p := &partition{
		env:    e,
		claim:  c,
		brake:  brake,
		intake: intake,
		done:   make(chan struct{}),
		clear:  make(chan struct{}),
	}
	if intake.many != nil {
		p.crew = newCrew(e, c, brake, intake)
		intake.crew = p.crew
	} else {
		p.lane = newLane(e, c, brake, intake)
	}
	e.rate.enlist(brake)
	e.pauses.enlist(p)
	return p
}

// ended reports whether the lane or the crew has handed out its last record.
func (p *partition) ended() bool { return isClosed(p.done) }

// deliver queues a batch, unless nothing is handed out any longer.
func (p *partition) deliver(b driver.Batch) {
	if !p.brake.halted() {
		p.intake.deliver(b)
	}
}

// giveUp says that the claim has ended, or that its window has: a handler that
// runs is no longer waited for, and what it comes to is not committed.
func (p *partition) giveUp() {
	p.brake.giveUp()
	p.intake.uncount()
}

// work is the goroutine of the lane, or of the crew, whose lanes have goroutines of their
// own. It begins when no handler of an earlier claim of this partition runs in this
// process: one whose window ran out may still be at it. A handler that calls
// runtime.Goexit ends the goroutine: then another one takes its place.
func (p *partition) work(before *partition) {
	ended := false
	defer func() {
		if !ended {
			if p.lane != nil {
				p.lane.goexit = true
			}
			go p.work(before)
		}
	}()
	if before.awaitClear(p.brake.haltC) {
		p.env.workers.unchain(p)
		before = nil
		p.goroutine.Store(goroutineID())
		if p.crew != nil {
			p.crew.run()
		} else {
			p.lane.work()
		}
	}
	ended = true
	p.intake.endWait()
	p.closeFailing()
	p.env.hold.drop(p.brake)
	p.env.pauses.drop(p)
	p.env.rate.drop(p.brake)
	p.brake.cancel(context.Canceled)
	p.brake.endSends()
	close(p.done)
	before.awaitClear(nil)
	close(p.clear)
	p.env.workers.forget(p)
}

// awaitClear waits until p and all before it have ended, or stop is closed, and
// reports which. A nil p has.
func (p *partition) awaitClear(stop <-chan struct{}) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.clear:
		return true
	case <-stop:
		return false
	}
}

// each calls f for the lanes that have a record, or may have one.
func (p *partition) each(f func(*lane)) {
	if p.crew != nil {
		p.crew.each(func(s *seat) { f(s.lane) })
		return
	}
	f(p.lane)
}

// closeFailing refuses what operators ask for from now on.
func (p *partition) closeFailing() {
	p.each(func(l *lane) { l.failing.close() })
}

// failingOf returns where the failures of a record are noted, or nil if no lane has it.
func (p *partition) failingOf(offset int64) (found *failing) {
	p.each(func(l *lane) {
		if l.seat == nil || l.seat.offset == offset {
			found = &l.failing
		}
	})
	return found
}

// hasGoroutine reports whether a lane runs on that goroutine.
func (p *partition) hasGoroutine(id uint64) (has bool) {
	if p.crew == nil {
		return p.goroutine.Load() == id
	}
	p.crew.each(func(s *seat) { has = has || s.goroutine.Load() == id })
	return has
}
