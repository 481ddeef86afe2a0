package window

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A model is a window as simple as it can be: all records that were ever pushed, and
// what has become of each.
type model struct {
	start   int64
	records []state
	end     int64 // after everything that was pushed, holes included
}

type state struct {
	driver.Record
	taken, begun, done, released bool
}

func (m *model) push(b driver.Batch) {
	for _, r := range b.Records {
		m.records = append(m.records, state{Record: r})
		m.end = max(m.end, r.Offset+1)
	}
	if b.Next > 0 {
		m.end = max(m.end, b.Next)
	}
}

// bounds returns what the position must lie between: above all records before the
// first one that is not done, and not above that one.
func (m *model) bounds() (low, high int64) {
	low = m.start
	for _, r := range m.records {
		if !r.done {
			return low, r.Offset
		}
		low = r.Offset + 1
	}
	return m.end, m.end
}

func (m *model) handed() int64 {
	at := m.start
	for _, r := range m.records {
		if r.begun {
			at = r.Offset + 1
		}
	}
	return at
}

func (m *model) undone() (handed int, oldest time.Time) {
	found := false
	for _, r := range m.records {
		if r.done {
			continue
		}
		if r.begun {
			handed++
		}
		if !found {
			oldest, found = r.Timestamp, true
		}
	}
	return handed, oldest
}

func (m *model) held() (n, bytes int) {
	for i := range m.records {
		if r := &m.records[i]; !r.released {
			n, bytes = n+1, bytes+r.Size()
		}
	}
	return n, bytes
}

// waiting returns the index of the first record that was not taken.
func (m *model) waiting() int {
	i := slices.IndexFunc(m.records, func(r state) bool { return !r.taken })
	if i < 0 {
		return len(m.records)
	}
	return i
}

// A pair is a window and its model, driven side by side.
type pair struct {
	w      *Window
	m      model
	runs   []*Run // empty, or under way
	first  map[*Run]int
	latest int64 // the position that was seen last
}

func newPair(start int64, lanes int) *pair {
	p := &pair{w: New(start), m: model{start: start, end: start}, first: map[*Run]int{}, latest: start}
	for range lanes {
		p.runs = append(p.runs, new(Run))
	}
	return p
}

// push delivers n records, with a hole before the first one and after the last.
func (p *pair) push(n int, before, after int64) {
	var b driver.Batch
	next := max(p.m.end, 0) + before
	for i := range n {
		b.Records = append(b.Records, driver.Record{Offset: next, Value: make([]byte, i%7), Timestamp: time.Unix(next, 0)})
		next++
		if i%5 == 4 {
			next += before
		}
	}
	if after > 0 {
		b.Next = next + after - 1
	}
	p.m.push(b)
	p.w.Push(b)
}

// take gives an idle run up to limit records and compares them with the model's.
func (p *pair) take(t require.TestingT, r *Run, limit int, gather bool) {
	at := p.m.waiting()
	p.ahead(t, at, limit)
	var n int
	if gather {
		n = p.w.Gather(r, limit)
		require.Equal(t, min(limit, len(p.m.records)-at), n, "gathered")
	} else {
		n = p.w.Take(r, limit)
		require.LessOrEqual(t, n, limit)
		require.Equal(t, n == 0, at == len(p.m.records), "takes nothing, and that though something waits")
	}
	require.Len(t, r.Records, n)
	p.first[r] = at
	for i := range n {
		require.Equal(t, p.m.records[at+i].Record, r.Records[i])
		p.m.records[at+i].taken = true
	}
}

// ahead compares what can be seen of the records that wait, without taking them.
func (p *pair) ahead(t require.TestingT, at, limit int) {
	waiting := p.m.records[at:]
	if len(waiting) == 0 {
		require.Nil(t, p.w.Next())
	} else {
		require.Equal(t, waiting[0].Record, *p.w.Next())
	}
	want := 0
	for want < min(limit, len(waiting)) && waiting[want].Offset%3 > 0 {
		want++
	}
	require.Equal(t, want, p.w.Prefix(limit, func(r *driver.Record) bool { return r.Offset%3 > 0 }))
}

// advance finishes done records of r beyond those that are, and begins others.
func (p *pair) advance(r *Run, done, begun int) {
	was, had := r.Progress()
	done = min(was+done, len(r.Records))
	begun = min(max(done, had)+begun, len(r.Records))
	for i := range begun {
		s := &p.m.records[p.first[r]+i]
		s.begun, s.done = true, s.done || i < done
	}
	r.Advance(done, begun)
}

// release lets go of r, which must work if and only if all of it is done.
func (p *pair) release(t require.TestingT, r *Run) {
	n := len(r.Records)
	done, _ := r.Progress()
	require.Equal(t, done == n, p.w.Release(r), "released, and all done")
	if done == n {
		for i := range n {
			p.m.records[p.first[r]+i].released = true
		}
	}
}

func (p *pair) check(t require.TestingT) {
	low, high := p.m.bounds()
	got := p.w.Position()
	require.True(t, low <= got && got <= high, "position %d, want %d to %d", got, low, high)
	require.GreaterOrEqual(t, got, p.latest, "the position went back")
	p.latest = got
	require.Equal(t, p.m.handed(), p.w.Handed())
	handed, oldest := p.m.undone()
	gotHanded, gotOldest := p.w.Undone()
	require.Equal(t, handed, gotHanded)
	require.Equal(t, oldest, gotOldest)
	lowest := int64(-1)
	if i := slices.IndexFunc(p.m.records, func(s state) bool { return !s.released }); i >= 0 {
		lowest = p.m.records[i].Offset
	}
	require.Equal(t, lowest, p.w.Lowest())
	n, bytes := p.m.held()
	require.Equal(t, n, p.w.Len())
	require.Equal(t, bytes, p.w.Bytes())
	under := 0
	for _, r := range p.runs {
		if len(r.Records) > 0 {
			under++
		}
	}
	require.LessOrEqual(t, len(p.w.flights), 2*under, "flights, for the runs that are under way")
}

// drain finishes everything: then the position is the end, and nothing is held.
func (p *pair) drain(t require.TestingT) {
	for more := true; more; {
		for _, r := range slices.Backward(p.runs) {
			p.advance(r, len(r.Records), 0)
			p.release(t, r)
			p.check(t)
		}
		p.take(t, p.runs[0], 1000, false)
		more = len(p.runs[0].Records) > 0
	}
	require.Equal(t, p.m.end, p.w.Position())
	require.Zero(t, p.w.Len())
	require.Zero(t, p.w.Bytes())
}

// Many lanes take, begin, finish and release in any order, and the window is what the
// model says after each step.
func TestWindowAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(rapid.SampledFrom([]int64{-1, 0, 7, 1 << 62}).Draw(t, "start"), rapid.IntRange(1, 4).Draw(t, "lanes"))
		some := func(t *rapid.T, idle bool) *Run {
			var of []*Run
			for _, r := range p.runs {
				if (len(r.Records) == 0) == idle {
					of = append(of, r)
				}
			}
			if len(of) == 0 {
				t.Skip("no such run")
			}
			return rapid.SampledFrom(of).Draw(t, "run")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { p.check(t) },
			"push": func(t *rapid.T) {
				p.push(rapid.IntRange(0, 40).Draw(t, "n"), rapid.Int64Range(0, 3).Draw(t, "before"), rapid.Int64Range(0, 3).Draw(t, "after"))
			},
			"take": func(t *rapid.T) {
				p.take(t, some(t, true), rapid.IntRange(1, 30).Draw(t, "limit"), rapid.Bool().Draw(t, "gather"))
			},
			"advance": func(t *rapid.T) {
				p.advance(some(t, false), rapid.IntRange(0, 30).Draw(t, "done"), rapid.IntRange(0, 2).Draw(t, "begun"))
			},
			"release": func(t *rapid.T) { p.release(t, some(t, false)) },
		})
		p.drain(t)
	})
}

// FuzzWindow does the same with steps that the fuzzer chooses: the low bits of each
// byte say which step, the others how far and which lane.
func FuzzWindow(f *testing.F) {
	f.Add(int64(0), []byte{0x50, 1, 0x22, 3})
	f.Add(int64(-1), []byte{0x50, 0x51, 1, 0x11, 0x22, 0x62, 3, 0x13, 4})
	f.Add(int64(7), []byte{4, 0x50, 1, 0x72, 3, 0x74, 0x50})
	f.Add(int64(1)<<62, []byte{0xf0, 0xf1, 0xf2, 3})
	f.Fuzz(func(t *testing.T, start int64, ops []byte) {
		if start < -1 || start > 1<<62 {
			t.Skip("no offset of Kafka's")
		}
		p := newPair(start, 3)
		for _, op := range ops {
			far := int(op >> 3)
			r := p.runs[far%len(p.runs)]
			switch idle := len(r.Records) == 0; op & 7 {
			case 0:
				p.push(far, int64(far%3), int64(far%4))
			case 1, 5:
				if idle {
					p.take(t, r, 1+far, op&7 == 5)
				}
			case 2:
				p.advance(r, far, far%2)
			case 3:
				p.release(t, r)
			case 4:
				p.push(0, 0, int64(far))
			}
			p.check(t)
		}
		p.drain(t)
	})
}

// A hole at the end is passed when all is done, and stays passed when more comes.
func TestPositionStaysBehindAHole(t *testing.T) {
	w, r := New(0), new(Run)
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 0}, {Offset: 1}}, Next: 4})
	require.Equal(t, 2, w.Take(r, 10))
	r.Advance(2, 2)
	require.EqualValues(t, 4, w.Position())
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 9}}})
	require.EqualValues(t, 4, w.Position())
	require.True(t, w.Release(r))
	require.EqualValues(t, 4, w.Position())
}

// A record whose handler takes long does not let the window grow while others finish
// what is behind it.
func TestReleasedNeighboursAreOneFlight(t *testing.T) {
	const records = 1000
	w, slow, fast := New(0), new(Run), []*Run{new(Run), new(Run), new(Run)}
	for i := range int64(records) {
		w.Push(driver.Batch{Records: []driver.Record{{Offset: i}}})
	}
	w.Take(slow, 1)
	slow.Advance(0, 1)
	for range records / len(fast) {
		for _, r := range fast {
			require.Equal(t, 1, w.Take(r, 1))
			r.Advance(1, 1)
		}
		for _, i := range []int{1, 2, 0} { // the run in the middle first, so that both sides join it
			require.True(t, w.Release(fast[i]))
		}
		require.LessOrEqual(t, len(w.flights), 2)
	}
	require.Zero(t, w.Position())
	slow.Advance(1, 1)
	require.True(t, w.Release(slow))
	require.EqualValues(t, records, w.Position())
	require.Empty(t, w.flights)
}

// The window keeps what was delivered, and copies only for Gather.
func TestSegmentsAreKept(t *testing.T) {
	w, r := New(0), new(Run)
	records := []driver.Record{{Offset: 0}, {Offset: 1}, {Offset: 2}}
	w.Push(driver.Batch{Records: records})
	w.Take(r, 2)
	assert.Same(t, &records[0], &r.Records[0])
	r.Advance(2, 2)
	require.True(t, w.Release(r))
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 3, Value: []byte("v")}}})
	require.Equal(t, 2, w.Gather(r, 9))
	assert.NotSame(t, &records[2], &r.Records[0])
	own := r.Records
	r.Advance(2, 2)
	require.True(t, w.Release(r))
	assert.Nil(t, own[1].Value, "a released run keeps what its records point to")
}

func TestWindowForgetsABurst(t *testing.T) {
	w, r := New(0), new(Run)
	for i := range int64(10 * idleSegments) {
		w.Push(driver.Batch{Records: []driver.Record{{Offset: i}}})
	}
	for w.Take(r, 100) > 0 {
		r.Advance(len(r.Records), len(r.Records))
		require.True(t, w.Release(r))
	}
	require.LessOrEqual(t, cap(w.segments), idleSegments)
}

// One lane after the other records costs no allocation.
func TestSerialDoesNotAllocate(t *testing.T) {
	w, r := New(0), new(Run)
	records, n := make([]driver.Record, 1), int64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		records[0].Offset = n
		n++
		w.Push(driver.Batch{Records: records})
		w.Take(r, 10)
		r.Advance(0, 1)
		r.Advance(1, 1)
		w.Release(r)
	}))
	require.Equal(t, n, w.Position())
}

// A commit may ask for the position of a claim that has ended: what was discarded is
// never passed.
func TestDiscardedRecordsAreNotPassed(t *testing.T) {
	w, r := New(0), new(Run)
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 0}, {Offset: 1}, {Offset: 2}}, Next: 9})
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 9}}})
	require.Equal(t, 2, w.Take(r, 2))
	w.Discard()
	require.Equal(t, 2, w.Len())
	require.Equal(t, recordCost(2), w.Bytes())
	require.EqualValues(t, 0, w.Position())
	r.Advance(2, 2)
	require.EqualValues(t, 2, w.Position())
	require.True(t, w.Release(r))
	require.EqualValues(t, 2, w.Position())
	require.Zero(t, w.Len())
	require.Zero(t, w.Bytes())
	require.Zero(t, w.Take(r, 9))

	untaken := New(4)
	untaken.Push(driver.Batch{Records: []driver.Record{{Offset: 5}}})
	untaken.Discard()
	require.EqualValues(t, 4, untaken.Position())
}

// recordCost returns what n empty records cost.
func recordCost(n int) int { return n * new(driver.Record).Size() }

// A run that gathered much gives the room back.
func TestGatheredRoomIsGivenBack(t *testing.T) {
	w, r := New(0), new(Run)
	for i := range int64(2 * idleRecords) {
		w.Push(driver.Batch{Records: []driver.Record{{Offset: i}}})
	}
	n := w.Gather(r, 2*idleRecords)
	require.Equal(t, 2*idleRecords, n)
	r.Advance(n, n)
	require.True(t, w.Release(r))
	require.Nil(t, r.own)
}
