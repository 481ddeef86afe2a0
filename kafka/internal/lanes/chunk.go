package lanes

import (
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

// A Chunk is records that one goroutine hands out one after the other. Its zero value is
// an empty chunk, to be filled by [Window.Take] again and again. Its goroutine calls
// [Chunk.Next] without the lock of the window. A record belongs to the goroutine only
// from there on: those that have not begun can be taken away by [Window.GiveBack].
type Chunk struct {
	taken   []taken // only Take changes its length
	settled int     // the window knows of so many; guarded by the lock of the window

	// How many may begin << 32 | how many have begun << 1 | whether the last one of these
	// is at hand: not done, as far as the goroutine has said.
	word atomic.Uint64
}

type taken struct {
	slot   Slot
	record *driver.Record
}

const atHand = 1

func (c *Chunk) load() (word uint64, begun, end int) {
	word = c.word.Load()
	return word, int(uint32(word) >> 1), int(word >> 32)
}

// Next says that the record at hand is done, if one is, and begins the next one. It
// returns false if none is left: then Take fills the chunk again. The record must not be
// changed.
func (c *Chunk) Next() (*driver.Record, bool) {
	for {
		word, begun, end := c.load()
		if begun == end {
			c.Done()
			return nil, false
		}
		if c.word.CompareAndSwap(word, uint64(end)<<32|uint64(begun+1)<<1|atHand) {
			return c.taken[begun].record, true
		}
	}
}

// Done says that the record at hand is done, if one is, and begins no other. The window
// learns of it from Settle or Take.
func (c *Chunk) Done() { c.word.And(^uint64(atHand)) }

// Take settles c, gives back what is left of it, and fills it with up to limit of the
// slots that are ready, about the oldest first. It returns how many: 0 if none is ready,
// or if a record of c is still at hand.
func (w *Window) Take(c *Chunk, limit int) int {
	w.GiveBack(c)
	if word, _, _ := c.load(); word&atHand != 0 {
		return 0
	}
	c.taken, c.settled = c.taken[:0], 0
	for len(c.taken) < limit {
		i := w.ready.shift(w.slots)
		if i == 0 {
			break
		}
		s := &w.slots[i]
		s.state = running
		c.taken = append(c.taken, taken{Slot{i, s.seq}, s.record})
	}
	n := len(c.taken)
	c.word.Store(uint64(n) << 32)
	w.counts.Ready -= n
	w.counts.Running += n
	if n > 0 && w.position < 0 {
		w.setPosition(w.slots[w.slots[0].next].offset)
	}
	return n
}

// Settle finishes the records of c that are done. Any goroutine that has the lock may
// call it: what is done before a record that takes long need not wait for it.
func (w *Window) Settle(c *Chunk) {
	word, done, _ := c.load()
	if word&atHand != 0 {
		done--
	}
	for ; c.settled < done; c.settled++ {
		at := &c.taken[c.settled]
		w.Finish(at.slot)
		*at = taken{}
	}
}

// GiveBack settles c, and makes those of its slots ready again that have not begun,
// before all others and in their order. It returns how many. Any goroutine that has the
// lock may call it, also while a record of c is at hand.
func (w *Window) GiveBack(c *Chunk) int {
	w.Settle(c)
	begun, end := 0, 0
	for {
		var word uint64
		word, begun, end = c.load()
		if begun == end {
			return 0
		}
		if c.word.CompareAndSwap(word, uint64(begun)<<32|uint64(uint32(word))) {
			break
		}
	}
	for k := end - 1; k >= begun; k-- {
		w.putBack(c.taken[k].slot)
		c.taken[k] = taken{}
	}
	return end - begun
}

// putBack makes a slot that runs ready again, before all others.
func (w *Window) putBack(at Slot) {
	s := w.find(at)
	if s == nil || s.state != running {
		return
	}
	w.counts.Running--
	if w.closed {
		w.drop(s)
		return
	}
	s.state = ready
	w.counts.Ready++
	w.ready.unshift(w.slots, at.index, s.seq)
}
