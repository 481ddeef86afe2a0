package kafka

import (
	"context"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/window"
)

// A lane is a goroutine that hands out records of a partition one after the other, with
// its cursor: all records of the partition, or in a crew those that the lane takes. Other
// goroutines read only the progress of its run, failing, and since when it is stuck.
type lane struct {
	env     *env
	claim   *driver.Claim
	brake   *brake
	intake  *intake
	hands   hands     // how records reach the handler
	watched *delivery // its operations, to hooks; nil without hooks

	run     window.Run // the records that it has taken
	i       int        // the record of run that comes next: those before are done
	size    int        // how many records the attempt under way is about
	attempt int        // at them; 0 before the first
	quick   bool       // the attempt is a first one, and nothing but its end has to be noted
	goexit  bool       // the handler ended the lane's last goroutine
	failed  bool       // a record of the partition may have failed under an earlier claim
	delays  bool       // its records come from a retry topic: each has one attempt
	sifted  int        // how many of run have been looked at, of a retry topic
	moved   bool       // a record has been handled

	open     []*failure  // what its handler has failed, until it is handed out again or done
	later    []*failure  // what was handed out again, until it is done or has failed again; see rejoin
	failing  failing     // the same and more, to others
	settled  bool        // what open has is counted and reported to the end
	deciding bool        // decide was called, and nothing was handed out since
	again    bool        // it has let through what had failed
	row      *row        // of dead letters, since a record was handled
	ticket   *gateTicket // leave to hand out one record though the consumer is held
	probe    *gateTicket // the same, for the attempt under way
	timeout  timeout

	paid bool        // the rate has allowed the record that comes next
	turn *rateTicket // made when it is needed

	seat *seat // in its partition's crew; nil if it is the partition's only lane
}

// A row counts the dead letters of a partition since a record of it was handled.
type row struct{ n atomic.Int32 }

func (r *row) add() int { return int(r.n.Add(1)) }
func (r *row) end() {
	if !r.empty() {
		r.n.Store(0)
	}
}
func (r *row) empty() bool { return r.n.Load() == 0 }

func newLane(e *env, c *driver.Claim, b *brake, in *intake) *lane {
	l := &lane{env: e, claim: c, brake: b, intake: in, hands: e.handler.hands(e), failing: newFailing()}
	l.timeout.env, l.timeout.claim = e, c
	l.row = new(row)
	_, l.delays = e.retries.place(c.Topic)
	if e.hooks != nil {
		l.watched = newDelivery(e, c)
	}
	return l
}

// work hands out records until the partition is halted. Before each chunk, and each
// time that a record is handed out again, the clock decides whether the session is
// over; see session_deadline.go.
func (l *lane) work() {
	l.failed = l.env.ledger.has(keyOf(l.claim))
	if len(l.open) > 0 {
		l.goexit = false // a hook ended the goroutine that decided
	}
	for {
		l.env.keeper.checkClock(l.claim)
		if l.delays {
			l.sift()
		}
		if l.undecided() && l.decide() == leave {
			l.leave(l.lastErr(), false)
			return
		}
		err := l.call()
		interrupted := err != nil && l.brake.ctx.Err() != nil
		l.endAttempt(err, interrupted)
		switch {
		case interrupted:
			// A handler that its context interrupts has not failed. The canceller
			// halts the partition, too, though a shutdown whose time is up already
			// may do so only afterwards.
			l.leave(err, interrupted)
			<-l.brake.haltC
			return
		case err != nil && l.late():
			l.leave(err, false)
			return
		case err != nil:
			l.fail(err)
		case l.brake.halted():
			l.leave(nil, false)
			return
		case l.i == len(l.run.Records):
			if !l.next() {
				return
			}
		}
	}
}

// undecided reports whether something has to be decided before records at hand go to
// the handler. An attempt that a Goexit has ended comes first: call reports its failure.
func (l *lane) undecided() bool {
	return !l.goexit && l.i < len(l.run.Records) && (len(l.open) > 0 || len(l.later) > 0 || !l.brake.free())
}

// late reports whether the handler has outlived its claim.
func (l *lane) late() bool { return l.brake.givenUp() && !l.env.autoCommit }

// lastErr returns what the latest attempt came to, if its records are still open.
func (l *lane) lastErr() error {
	if len(l.open) == 0 {
		return nil
	}
	return l.open[0].err
}

// next releases the records that are done and waits for more. It returns false when
// the partition is halted. In a crew it does not wait: it returns false if there are none.
func (l *lane) next() bool {
	if l.seat != nil {
		return l.nextOfCrew()
	}
	if l.watched != nil {
		l.watched.beginReceive(l.brake.ctx)
		defer func() { l.watched.endReceive(l.received()) }()
	}
	l.unprobe() // an operator has skipped what was to be the probe
	limit, batch := l.hands.limit()
	var linger linger
	defer linger.stop()
	for {
		n, wait := 0, false
		if batch {
			n, wait = l.intake.takeBatch(&l.run, limit, linger.over)
		} else {
			n = l.intake.take(&l.run, limit)
		}
		l.i = 0
		if n > 0 {
			l.sifted = 0
			return true
		}
		if wait {
			linger.begin(l.env.batchLinger)
		}
		l.hands.rest()
		if l.intake.ahead() {
			l.env.schedule.ranEmpty()
		}
		select {
		case <-l.intake.wake:
		case <-linger.c:
			linger.over = true
		case <-l.brake.haltC:
			return false
		}
	}
}

// nextOfCrew takes the next record, if there is one for this lane. It does not wait, and
// so hooks hear of no wait that has brought nothing.
func (l *lane) nextOfCrew() bool {
	l.unprobe()
	if !l.seat.take() {
		return false
	}
	l.sifted = 0
	if l.watched != nil {
		l.watched.beginReceive(l.brake.ctx)
		l.watched.endReceive(l.received())
	}
	return true
}

// A linger is a lane's wait for a batch to fill.
type linger struct {
	over  bool // what has come is handed out
	c     <-chan time.Time
	timer *time.Timer
}

// begin starts it, once.
func (w *linger) begin(d time.Duration) {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
		w.c = w.timer.C
	}
}

func (w *linger) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// received returns what was taken and will be handed out.
func (l *lane) received() []driver.Record {
	if l.brake.halted() {
		return nil
	}
	return l.run.Records
}

// call hands out what is left of the run until something fails or the partition is
// halted. A panic of the handler is an error like any other; its Goexit ends this
// goroutine, and the next one reports it from here.
func (l *lane) call() (err error) {
	if l.goexit {
		l.goexit = false
		if l.attempt > 0 { // else it was a hook that ended it, with no record at hand
			return errGoexit
		}
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return l.hands.hand(l)
}

// record returns the record at hand.
func (l *lane) record() *driver.Record { return &l.run.Records[l.i] }

// begin says that the next record goes to the handler. It returns the context for that,
// or false if there is none, or the partition is halted.
func (l *lane) begin() (ctx context.Context, ok bool) {
	if l.i == len(l.run.Records) {
		return nil, false
	}
	return l.beginWith(l.run.Records[l.i:l.i+1], l.i+1)
}

// beginWith is begin for records after which begun of the run have been handed out.
func (l *lane) beginWith(records []driver.Record, begun int) (ctx context.Context, ok bool) {
	if l.i == len(l.run.Records) || !l.brake.free() && !l.mayBegin(len(records)) {
		return nil, false
	}
	l.paid = false
	l.probe, l.ticket = l.ticket, nil
	if l.deciding {
		l.handOut()
	}
	l.attempt++
	l.size = 1
	_, before := l.run.Progress()
	l.run.Advance(l.i, max(begun, before))
	if l.env.autoCommit {
		l.env.schedule.moved()
	}
	l.quick = l.attempt == 1 && l.watched == nil && l.moved && !l.failed && l.env.handlerTimeout == 0 && l.row.empty()
	ctx = l.brake.ctx
	if l.watched != nil {
		ctx = l.watched.beginAttempt(ctx, records, l.attempt)
	}
	return l.timeout.begin(ctx, &records[0]), true
}

// pass says that the record at hand is done, and begins the next one. Where nothing
// else has to be noted of the two, one store publishes both.
func (l *lane) pass(ctx context.Context) (context.Context, bool) {
	if !l.quick || !l.brake.free() {
		l.finish(OutcomeDone)
		return l.begin()
	}
	l.i++
	if l.i < len(l.run.Records) {
		l.run.Advance(l.i, l.i+1)
		l.env.schedule.moved()
		return ctx, true
	}
	l.attempt = 0
	if l.seat != nil {
		l.seat.pass()
		return nil, false
	}
	l.run.Advance(l.i, l.i)
	l.env.schedule.moved()
	return nil, false
}

// finish says that the records at hand are done, and how, unless the handler has
// outlived its claim. The position is published before the committer is woken, so none
// is overlooked.
func (l *lane) finish(how Outcome) {
	l.timeout.done()
	late := l.late()
	if l.watched != nil {
		l.watched.done(how, late)
	}
	at := l.i
	l.i += l.size
	if !late {
		l.run.Advance(l.i, l.i)
		if l.seat != nil {
			l.seat.finish()
		}
	}
	l.env.schedule.moved()
	if l.attempt > 1 || l.failed || len(l.later) > 0 || how != OutcomeDone {
		l.forgive(l.run.Records[at:l.i])
	}
	l.attempt = 0
	l.passed(how)
}

// passed notes that records are done, and how.
func (l *lane) passed(how Outcome) {
	if how == OutcomeDone {
		l.row.end()
	}
	if l.probe != nil {
		l.probed(how == OutcomeDone)
	}
	if !l.moved {
		l.moved = true
		l.env.keeper.progressed()
	}
}

// advance says that some records of the run are done, and how; all before the one at i
// are.
func (l *lane) advance(i int, finished []driver.Record, how Outcome) {
	late := l.late()
	if l.watched != nil && l.watched.part(len(finished), how, late) {
		l.attempt = 0
	}
	l.forgive(finished)
	l.i = i
	if !late {
		_, begun := l.run.Progress()
		l.run.Advance(i, max(i, begun))
	}
	l.env.schedule.moved()
	l.passed(how)
}

// forgive strikes out the failures of records that are done. The cursor has just passed
// them, and no hook was called since: a hook that ends the goroutine leaves no failure
// behind whose record is done. Another goroutine would take the next record for it.
func (l *lane) forgive(records []driver.Record) {
	key := keyOf(l.claim)
	l.open, l.later = without(l.open, records), without(l.later, records)
	for i := range records {
		l.env.ledger.strike(key, records[i].Offset)
		l.failing.forget(records[i].Offset)
	}
	l.failed = l.env.ledger.has(key)
}

// without returns a copy of fs that lacks the failures of records. A caller goes over fs.
func without(fs []*failure, records []driver.Record) (left []*failure) {
	for _, f := range fs {
		if !slices.ContainsFunc(records, func(r driver.Record) bool { return r.Offset == f.record.Offset }) {
			left = append(left, f)
		}
	}
	return left
}

// endAttempt reports to the hooks an attempt that came to err.
func (l *lane) endAttempt(err error, interrupted bool) {
	l.timeout.done()
	if l.watched != nil {
		l.watched.endAttempt(outcomeOf(err, interrupted))
	}
}

// leave reports to the hooks that the record at hand, whose latest attempt came to
// err, is left to the next owner. Without an error the next attempt was on its
// way: a delivery that is still open is never done.
func (l *lane) leave(err error, interrupted bool) {
	l.unprobe()
	if l.watched != nil {
		l.watched.end(outcomeOf(err, interrupted || err == nil))
	}
}
