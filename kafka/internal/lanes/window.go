package lanes

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A Config says what a window is for.
type Config struct {
	// Start is the offset at which the window begins, or -1 if the first record shows it.
	Start int64

	// Keyed gives each key a lane. Otherwise no record waits for another one.
	Keyed bool

	// Unnamed says that no commit carries the finished offsets. Then a window can have
	// any number of runs of them.
	Unnamed bool
}

// MaxDone is how many records above the position may be done before a window is full.
const MaxDone = 1_000_000

// An empty window keeps room for at most idleSlots slots, and so does its table: a burst
// must not hold its memory forever.
const idleSlots = 1024

// A Window is the records of one partition from the commit position on. Make one with
// [New].
type Window struct {
	cfg    Config
	closed bool
	most   int // MaxDone

	// Slots of records that are not done, in the order of their offsets, are a ring of
	// links through slots[0], which is no record's: its next is the head, the oldest one.
	// Indices stay what they are when slots grows.
	slots []slot
	free  uint32 // the first of the slots that no record has, linked by next; or 0
	seq   uint64 // of the slot that was made last; never used again
	ready queue
	lanes table
	seed  maphash.Seed

	position int64 // as runs[0].to, but -1 while no offset is known
	end      int64 // the offset after everything that was pushed, holes included
	through  int64 // all offsets from end on and below through are known to be done
	runs     runs

	counts Counts
}

// A slot is a record that is not done. It takes 64 bytes.
type slot struct {
	record     *driver.Record // as delivered; nil if it was dropped
	seq        uint64         // 0 if no record has the slot
	offset     int64
	size       int
	prev, next uint32 // in the order of offsets
	behind     uint32 // the next slot of the lane, or 0
	queued     uint32 // the next slot of the ready queue, or 0
	hash       uint32 // of the key
	run        uint32 // the finished run between prev and this slot, or 0
	state      state
	keyed      bool // it has a lane in the table
}

type state uint8

const (
	waits   state = iota // behind an earlier slot of its lane
	ready                // in the ready queue
	running              // taken
	dropped              // never handed out again
)

// A Slot names a record that was taken and is not done. It stays what it is while the window grows,
// and no other record of the window ever has the same.
type Slot struct {
	index uint32
	seq   uint64
}

// Counts says how many records of a window are in each state, and more.
type Counts struct {
	Undone int // all that are not done
	Bytes  int // what these cost

	Waiting int // behind an earlier one of their key
	Ready   int
	Running int // taken

	Done int // records above the position that are done
}

// New returns an empty window.
func New(cfg Config) *Window {
	return &Window{
		cfg:      cfg,
		most:     MaxDone,
		slots:    make([]slot, 1),
		lanes:    table{spread: math.MaxUint32},
		seed:     maphash.MakeSeed(),
		position: cfg.Start,
		end:      cfg.Start,
		through:  cfg.Start,
		runs:     newRuns(cfg.Start),
	}
}

// Known says which offsets above the start are done, from the text of a predecessor.
// The runs rise and do not touch. Their records are passed over when they are pushed.
// It must be called before the first Push.
func (w *Window) Known(done []finished.Run) {
	if w.end != w.cfg.Start || w.position < 0 || w.closed {
		return
	}
	for _, r := range done {
		if r.To > r.From && r.From > w.runs.last() {
			w.runs.append(r)
		}
	}
}

// Push adds what a driver has delivered. The window keeps b.Records until all of them
// are done. It passes over records that are known to be done, and those below the end of
// what was pushed before, which are in the window or done.
func (w *Window) Push(b driver.Batch) {
	if w.closed {
		return
	}
	for i := range b.Records {
		w.add(&b.Records[i])
	}
	if b.Next > 0 {
		w.end = max(w.end, b.Next)
	}
	w.adopt(w.end)
	w.move()
}

// add gives r a slot, if it needs one.
func (w *Window) add(r *driver.Record) {
	if r.Offset < w.end {
		return
	}
	w.adopt(r.Offset) // what lies between end and r are holes
	w.end = r.Offset + 1
	if r.Offset < w.through {
		if run := w.slots[0].run; run != 0 {
			w.runs.credit(run)
			w.counts.Done++
		}
		return
	}
	i := w.newSlot()
	s, tail := &w.slots[i], &w.slots[0]
	w.seq++
	s.record, s.seq, s.offset, s.size = r, w.seq, r.Offset, r.Size()
	s.prev, s.run = tail.prev, tail.run
	w.slots[s.prev].next = i
	tail.prev, tail.run = i, 0
	w.counts.Undone++
	w.counts.Bytes += s.size
	w.enter(i, s)
}

// enter puts a new slot at the end of its lane, or makes it ready if the lane is empty.
//
// The first slot of a lane never waits. It is made ready here, when the lane was empty,
// or by leave, when it becomes the first; and nothing makes a slot wait again. A slot
// that is not done is the first of its lane, or behind one that is. So if any is not
// done, one is ready or runs: something can go on.
func (w *Window) enter(i uint32, s *slot) {
	if w.cfg.Keyed && s.record.Key != nil {
		s.hash, s.keyed = uint32(maphash.Bytes(w.seed, s.record.Key)), true
		if last := w.lanes.put(w.slots, i); last != 0 {
			w.slots[last].behind = i
			s.state = waits
			w.counts.Waiting++
			return
		}
	}
	w.makeReady(i, s)
}

// leave takes a slot that is done out of its lane, of which it is the first, and makes
// the next one ready.
//
// The first slot of a lane is the only one of its key that is ready or runs: enter and
// leave make a slot ready only when no other one is before it, and before leave is called
// again for the lane this slot is done. So one key is never handled twice at once, and its
// records are handled in the order of their offsets.
func (w *Window) leave(i uint32, s *slot) {
	switch {
	case s.behind != 0:
		w.counts.Waiting--
		w.makeReady(s.behind, &w.slots[s.behind])
	case s.keyed:
		w.lanes.remove(s.hash, i)
	}
}

// makeReady puts a slot into the ready queue.
func (w *Window) makeReady(i uint32, s *slot) {
	s.state = ready
	w.counts.Ready++
	w.ready.push(w.slots, i, s.seq)
}

// newSlot returns a slot that no record has.
func (w *Window) newSlot() uint32 {
	if i := w.free; i != 0 {
		w.free = w.slots[i].next
		w.slots[i] = slot{}
		return i
	}
	w.slots = append(w.slots, slot{})
	return uint32(len(w.slots) - 1)
}

// find returns the slot that s names, or nil if its record is done.
func (w *Window) find(s Slot) *slot {
	if s.seq == 0 || int(s.index) >= len(w.slots) || w.slots[s.index].seq != s.seq {
		return nil
	}
	return &w.slots[s.index]
}

// Take hands out the slot that is ready and about the oldest. ok is false if none is
// ready. The record must not be changed.
func (w *Window) Take() (at Slot, r *driver.Record, ok bool) {
	i := w.ready.shift(w.slots)
	if i == 0 {
		return Slot{}, nil, false
	}
	s := &w.slots[i]
	s.state = running
	w.counts.Ready--
	w.counts.Running++
	if w.position < 0 {
		w.setPosition(w.slots[w.slots[0].next].offset)
	}
	return Slot{i, s.seq}, s.record, true
}

// Next returns the record that Take would hand out, or nil if none is ready.
func (w *Window) Next() *driver.Record {
	i := w.ready.first()
	if i == 0 {
		return nil
	}
	return w.slots[i].record
}

// Lowest returns the offset of the oldest record that is not done, or -1.
func (w *Window) Lowest() int64 {
	if i := w.slots[0].next; i != 0 {
		return w.slots[i].offset
	}
	return -1
}

// Finish says that the record of a slot is done. It reports whether that is news.
//
// Only Finish makes a slot done. The position moves in Push and Finish only, to the
// oldest slot that is left, or to the end of what was pushed if none is: so it never
// passes a record that is not done.
func (w *Window) Finish(at Slot) bool {
	s := w.find(at)
	if s == nil {
		return false
	}
	w.counts.Running--
	w.counts.Undone--
	w.counts.Bytes -= s.size
	if !w.closed {
		w.leave(at.index, s)
	}
	w.unlink(s)
	oldest := s.prev == 0
	*s = slot{next: w.free} // without its record: the payload is released
	w.free = at.index
	if oldest {
		w.move()
	}
	return true
}

// unlink takes a slot that is done out of the order of offsets. Its offset becomes part
// of a finished run, unless it is the oldest.
func (w *Window) unlink(s *slot) {
	next := &w.slots[s.next]
	w.slots[s.prev].next, next.prev = s.next, s.prev
	if s.prev == 0 {
		return
	}
	w.counts.Done++
	switch {
	case s.run != 0 && next.run != 0:
		w.runs.join(s.run, next.run)
		w.runs.credit(s.run)
		next.run = s.run
	case s.run != 0:
		w.runs.stretch(s.run, s.offset+1)
		next.run = s.run
	case next.run != 0:
		w.runs.begin(next.run, s.offset)
	default:
		next.run = w.runs.insert(w.runBefore(s.prev), s.offset)
	}
}

// runBefore returns the last run before a slot, or 0 if it has none. On the way are
// slots between which nothing is done, which are few where records are finished in about
// the order in which they are taken.
func (w *Window) runBefore(i uint32) uint32 {
	for i != 0 && w.slots[i].run == 0 {
		i = w.slots[i].prev
	}
	if i == 0 {
		return 0
	}
	return w.slots[i].run
}

// move moves the position to the oldest slot, or to the end.
func (w *Window) move() {
	head := w.slots[0].next
	w.pass(&w.slots[head])
	if head != 0 {
		if w.position >= 0 {
			w.setPosition(w.slots[head].offset)
		}
		return
	}
	w.setPosition(max(w.end, w.through))
	for w.adopt(w.position) {
		w.pass(&w.slots[0])
		w.setPosition(w.through)
	}
	w.shrink()
}

// pass forgets the finished run before a slot, because the position passes it.
func (w *Window) pass(s *slot) {
	if s.run != 0 {
		w.counts.Done -= w.runs.remove(s.run)
		s.run = 0
	}
}

func (w *Window) setPosition(to int64) {
	if to > w.position {
		w.position = to
		w.runs.rebase(to)
	}
}

// adopt joins known runs that begin at or below an offset with what was pushed, and
// reports whether there was one. Everything below the offset has been pushed.
func (w *Window) adopt(below int64) bool {
	tail := &w.slots[0]
	adopted := false
	for {
		run, to := w.runs.known(below)
		switch {
		case run == 0:
			return adopted
		case tail.run == 0:
			tail.run = run
		default:
			w.runs.join(tail.run, run)
		}
		w.through = max(w.through, to)
		adopted = true
	}
}

// shrink lets an empty window begin again at its first slot, without the room that a
// burst took.
func (w *Window) shrink() {
	w.slots, w.free = w.slots[:1], 0
	if cap(w.slots) > idleSlots {
		w.slots = append(make([]slot, 0, idleSlots/8), w.slots[0])
	}
	if len(w.lanes.entries) > 2*idleSlots {
		w.lanes.entries = nil
	}
	w.runs.shrink()
}

// Close drops all records that do not run: none of them is handed out any longer, and
// Push adds none. The position stays below them, because a commit that is under way may
// still ask for it. Records that run may still be finished.
func (w *Window) Close() {
	if w.closed {
		return
	}
	w.closed = true
	for i := w.slots[0].next; i != 0; i = w.slots[i].next {
		if s := &w.slots[i]; s.state != running {
			w.drop(s)
		}
	}
	w.ready, w.lanes.entries, w.lanes.used = queue{}, nil, 0
	w.counts.Waiting, w.counts.Ready = 0, 0
}

// drop releases the record of a slot, which is never handed out again.
func (w *Window) drop(s *slot) {
	w.counts.Undone--
	w.counts.Bytes -= s.size
	s.record, s.size, s.state = nil, 0, dropped
}

// Position returns the offset to go on from: no record below it is undone. It is -1
// while no offset is known.
func (w *Window) Position() int64 { return w.position }

// Progress returns the position, and the runs of finished offsets above it. They rise
// and do not touch, and are appended to to. Those for which no text has room may be
// missing. A run may cover offsets that no record has.
func (w *Window) Progress(to []finished.Run) (position int64, done []finished.Run) {
	return w.position, w.runs.appendTo(to)
}

// Full reports that so much above the position is done that nothing more should be
// fetched until the position has moved: MaxDone records, or more runs than a commit can
// name. A record that never finishes makes a window full at last. What is in the window
// can still be taken.
func (w *Window) Full() bool {
	return w.counts.Done >= w.most || !w.cfg.Unnamed && !w.runs.fit()
}

// Counts returns how many records are in each state.
func (w *Window) Counts() Counts { return w.counts }

// Oldest returns when the oldest record that is not done was made: zero if it was dropped,
// or if all are done.
func (w *Window) Oldest() (made time.Time) {
	if r := w.slots[w.slots[0].next].record; r != nil {
		made = r.Timestamp
	}
	return made
}
