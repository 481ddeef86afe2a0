// Package window holds the records of one partition from the commit position on:
// those that wait to be handed out, and those that are with a handler. It knows what
// may be committed, and nothing of consumers, sessions or hooks.
//
// # Records
//
// [Window.Push] keeps each batch as the driver delivered it, as a segment, and
// copies nothing. [Window.Take] gives the oldest records that wait to one goroutine,
// as a [Run]: neighbours of one segment. The goroutine finishes its run from front to
// back and publishes how far it is, by one atomic store per record. Several
// goroutines may each have a run, and finish them in any order.
//
// # The position
//
// The position is the offset to go on from after a crash. It never passes a record
// that is not done: it moves over the finished front of the oldest run, and over the
// next run only when the one before is done completely. An offset that no record has
// is a hole. The position passes it together with what follows, or when everything
// that was pushed is done.
//
// # Concurrency
//
// A Window is not safe for concurrent use: its owner guards it by a mutex. Only
// [Run.Advance] and [Run.Progress] may be called beside any other method.
package window

import (
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Window is the records of one partition from the commit position on. Make one with
// [New].
type Window struct {
	segments []segment // what waits, in order; segments[:first] has been taken
	first    int
	flights  []flight // what has been taken and lies at or above position, in order
	position int64    // below the first flight, or -1 while no offset is known
	least    int64    // the position when something was pushed last: it never goes back
	end      int64    // the offset after everything that was pushed, holes included
	waiting  int      // records that have not been taken
	n, bytes int      // records that have not been released, and their cost
}

// A segment is what is left of one delivery.
type segment struct {
	records []driver.Record
	bytes   int // their cost
}

// A flight is records that have been taken. Its run is nil when it was released,
// though an earlier one was not: then only its end is kept. Neighbours of that kind are
// one flight, so that there are never more than two for each run that is held: a record
// whose handler takes an hour lets other goroutines finish millions behind it.
type flight struct {
	run *Run
	end int64 // the offset after its last record
}

// A Run is neighbours of one partition that one goroutine hands out. Its zero value
// is an empty run, and a released one can be given to Take again.
type Run struct {
	// Records is what was taken. It may be read until the run is released, and must
	// not be changed: a driver may deliver the same slice to others.
	Records []driver.Record

	progress atomic.Uint64 // how many have begun << 32 | how many are done
	bytes    int
	own      []driver.Record // what Gather copies to, used again
}

// Advance publishes that the first done records of the run are done, and that the
// first begun of them have been handed out. Neither number may become smaller.
func (r *Run) Advance(done, begun int) {
	r.progress.Store(uint64(begun)<<32 | uint64(done))
}

// Progress returns what Advance has published last.
func (r *Run) Progress() (done, begun int) {
	v := r.progress.Load()
	return int(uint32(v)), int(v >> 32)
}

// from returns the offset of the first record.
func (r *Run) from() int64 { return r.Records[0].Offset }

// after returns the offset after the first n records.
func (r *Run) after(n int) int64 { return r.Records[n-1].Offset + 1 }

// hold makes r a run of records that cost bytes.
func (r *Run) hold(records []driver.Record, bytes int) {
	r.Records, r.bytes = records, bytes
	r.progress.Store(0)
}

// idleSegments is the most segments for which an empty window keeps room: a burst of
// small deliveries must not hold its memory forever.
const idleSegments = 1024

// idleRecords is the same for the records that Gather has copied.
const idleRecords = 1024

// New returns an empty window that begins at start. It is -1 if the first record
// shows where the window begins.
func New(start int64) *Window {
	return &Window{position: start, least: start, end: start}
}

// Push adds what a driver has delivered. The window keeps b.Records.
//
// It notes the position first. Otherwise this could happen: all is done, the position
// passes the hole at the end, and with the next record it is back before the hole.
func (w *Window) Push(b driver.Batch) {
	w.least = w.Position()
	if n := len(b.Records); n > 0 {
		cost := 0
		for i := range b.Records {
			cost += b.Records[i].Size()
		}
		w.makeRoom()
		w.segments = append(w.segments, segment{b.Records, cost})
		w.waiting += n
		w.n += n
		w.bytes += cost
		w.end = max(w.end, b.Records[n-1].Offset+1)
	}
	if b.Next > 0 {
		w.end = max(w.end, b.Next)
	}
}

// makeRoom moves the segments to the front if an append would grow the slice though
// half of it has been taken.
func (w *Window) makeRoom() {
	if len(w.segments) == cap(w.segments) && w.first > len(w.segments)/2 {
		n := copy(w.segments, w.segments[w.first:])
		clear(w.segments[n:])
		w.segments, w.first = w.segments[:n], 0
	}
}

// Take gives r up to limit of the oldest records that wait, as far as they lie in one
// segment, and returns how many: 0 if none waits. r must be empty or released.
func (w *Window) Take(r *Run, limit int) int {
	if w.waiting == 0 {
		r.hold(nil, 0)
		return 0
	}
	r.hold(w.cut(limit))
	w.launch(r)
	return len(r.Records)
}

// Batch returns how many of the oldest records that wait a batch of up to limit records
// holds that cost up to bytes, at least one if one waits, and whether it is full: one
// more would not fit, or limit is reached. bytes is no bound if it is 0.
func (w *Window) Batch(limit, bytes int) (n int, full bool) {
	if bytes == 0 {
		return min(limit, w.waiting), w.waiting >= limit
	}
	cost := 0
	for _, s := range w.segments[w.first:] {
		for i := range s.records {
			if cost += s.records[i].Size(); n > 0 && cost > bytes {
				return n, true
			}
			if n++; n == limit || cost >= bytes {
				return n, true
			}
		}
	}
	return n, false
}

// Gather is Take for a caller that wants as many of the records that wait as limit
// allows. Where they lie in several segments it copies them.
func (w *Window) Gather(r *Run, limit int) int {
	if w.waiting == 0 || len(w.segments[w.first].records) >= min(limit, w.waiting) {
		return w.Take(r, limit)
	}
	own, cost := r.own[:0], 0
	for len(own) < limit && w.waiting > 0 {
		records, bytes := w.cut(limit - len(own))
		own, cost = append(own, records...), cost+bytes
	}
	r.own = own
	r.hold(own, cost)
	w.launch(r)
	return len(r.Records)
}

// cut takes up to limit records off the oldest segment and returns them with their
// cost.
func (w *Window) cut(limit int) (records []driver.Record, cost int) {
	s := &w.segments[w.first]
	if len(s.records) <= limit {
		records, cost = s.records, s.bytes
		w.drop()
	} else {
		records = s.records[:limit:limit]
		for i := range records {
			cost += records[i].Size()
		}
		s.records, s.bytes = s.records[limit:], s.bytes-cost
	}
	w.waiting -= len(records)
	return records, cost
}

// drop forgets the oldest segment.
func (w *Window) drop() {
	w.segments[w.first] = segment{}
	w.first++
	if w.first < len(w.segments) {
		return
	}
	w.segments, w.first = w.segments[:0], 0
	if cap(w.segments) > idleSegments {
		w.segments = nil
	}
}

// oldest returns the first record that waits.
func (w *Window) oldest() *driver.Record { return &w.segments[w.first].records[0] }

// Next returns the first record that waits, or nil.
func (w *Window) Next() *driver.Record {
	if w.waiting == 0 {
		return nil
	}
	return w.oldest()
}

// Prefix returns how many of the first n records that wait come before the first one
// that is not as is says.
func (w *Window) Prefix(n int, is func(*driver.Record) bool) (first int) {
	for _, s := range w.segments[w.first:] {
		for i := range s.records {
			if first == n || !is(&s.records[i]) {
				return first
			}
			first++
		}
	}
	return first
}

// launch notes that r is under way.
func (w *Window) launch(r *Run) {
	w.flights = append(w.flights, flight{r, r.after(len(r.Records))})
}

// Release forgets the records of r and reports whether all of them are done. If one is
// not, nothing changes.
func (w *Window) Release(r *Run) bool {
	if len(r.Records) == 0 {
		return true
	}
	if done, _ := r.Progress(); done < len(r.Records) {
		return false
	}
	end := r.after(len(r.Records))
	i := sort.Search(len(w.flights), func(i int) bool { return w.flights[i].end >= end })
	w.flights[i].run = nil
	w.merge(i)
	if w.flights[0].run == nil {
		w.land()
	}
	w.n -= len(r.Records)
	w.bytes -= r.bytes
	clear(r.own) // it would keep what the records point to
	r.own = r.own[:0]
	if cap(r.own) > idleRecords {
		r.own = nil
	}
	r.hold(nil, 0)
	return true
}

// merge joins the flight at i, which was released, with released neighbours.
func (w *Window) merge(i int) {
	from, to := i, i+1
	if i > 0 && w.flights[i-1].run == nil {
		from--
	}
	if to < len(w.flights) && w.flights[to].run == nil {
		to++
	}
	w.flights = slices.Delete(w.flights, from, to-1) // the last one has the end of all
}

// Discard forgets the records that wait. The position stays below them: a commit that
// is under way may still ask for it.
func (w *Window) Discard() {
	if w.waiting == 0 {
		return
	}
	w.end = w.position
	if n := len(w.flights); n > 0 {
		w.end = w.flights[n-1].end
	}
	for _, s := range w.segments[w.first:] {
		w.bytes -= s.bytes
	}
	w.n -= w.waiting
	w.segments, w.first, w.waiting = nil, 0, 0
}

// land moves the position over the flights at the front that were released.
func (w *Window) land() {
	n := 0
	for n < len(w.flights) && w.flights[n].run == nil {
		w.position = w.flights[n].end
		n++
	}
	w.flights = append(w.flights[:0], w.flights[n:]...)
}

// Position returns the offset to go on from: no record below it is undone. It is -1
// while no offset is known.
func (w *Window) Position() int64 {
	return max(w.least, w.current())
}

func (w *Window) current() int64 {
	position := w.position
	for _, f := range w.flights {
		if f.run == nil {
			position = f.end
			continue
		}
		done, begun := f.run.Progress()
		switch records := f.run.Records; {
		case done == len(records):
			position = f.end
			continue
		case done > 0:
			position = f.run.after(done)
		case begun > 0 && position < 0:
			position = records[0].Offset
		}
		return position
	}
	if w.waiting > 0 {
		return position
	}
	return max(position, w.end)
}

// Handed returns the offset after the last record that was handed out, or, before the
// first one, where the window begins.
func (w *Window) Handed() int64 {
	for i := len(w.flights) - 1; i >= 0; i-- {
		f := w.flights[i]
		if f.run == nil {
			return f.end
		}
		if _, begun := f.run.Progress(); begun > 0 {
			return f.run.after(begun)
		}
	}
	return w.position
}

// Lowest returns the offset of the oldest record that the window holds, or -1.
func (w *Window) Lowest() int64 {
	for _, f := range w.flights {
		if f.run != nil {
			return f.run.from()
		}
	}
	if r := w.Next(); r != nil {
		return r.Offset
	}
	return -1
}

// Undone returns how many records have been handed out and are not done, and when the
// oldest record that is not done was made, or the zero time if there is none.
func (w *Window) Undone() (handed int, oldest time.Time) {
	found := false
	for _, f := range w.flights {
		if f.run == nil {
			continue
		}
		done, begun := f.run.Progress()
		handed += begun - done
		if records := f.run.Records; !found && done < len(records) {
			oldest, found = records[done].Timestamp, true
		}
	}
	if !found && w.waiting > 0 {
		oldest = w.oldest().Timestamp
	}
	return handed, oldest
}

// Len returns how many records the window holds: those that wait, and those that were
// taken and not released.
func (w *Window) Len() int { return w.n }

// Bytes returns what the records cost that the window holds.
func (w *Window) Bytes() int { return w.bytes }
