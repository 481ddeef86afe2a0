package kafka

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/lanes"
)

// A crew is the lanes of a partition whose records are handled many at once, or of which
// a failing record does not hold up the others. Each lane sits in a seat, and has one
// record at a time. It decides alone what becomes of its record, exactly as the lane of
// a partition that keeps its order does; see failure.go.
//
// A partition has as many places as ConsumerConfig.Parallelism says. A lane has one
// while its handler runs. A lane whose record has failed gives its place back before it
// waits or sends, and another lane takes the next record. When the record is due again
// its lane queues for a place. So failing records never use up the places.
//
// Goroutines begin when a record is ready and a place is free, and end when no record is
// ready: an idle partition has none.
type crew struct {
	env    *env
	claim  *driver.Claim
	brake  *brake
	intake *intake
	most   int            // places
	row    *row           // of dead letters
	lanes  sync.WaitGroup // those that have a goroutine, or ask for a place of the consumer

	// What follows is guarded by the intake's mutex, as the window is.
	window     *lanes.Window
	open       bool           // lanes may begin: those of the claim before have ended
	seats      map[*seat]bool // all of them
	free       *seat          // those without a goroutine, linked by next
	live       int            // those with one
	taken      int            // places
	coming     int            // of these, those of lanes that have not looked for a record yet
	failed     int            // lanes whose record has failed, or waits for the end of a hold or a pause; a status shows them as BackingOff
	returning  []*seat        // of these, those that wait for a place, in order
	tookFailed bool           // the latest record that was taken had failed before
	rateTurn   *rateTicket    // waits, for a record that no lane has taken; nil if none does
	admitted   int            // records that the rate has allowed and no lane has taken
	gated      int            // lanes that have a record, and wait or will wait at the gate
	leftUndone int            // records that lanes have left undone as they ended

	asking []*seat // wait for a place of the consumer; the mutex of places guards it
}

// A seat is the place of one lane in a crew. Where nothing else is said, the intake's
// mutex guards it.
type seat struct {
	crew   *crew
	lane   *lane
	next   *seat
	resume chan struct{} // holds one token: the seat has a place again

	slot   lanes.Slot       // of the lane's latest record; its goroutine's
	one    [1]driver.Record // that record, or none; its goroutine's
	passed bool             // the record is done, and the window does not know; its goroutine's
	kicked bool             // it has left the queue for a place because an operator asked; its goroutine's

	offset int64 // of the record, or -1
	undone bool  // the window does not know that the record is done
	placed bool  // it has a place
	owns   bool  // and one of the consumer's
	coming bool  // its lane has not looked for a record yet
	waits  bool  // counted in failed
	gated  bool  // counted in crew.gated

	goroutine atomic.Uint64 // the lane's latest, for calls that a handler must not make
}

func newCrew(e *env, c *driver.Claim, b *brake, in *intake) *crew {
	crew := &crew{
		env: e, claim: c, brake: b, intake: in, most: e.parallelism, row: new(row), window: in.many,
		seats: make(map[*seat]bool),
	}
	in.wait.ring = crew.ring
	return crew
}

// run lets lanes begin, and returns when the partition is halted and all have ended.
func (c *crew) run() {
	c.intake.mu.Lock()
	c.open = true
	seats := c.staff()
	c.intake.mu.Unlock()
	c.begin(seats)
	<-c.brake.haltC
	c.intake.mu.Lock()
	c.unaskRate()
	c.intake.mu.Unlock()
	c.dismiss(c.env.places.withdraw(c))
	c.intake.mu.Lock()
	c.open = false // no lane is added behind Wait
	c.intake.mu.Unlock()
	c.lanes.Wait()
}

// staff returns seats, linked by next, of as many lanes as have something to do and get a
// place. Each of them has to begin. Called under the intake's mutex.
func (c *crew) staff() (first *seat) {
	if !c.open || c.brake.halted() {
		return nil
	}
	wanted := len(c.returning)
	if !c.still() {
		wanted += c.fresh()
	}
	for n := min(wanted-c.coming, c.most-c.taken); n > 0; n-- {
		s := c.seat()
		s.placed, s.coming = true, true
		c.taken++
		c.coming++
		c.live++
		c.lanes.Add(1)
		s.next, first = first, s
	}
	return first
}

// ready returns how many lanes may begin for records that are ready. In a retry topic it
// is one at a time: how many of them are due shows when the first one has been taken.
// Called under the intake's mutex.
func (c *crew) ready() int {
	n := c.window.Counts().Ready
	if c.intake.delays() {
		n = min(n, 1)
	}
	return n
}

// still reports that no lane may take a record that has not been handed out: the partition
// is paused, or the consumer is held, and a lane that has one waits at the gate, as the next
// probe, or the next record of a retry topic is not due. Called under the intake's mutex.
func (c *crew) still() bool {
	return c.brake.paused() || c.gated > 0 && c.brake.held() || c.early()
}

// seat returns a seat without a goroutine.
func (c *crew) seat() *seat {
	if s := c.free; s != nil {
		c.free, s.next = s.next, nil
		return s
	}
	s := &seat{crew: c, offset: -1, resume: make(chan struct{}, 1)}
	s.lane = newLane(c.env, c.claim, c.brake, c.intake)
	s.lane.seat, s.lane.row = s, c.row
	c.seats[s] = true
	return s
}

// begin starts the goroutines of seats that staff has returned, or lets them wait for a
// place of the consumer first. None waits with what the rate has allowed.
func (c *crew) begin(first *seat) {
	waits := false
	for s := first; s != nil; {
		next := s.next
		s.next = nil
		if c.env.places == nil || c.env.places.ask(s) {
			go s.work()
		} else {
			waits = true
		}
		s = next
	}
	if waits && c.brake.rated() {
		c.intake.mu.Lock()
		c.unadmit()
		c.intake.mu.Unlock()
	}
}

// dismiss ends seats that have not begun.
func (c *crew) dismiss(seats []*seat) {
	for _, s := range seats {
		s.end()
	}
}

// work is the goroutine of a lane. A handler that calls runtime.Goexit ends it: then
// another one takes its place.
func (s *seat) work() {
	ended := false
	defer func() {
		if !ended {
			s.lane.goexit = true
			go s.work()
		}
	}()
	s.goroutine.Store(goroutineID())
	s.lane.work()
	ended = true
	s.end()
}

// end gives up the seat, and its place if it has one.
func (s *seat) end() {
	c, l := s.crew, s.lane
	defer c.lanes.Done()
	s.goroutine.Store(0)
	l.hands.rest()
	c.intake.mu.Lock()
	moved := s.settle()
	s.arrived()
	s.leaveGate()
	s.recovered()
	owned := s.giveUp()
	clean := l.i == len(l.run.Records) && len(l.open) == 0
	l.run.Records, s.one[0], l.i, l.attempt = nil, driver.Record{}, 0, 0
	if s.undone {
		s.undone = false
		c.leftUndone++
	}
	s.offset, s.kicked = -1, false
	c.live--
	if clean && len(c.seats)-c.live <= c.most {
		s.next, c.free = c.free, s
	} else {
		delete(c.seats, s)
	}
	seats := c.staff()
	dry := c.live == 0 && c.window.Counts().Undone == 0
	unmet, turned := c.judge()
	c.intake.mu.Unlock()
	if moved {
		c.env.schedule.moved()
	}
	if owned {
		c.env.places.release()
	}
	c.begin(seats)
	if c.brake.halted() {
		l.failing.close()
	}
	if dry && c.intake.ahead() {
		c.env.schedule.ranEmpty()
	}
	c.intake.settle(unmet, turned)
}

// judge is the intake's, but no halted partition is paused or resumed: its claim ends, or
// has ended. Called under the intake's mutex.
func (c *crew) judge() (unmet, turned bool) {
	if c.brake.halted() {
		return false, c.intake.count()
	}
	return c.intake.judge()
}

// arrived notes that the lane looks for a record. Called under the intake's mutex.
func (s *seat) arrived() {
	if s.coming {
		s.coming = false
		s.crew.coming--
	}
}

// settle finishes the record at hand in the window, if it is done. It reports whether
// that is news. Called under the intake's mutex.
func (s *seat) settle() (moved bool) {
	if !s.passed {
		return false
	}
	s.passed, s.undone = false, false
	s.crew.window.Finish(s.slot)
	return true
}

// take settles the record at hand and takes the next one. It returns false if there is
// none for this lane: then its goroutine has to end.
//
// Whether the partition is halted, held or paused is asked under the mutex under which the
// record is taken. Otherwise this could happen: a lane finds the partition running, a
// revocation halts it and finds no lane at work, and then the lane takes a record.
func (s *seat) take() bool {
	c, l := s.crew, s.lane
	yield := c.env.places.contended() && !s.coming
	c.intake.mu.Lock()
	moved := s.settle()
	s.arrived()
	var next *seat // gets the place
	got := false
	if s.placed && !c.brake.halted() && !yield {
		if next = s.handOver(); next == nil {
			got = s.pick()
		}
	}
	if got {
		l.run.Records, l.i = s.one[:], 0
		l.run.Advance(0, 0)
	}
	seats := c.staff()
	unmet, turned := c.judge()
	c.intake.mu.Unlock()
	if next != nil {
		next.resume <- struct{}{} // never blocks: it has left the queue once, and waits for one token
	}
	if moved {
		c.env.schedule.moved()
	}
	c.begin(seats)
	c.intake.settle(unmet, turned)
	return got
}

// handOver gives the place to a lane whose record has failed and is due, if it is such a
// lane's turn: they take turns with records that have not been handed out. Probes come
// first. It returns that lane's seat, or nil; the caller sends the seat its token. Called
// under the intake's mutex.
func (s *seat) handOver() *seat {
	c := s.crew
	if len(c.returning) == 0 {
		return nil
	}
	r := c.returning[0]
	if c.tookFailed && r.lane.ticket == nil && !c.still() && c.window.Counts().Ready > 0 && c.payable() {
		return nil
	}
	c.tookFailed = true
	c.returning = c.returning[1:]
	r.placed, s.placed = true, false
	r.owns, s.owns = s.owns, false
	r.recovered()
	return r
}

// pick takes a record that is ready, if there is one. Called under the intake's mutex.
func (s *seat) pick() bool {
	c := s.crew
	if c.still() || c.window.Counts().Ready == 0 || !c.pay() {
		return false
	}
	slot, r, ok := c.window.Take()
	if !ok {
		return false
	}
	s.lane.paid = c.brake.rated()
	c.tookFailed = false
	s.slot, s.one[0], s.offset, s.undone = slot, *r, r.Offset, true
	return true
}

// pass says that the record at hand is done. The window learns of it when the lane takes
// the next one, or ends.
func (s *seat) pass() { s.passed = true }

// finish is pass, and the window learns of it at once.
func (s *seat) finish() {
	c := s.crew
	s.pass()
	c.intake.mu.Lock()
	s.settle()
	seats := c.staff()
	unmet, turned := c.judge()
	c.intake.mu.Unlock()
	c.begin(seats)
	c.intake.settle(unmet, turned)
}

// park gives the place back, if the seat has one: its record has failed, or the consumer
// is held, or the partition paused. A record that waits at the gate keeps others from being taken.
func (s *seat) park(gate bool) {
	c := s.crew
	c.intake.mu.Lock()
	if gate && !s.gated {
		s.gated = true
		c.gated++
	}
	owned := s.giveUp()
	if !s.waits {
		s.waits = true
		c.failed++
	}
	seats := c.staff()
	c.intake.mu.Unlock()
	if owned {
		c.env.places.release()
	}
	c.begin(seats)
}

// giveUp gives back the place, if the seat has one, and reports whether one of the
// consumer's has to be released. Called under the intake's mutex.
func (s *seat) giveUp() (owned bool) {
	if s.placed {
		s.placed = false
		s.crew.taken--
	}
	owned, s.owns = s.owns, false
	return owned
}

// yield gives back the lane's place in its crew, if its record has failed or has to wait
// at the gate.
func (l *lane) yield() {
	if fresh := len(l.open) == 0; l.seat != nil && (!fresh || l.brake.waits()) {
		l.seat.park(fresh)
	}
}

// giveWay gives back a place that the record at hand does not need yet. An operator's
// order can come together with the place: then the record is to be sent, or waits again.
func (l *lane) giveWay() {
	if l.seat != nil && l.seat.placed {
		l.seat.park(false)
	}
}

// placed waits for a place in the lane's crew, if the record at hand needs one, and
// reports whether it had one: after a wait everything has to be looked at again.
func (l *lane) placed() bool {
	s := l.seat
	if s == nil {
		return true
	}
	if s.gated { // the hold or the pause has ended before the lane was at the gate
		s.pastGate()
	}
	if s.placed || l.i == len(l.run.Records) {
		return true
	}
	s.unpark()
	if l.ticket != nil && !l.env.hold.probes(l.ticket) {
		l.ticket = nil // another record was the probe meanwhile
	}
	return false
}

// recovered notes that the record at hand no longer waits. Called under the intake's
// mutex.
func (s *seat) recovered() {
	if s.waits {
		s.waits = false
		s.crew.failed--
	}
}

// unpark waits for a place, unless the partition is halted or an operator asks for
// something. One for a probe is the next, and so is one for a lane that has left the queue
// for an operator.
func (s *seat) unpark() {
	c, l := s.crew, s.lane
	c.intake.mu.Lock()
	if l.ticket != nil || s.kicked {
		c.returning = slices.Insert(c.returning, 0, s)
	} else {
		c.returning = append(c.returning, s)
	}
	s.kicked = false
	seats := c.staff()
	c.intake.mu.Unlock()
	c.begin(seats)
	select {
	case <-s.resume:
	case <-c.brake.haltC:
		s.unqueue()
	case <-l.failing.kick:
		s.kicked = !s.unqueue()
	}
}

// unqueue takes the seat out of those that wait for a place, unless it has got one
// meanwhile, and reports whether it has. When the partition is halted all of them leave, and
// the first one empties the queue: to search a long queue for each of them would take long.
func (s *seat) unqueue() (placed bool) {
	c := s.crew
	c.intake.mu.Lock()
	if c.brake.halted() {
		c.returning = nil
	} else if i := slices.Index(c.returning, s); i >= 0 {
		c.returning = slices.Delete(c.returning, i, i+1)
	}
	placed = s.placed
	c.intake.mu.Unlock()
	if placed {
		<-s.resume
	}
	return placed
}

// pastGate notes that the lane no longer waits at the gate.
func (s *seat) pastGate() {
	c := s.crew
	c.intake.mu.Lock()
	s.leaveGate()
	seats := c.staff()
	c.intake.mu.Unlock()
	c.begin(seats)
}

// leaveGate is pastGate under the intake's mutex, without new lanes.
func (s *seat) leaveGate() {
	if s.gated {
		s.gated = false
		s.crew.gated--
	}
}

// each calls f for the seats that have a record, under the intake's mutex.
func (c *crew) each(f func(*seat)) {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	for s := range c.seats {
		if s.offset >= 0 {
			f(s)
		}
	}
}

// fill sets what a status says of a crew.
func (c *crew) fill(ps *PartitionStatus) {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	n := c.window.Counts()
	ps.Undone, ps.Waiting, ps.DoneAbove = n.Undone, n.Waiting, n.Done
	ps.BackingOff, ps.Workers = c.failed, max(0, n.Running-c.failed-c.leftUndone)
}
