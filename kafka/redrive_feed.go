package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// A letterbox is one partition of a dead-letter topic in one run: from next, the lowest
// offset that is not done, to end. It outlives claims. The mutex of the feed guards it.
type letterbox struct {
	tp        TopicPartition
	next, end int64
	committed int64 // known to be durable
	moved     bool  // next is not where the last run has ended
	last      bool  // what follows is not to be read; set by the reader's visitor

	ahead map[int64]bool // done, and above next

	claim   *driver.Claim // nil while it is not owned
	leaving bool          // the claim is being revoked
	refused bool          // a commit under the claim was
	paused  bool          // the driver was asked to pause the claim
	queue   []*dead       // delivered, in order
	fetched int64         // up to which
	taken   int           // of the round that is under way
}

// complete reports whether nothing is left to be read.
func (b *letterbox) complete() bool { return b.next >= b.end }

// remaining returns how many offsets boxes have left.
func remaining(boxes []*letterbox) (n int64) {
	for _, b := range boxes {
		n += max(b.end-b.next, 0)
	}
	return n
}

// A dead is one dead letter.
type dead struct {
	box    *letterbox
	claim  *driver.Claim // under which it was delivered
	record driver.Record
	done   bool // it is sent, or not to be sent, and counted
}

// at returns the partition of the dead letter.
func (d *dead) at() TopicPartition { return d.box.tp }

// A feed is a reader's driver.Handler: what is delivered waits here until the goroutine of
// the run takes it.
type feed struct {
	log    *slog.Logger
	driver driver.Consumer
	boxes  []*letterbox
	most   int  // bytes that wait before claims are paused
	moves  bool // the positions move, those of other members too

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something has
	bytes   int
	turn    int  // the box that is taken from first
	joined  bool // once
	over    bool
	err     error // why it cannot go on
	steers  bool  // a goroutine is in steer
}

func newFeed(log *slog.Logger, d driver.Consumer, boxes []*letterbox, most int, moves bool) *feed {
	f := &feed{log: log, driver: d, boxes: boxes, most: most, moves: moves, changed: make(chan struct{})}
	for _, b := range boxes {
		b.fetched = b.next
	}
	return f
}

// mostWaiting is how many dead letters of one partition wait before its claim is paused.
const mostWaiting = 1000

// notify wakes what waits for a change. Called under the mutex.
func (f *feed) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Assign implements driver.Handler.
func (f *feed) Assign(claims []*driver.Claim) {
	defer f.steer()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joined = true
	for _, c := range claims {
		b := f.boxOf(c)
		if b == nil { // of a partition that is younger than the run
			continue
		}
		c.Owner = b
		b.claim, b.leaving, b.refused, b.paused = c, false, false, false
		if f.moves { // another run may have been here
			b.next = max(b.next, c.Start)
			b.committed = max(b.committed, c.Start)
		}
		b.fetched = b.next
	}
	f.notify()
}

func (f *feed) boxOf(c *driver.Claim) *letterbox {
	i := slices.IndexFunc(f.boxes, func(b *letterbox) bool { return b.tp == keyOf(c) })
	if i < 0 {
		return nil
	}
	return f.boxes[i]
}

// Deliver implements driver.Handler.
func (f *feed) Deliver(c *driver.Claim, batch driver.Batch) {
	defer f.steer()
	f.mu.Lock()
	defer f.mu.Unlock()
	b, _ := c.Owner.(*letterbox)
	if b == nil || b.claim != c || b.leaving || f.over {
		return
	}
	for _, rec := range batch.Records {
		b.fetched = max(b.fetched, rec.Offset+1)
		if rec.Offset >= b.next && rec.Offset < b.end {
			b.queue = append(b.queue, &dead{box: b, claim: c, record: rec})
			f.bytes += rec.Size()
		}
	}
	b.fetched = min(max(b.fetched, batch.Next), b.end)
	b.pass()
	f.notify()
}

// pass moves next over offsets that hold no record, if nothing waits or is under way.
func (b *letterbox) pass() {
	if len(b.queue) == 0 && b.taken == 0 {
		b.next = max(b.next, b.fetched)
	}
}

// drop forgets what waits of a box.
func (f *feed) drop(b *letterbox) {
	for _, d := range b.queue {
		f.bytes -= d.record.Size()
	}
	b.queue = nil
}

// Revoke implements driver.Handler. It waits until the round that is under way has been
// committed, if it has records of claims.
func (f *feed) Revoke(ctx context.Context, claims []*driver.Claim) {
	defer f.steer() // others have room now
	f.mu.Lock()
	defer f.mu.Unlock()
	boxes := f.end(claims, true)
	for slices.ContainsFunc(boxes, func(b *letterbox) bool { return b.taken > 0 }) {
		if !f.await(ctx.Done()) {
			break
		}
	}
	f.end(claims, false)
}

// await waits for a change, without the mutex, which the caller holds. It returns false if
// done is closed before.
func (f *feed) await(done <-chan struct{}) bool {
	changed := f.changed
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-changed:
		return true
	case <-done:
		return false
	}
}

// end lets claims go, or notes that they are about to. It returns their boxes.
func (f *feed) end(claims []*driver.Claim, leaving bool) (boxes []*letterbox) {
	for _, c := range claims {
		b, _ := c.Owner.(*letterbox)
		if b == nil || b.claim != c {
			continue
		}
		boxes = append(boxes, b)
		f.drop(b)
		b.fetched = b.next
		if b.leaving = leaving; !leaving {
			b.claim = nil
		}
	}
	f.notify()
	return boxes
}

// Lost implements driver.Handler.
func (f *feed) Lost(claims []*driver.Claim, cause error) {
	f.mu.Lock()
	f.end(claims, false)
	f.mu.Unlock()
	f.steer()
	f.log.Warn("kafka: redrive: partitions lost", "error", loggable(cause))
}

// Error implements driver.Handler. Trouble of a partition that no retry can cure ends the
// run, and so does a log that has become another one.
func (f *feed) Error(err error) {
	if _, ok := errors.AsType[*driver.NoPositionError](err); ok {
		return
	}
	if f.fatal(err) {
		f.fail(err)
		return
	}
	f.log.Warn("kafka: redrive: driver error", "error", loggable(err))
}

func (f *feed) fatal(err error) bool {
	if loss, ok := errors.AsType[*driver.DataLossError](err); ok {
		return loss.Recreated || loss.To < loss.From
	}
	_, partition := errors.AsType[*driver.PartitionError](err)
	return partition && errors.Is(err, ErrPermanent)
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.notify()
}

// take takes up to n dead letters and about a megabyte, in order per partition. settle and
// release follow.
func (f *feed) take(n int) (round []*dead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 0
	for i := range f.boxes {
		b := f.boxes[(f.turn+i)%len(f.boxes)]
		for len(b.queue) > 0 && len(round) < n && size < mostBatchBytes && !b.leaving {
			d := b.queue[0]
			b.queue[0], b.queue = nil, b.queue[1:]
			f.bytes -= d.record.Size()
			d.done = d.done || d.record.Offset < b.next || b.ahead[d.record.Offset]
			b.taken++
			size += d.record.Size()
			round = append(round, d)
		}
	}
	f.turn = (f.turn + 1) % max(len(f.boxes), 1)
	return round
}

// settle notes which of a round are done. The others, and what follows them in their
// partitions, wait again.
func (f *feed) settle(round []*dead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.boxes {
		if b.taken > 0 {
			f.settleBox(b, round)
		}
	}
	f.notify()
}

func (f *feed) settleBox(b *letterbox, round []*dead) {
	var again []*dead
	for _, d := range round {
		switch at := d.record.Offset; {
		case d.box != b:
			continue
		case !d.done || len(again) > 0:
			again = append(again, d)
			if d.done {
				b.ahead = withOffset(b.ahead, at)
			}
		case at >= b.next:
			b.next = at + 1
			delete(b.ahead, at)
		}
	}
	if b.last {
		f.drop(b)
		b.next = b.end
		return
	}
	if len(again) > 0 && again[0].claim == b.claim && !b.leaving {
		for _, d := range again {
			f.bytes += d.record.Size()
		}
		b.queue = slices.Concat(again, b.queue)
	}
}

func withOffset(m map[int64]bool, at int64) map[int64]bool {
	if m == nil {
		m = map[int64]bool{}
	}
	m[at] = true
	return m
}

// release ends a round: a revocation need not wait for it any longer.
func (f *feed) release() {
	defer f.steer()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.boxes {
		b.taken = 0
		b.pass()
	}
	f.notify()
}

// marks returns what is to be committed.
func (f *feed) marks() (marks []driver.Mark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.boxes {
		if b.claim != nil && !b.refused && b.next > b.committed {
			marks = append(marks, driver.Mark{Claim: b.claim, Offset: b.next})
		}
	}
	return marks
}

// durable notes which of marks are, as err says, and returns why others are not that can
// be.
func (f *feed) durable(marks []driver.Mark, err error) error {
	failed, partly := errors.AsType[*driver.CommitError](err)
	if err != nil && !partly {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []error
	for _, m := range marks {
		b, _ := m.Claim.Owner.(*letterbox)
		var why error
		if partly {
			why = markError(failed, m)
		}
		switch {
		case why == nil:
			b.committed = max(b.committed, m.Offset)
		case errors.Is(why, driver.ErrClaimEnded):
			b.refused = b.refused || b.claim == m.Claim
		default:
			left = append(left, why)
		}
	}
	return errors.Join(left...)
}

func markError(e *driver.CommitError, m driver.Mark) error {
	for _, failed := range e.Failed {
		if failed.Mark.Claim == m.Claim {
			return failed.Err
		}
	}
	return nil
}

// passTo moves the boxes that are not owned to what other runs have committed.
func (f *feed) passTo(all []driver.GroupPartition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range all {
		for _, b := range f.boxes {
			if b.tp == (TopicPartition{p.Topic, p.Partition}) && b.claim == nil {
				b.next = max(b.next, p.Committed)
				b.committed = max(b.committed, p.Committed)
			}
		}
	}
}

// A progress is how far a feed is.
type progress struct {
	err     error
	waiting bool // something can be taken
	ended   bool // nothing is left
	shared  bool // what is left belongs to other members
	changed <-chan struct{}
}

func (f *feed) progress() progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := progress{err: f.err, ended: true, shared: f.joined, changed: f.changed}
	for _, b := range f.boxes {
		s.waiting = s.waiting || len(b.queue) > 0 && !b.leaving
		s.ended = s.ended && b.complete()
		s.shared = s.shared && (b.complete() || b.claim == nil)
	}
	return s
}

// close lets nothing wait from now on.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	for _, b := range f.boxes {
		f.drop(b)
	}
}

// steer pauses and resumes claims. A driver wants these calls one after the other: while
// one goroutine makes them, it also makes those that others want.
func (f *feed) steer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.steers {
		return
	}
	f.steers = true
	defer func() { f.steers = false }()
	for {
		pause, resume := f.flow()
		if len(pause)+len(resume) == 0 {
			return
		}
		f.call(pause, resume)
	}
}

// call calls the driver without the mutex, which the caller holds.
func (f *feed) call(pause, resume []*driver.Claim) {
	f.mu.Unlock()
	defer f.mu.Lock()
	if len(pause) > 0 {
		f.driver.Pause(pause...)
	}
	if len(resume) > 0 {
		f.driver.Resume(resume...)
	}
}

// flow returns the claims to be paused, because they are read to the end or too much
// waits, and those to be resumed. Called under the mutex.
func (f *feed) flow() (pause, resume []*driver.Claim) {
	for _, b := range f.boxes {
		full := b.complete() || b.fetched >= b.end || len(b.queue) >= mostWaiting || f.bytes >= f.most
		low := len(b.queue) < mostWaiting/2 && f.bytes < max(f.most/2, 1)
		switch {
		case b.claim == nil || b.leaving:
		case full && !b.paused:
			b.paused = true
			pause = append(pause, b.claim)
		case !full && low && b.paused:
			b.paused = false
			resume = append(resume, b.claim)
		}
	}
	return pause, resume
}
