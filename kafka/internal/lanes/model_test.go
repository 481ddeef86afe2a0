package lanes

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A model is a window as simple as it can be: all records that were ever pushed, and
// what has become of each. Whatever it is asked it finds out by looking at all of them.
type model struct {
	cfg     Config
	most    int
	known   []finished.Run
	end     int64
	records []*entryOf // in the order of offsets
	closed  bool
	started bool // something was taken, or the start was known
	highest int64
}

type entryOf struct {
	*driver.Record
	how  state
	done bool
	slot Slot
}

func (m *model) isKnown(offset int64) bool {
	return slices.ContainsFunc(m.known, func(r finished.Run) bool { return r.From <= offset && offset < r.To })
}

// sameLane is the definition of order.
func (m *model) sameLane(a, b *entryOf) bool {
	return m.cfg.Keyed && a.Key != nil && b.Key != nil && string(a.Key) == string(b.Key)
}

// free reports whether no earlier record of the lane is undone.
func (m *model) free(e *entryOf) bool {
	for _, o := range m.records {
		if o == e {
			return true
		}
		if !o.done && m.sameLane(o, e) {
			return false
		}
	}
	panic("not in the window")
}

func (m *model) push(b driver.Batch) {
	if m.closed {
		return
	}
	for i := range b.Records {
		r := &b.Records[i]
		switch {
		case r.Offset < m.end:
			continue
		case m.isKnown(r.Offset):
			m.records = append(m.records, &entryOf{Record: r, done: true})
		default:
			e := &entryOf{Record: r}
			m.records = append(m.records, e)
			m.wake(e)
		}
		m.end = r.Offset + 1
	}
	if b.Next > 0 {
		m.end = max(m.end, b.Next)
	}
}

// wake makes e ready, if nothing is before it.
func (m *model) wake(e *entryOf) {
	e.how = waits
	if m.free(e) {
		e.how = ready
	}
}

// take says that a record was taken, and returns it, or nil if it could not be.
func (m *model) take(at Slot, r *driver.Record) *entryOf {
	i := slices.IndexFunc(m.records, func(e *entryOf) bool { return e.Record == r })
	if i < 0 || m.records[i].done || m.records[i].how != ready {
		return nil
	}
	e := m.records[i]
	e.how, e.slot = running, at
	m.started = true
	return e
}

// taken returns the records that were taken, those that are done included.
func (m *model) taken() (es []*entryOf) {
	for _, e := range m.records {
		if e.slot != (Slot{}) {
			es = append(es, e)
		}
	}
	return es
}

// running returns the records that were taken and are not done.
func (m *model) running() []*entryOf {
	return slices.DeleteFunc(m.taken(), func(e *entryOf) bool { return e.done })
}

func (m *model) finish(e *entryOf) bool {
	if e.done || e.how != running {
		return false
	}
	e.done = true
	if m.closed {
		return true
	}
	for _, o := range m.records {
		if !o.done && o != e && m.sameLane(o, e) {
			m.wake(o)
			break
		}
	}
	return true
}

func (m *model) close() {
	m.closed = true
	for _, e := range m.records {
		if !e.done && e.how != running {
			e.how = dropped
		}
	}
}

// oldest returns the oldest record that is undone, or nil.
func (m *model) oldest() *entryOf {
	for _, e := range m.records {
		if !e.done {
			return e
		}
	}
	return nil
}

// position is the first offset that may have to be handled.
func (m *model) position() int64 {
	at := m.cfg.Start
	switch e := m.oldest(); {
	case e != nil && (m.started || m.highest >= 0):
		at = max(at, e.Offset)
	case e == nil:
		at = max(at, m.end)
		for m.isKnown(at) {
			at++
		}
	}
	m.highest = max(m.highest, at)
	return m.highest
}

func (m *model) counts() (c Counts) {
	position := m.position()
	for _, e := range m.records {
		if e.done {
			if e.Offset >= position {
				c.Done++
			}
			continue
		}
		switch e.how {
		case waits:
			c.Waiting++
		case ready:
			c.Ready++
		case running:
			c.Running++
		case dropped:
			continue
		}
		c.Undone++
		c.Bytes += e.Size()
	}
	return c
}

// A pair is a window and its model, driven side by side.
type pair struct {
	w *Window
	m *model
}

func newPair(cfg Config, known []finished.Run) *pair {
	p := &pair{w: New(cfg), m: &model{cfg: cfg, end: cfg.Start, highest: cfg.Start, started: cfg.Start >= 0, known: known}}
	p.w.Known(known)
	p.m.most = p.w.most
	return p
}

// take takes a record, if one is ready, and reports whether it has.
func (p *pair) take(t require.TestingT) bool {
	some := p.m.counts().Ready > 0
	next := p.w.Next()
	slot, r, ok := p.w.Take()
	require.Same(t, next, r, "what Next has shown")
	require.Equal(t, some, ok, "taken")
	if !ok {
		require.Zero(t, slot)
		require.Nil(t, r)
		return false
	}
	for _, e := range p.m.taken() {
		require.NotEqual(t, e.slot, slot, "%d had the same slot", e.Offset)
	}
	e := p.m.take(slot, r)
	require.NotNil(t, e, "%d is taken and is not ready", r.Offset)
	require.True(t, p.m.free(e), "%d is handed out before another one of its key", e.Offset)
	return true
}

// finish finishes one of some records.
func (p *pair) finish(t require.TestingT, some []*entryOf, n int) {
	if len(some) == 0 {
		return
	}
	e := some[n%len(some)]
	require.Equal(t, p.m.finish(e), p.w.Finish(e.slot), "finish %d", e.Offset)
}

func (p *pair) close() {
	p.m.close()
	p.w.Close()
}

func (p *pair) push(b driver.Batch) {
	p.m.push(b)
	p.w.Push(b)
}

// check compares everything that can be asked.
func (p *pair) check(t require.TestingT) {
	w, m := p.w, p.m
	position := m.position()
	require.Equal(t, position, w.Position(), "position")
	counts := m.counts()
	require.Equal(t, counts, w.Counts())
	at, runs := w.Progress(nil)
	require.Equal(t, position, at)
	p.checkRuns(t, position, runs)
	var made time.Time
	lowest := int64(-1)
	if e := m.oldest(); e != nil {
		lowest = e.Offset
		if e.how != dropped {
			made = e.Timestamp
		}
	}
	require.Equal(t, made, w.Oldest(), "oldest")
	require.Equal(t, lowest, w.Lowest(), "lowest")
	named := m.cfg.Unnamed || position < 0 || allNamed(position, runs)
	require.Equal(t, counts.Done >= m.most || !named, w.Full(), "full")
	p.checkInside(t)
}

// allNamed asks Encode itself.
func allNamed(position int64, runs []finished.Run) bool {
	place := finished.Place{Topic: "t"}
	back, err := finished.Decode(place, position, math.MaxInt64, finished.Encode(place, position, runs))
	return err == nil && len(back) == len(runs)
}

// checkRuns decides that runs rise above the position, hold no record that is undone,
// hold each that is done, hold nothing that was not pushed unless it is known, and that
// something undone lies between two of them.
func (p *pair) checkRuns(t require.TestingT, position int64, runs []finished.Run) {
	at := position
	for _, r := range runs {
		require.Greater(t, r.From, at, "%v", runs)
		require.Greater(t, r.To, r.From, "%v", runs)
		at = r.To
	}
	in := func(offset int64) bool {
		i, found := slices.BinarySearchFunc(runs, offset, func(r finished.Run, o int64) int { return cmp.Compare(r.From, o) })
		return found || i > 0 && offset < runs[i-1].To
	}
	between, last := -1, -1
	for _, e := range p.m.records {
		if e.Offset < position {
			continue
		}
		require.Equal(t, e.done, in(e.Offset), "%d in %v", e.Offset, runs)
		if !e.done {
			between++
		} else if i, _ := slices.BinarySearchFunc(runs, e.Offset+1, func(r finished.Run, o int64) int { return cmp.Compare(r.From, o) }); i != last {
			require.NotEqual(t, -1, between, "two runs between which nothing is undone: %v", runs)
			between, last = -1, i
		}
	}
	for _, k := range p.m.known {
		for _, o := range []int64{k.From, k.To - 1} {
			if o >= p.m.end {
				require.Equal(t, o > position, in(o), "known %d in %v", o, runs)
			}
		}
	}
	for o := p.m.end; o < p.m.end+3; o++ {
		require.Equal(t, o > position && p.m.isKnown(o), in(o), "%d was not pushed, in %v", o, runs)
	}
}

// checkInside checks what holds between any two calls.
func (p *pair) checkInside(t require.TestingT) {
	w := p.w
	if w.runs.counting {
		require.Equal(t, w.runs.sum(), w.runs.cost, "what the runs take")
	} else {
		require.LessOrEqual(t, w.runs.n, fewRuns)
	}
	lanes := map[string]int{}
	for i := w.slots[0].next; i != 0; i = w.slots[i].next {
		if s := &w.slots[i]; s.keyed && !w.closed {
			lanes[string(s.record.Key)]++
		}
	}
	require.Equal(t, len(lanes), w.lanes.used, "keys in the table")
	if len(w.slots) == 1 {
		require.LessOrEqual(t, cap(w.slots), idleSlots)
	}
}

// drain hands out what is left, and then everything is done.
func (p *pair) drain(t require.TestingT) {
	for p.take(t) || len(p.m.running()) > 0 {
		p.finish(t, p.m.running(), len(p.m.records))
		p.check(t)
	}
	c := p.w.Counts()
	require.Zero(t, c.Ready+c.Running+c.Undone, "%+v", c)
	if !p.m.closed {
		require.GreaterOrEqual(t, p.w.Position(), p.m.end)
		require.Equal(t, Counts{}, c)
		require.Zero(t, p.w.lanes.used)
	}
}
