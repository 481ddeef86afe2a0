package kafka

import (
	"sort"
	"sync/atomic"
)

// A tracker knows the commit position of one partition: the lowest offset that
// is not done. Records begin in rising order of offset and are done in any
// order, since what finishes them need not be serial. Only position may be
// called by other goroutines than the partition's own.
//
// The rule: position never passes an offset that has begun and is not done.
// Offsets that never begin are holes, and are passed with what follows them.
type tracker struct {
	next atomic.Int64 // position, or -1 before anything is known
	last int64        // the offset after the last one that has begun, or been skipped
	open []slot       // what has begun and lies at or above next, rising
	head int          // open[:head] has been passed
}

type slot struct {
	offset int64
	done   bool
}

func newTracker(start int64) *tracker {
	t := &tracker{last: start}
	t.next.Store(start)
	return t
}

// position returns the offset to go on from, or -1 if nothing is known yet.
func (t *tracker) position() int64 { return t.next.Load() }

// begin says that the record at offset is about to be handled.
func (t *tracker) begin(offset int64) {
	if t.next.Load() < 0 {
		t.next.Store(offset)
	}
	if t.head > len(t.open)/2 || t.head == len(t.open) {
		t.open, t.head = t.open[:copy(t.open, t.open[t.head:])], 0
	}
	t.open = append(t.open, slot{offset: offset})
	t.last = offset + 1
}

// finish says that the record at offset, which has begun, is done.
func (t *tracker) finish(offset int64) {
	if t.open[t.head].offset != offset {
		open := t.open[t.head:]
		i := sort.Search(len(open), func(i int) bool { return open[i].offset >= offset })
		open[i].done = true
		return
	}
	t.head++
	for t.head < len(t.open) && t.open[t.head].done {
		t.head++
	}
	t.advance()
}

// skip says that every offset below next has been delivered or is a hole.
func (t *tracker) skip(next int64) {
	if next <= t.last {
		return
	}
	t.last = next
	if t.head == len(t.open) {
		t.advance()
	}
}

// advance publishes the position after open[:head] has changed: with nothing
// open it is the end of what is known, and else the offset after the last one
// that was passed.
func (t *tracker) advance() {
	if t.head == len(t.open) {
		t.next.Store(t.last)
		return
	}
	t.next.Store(t.open[t.head-1].offset + 1)
}
