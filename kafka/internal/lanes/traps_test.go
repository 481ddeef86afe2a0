package lanes

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// keyed returns a window with lanes from offset 0, and records of these keys in it.
func keyed(names ...string) *Window {
	w := New(Config{Keyed: true})
	pushKeys(w, names...)
	return w
}

// pushKeys pushes records of these keys; "nil" is no key.
func pushKeys(w *Window, names ...string) {
	records := make([]driver.Record, len(names))
	for i, name := range names {
		records[i] = driver.Record{Offset: w.end + int64(i), Key: []byte(name)}
		if name == "nil" {
			records[i].Key = nil
		}
	}
	w.Push(driver.Batch{Records: records})
}

// takeAll takes up to n and returns the slots by their offsets.
func takeAll(w *Window, n int) map[int64]Slot {
	var c Chunk
	w.Take(&c, n)
	slots := map[int64]Slot{}
	for _, taken := range c.taken {
		slots[taken.record.Offset] = taken.slot
	}
	return slots
}

func offsetsOf(slots map[int64]Slot) (offsets []int64) {
	for o := range slots {
		offsets = append(offsets, o)
	}
	return offsets
}

// A record without a key waits for nothing. One with an empty key waits for the one
// before it.
func TestNilKeyAndEmptyKeyDiffer(t *testing.T) {
	w := keyed("nil", "", "nil", "", "nil")
	first := takeAll(w, 9)
	require.ElementsMatch(t, []int64{0, 1, 2, 4}, offsetsOf(first))
	require.Equal(t, 1, w.Counts().Waiting)
	for _, o := range []int64{0, 2, 4} {
		require.True(t, w.Finish(first[o]))
	}
	require.Empty(t, takeAll(w, 9))
	require.True(t, w.Finish(first[1]))
	require.ElementsMatch(t, []int64{3}, offsetsOf(takeAll(w, 9)))
}

// Without lanes nothing waits.
func TestNothingWaitsWithoutLanes(t *testing.T) {
	w := New(Config{})
	pushKeys(w, "a", "a", "", "", "a")
	require.Len(t, takeAll(w, 9), 5)
	require.Zero(t, w.lanes.used)
}

// A slot keeps its name, its lane and its place while the window grows around it.
func TestSlotsOutliveGrowth(t *testing.T) {
	w := keyed("a", "b", "c", "a", "b", "c")
	taken := takeAll(w, 3)
	for i := range 5000 {
		pushKeys(w, fmt.Sprintf("key-%d", i%1700), "a")
	}
	require.Greater(t, len(w.slots), 5000)
	require.True(t, w.Finish(taken[0]))
	require.EqualValues(t, 1, w.Position())
	require.True(t, w.Finish(taken[1]))
	require.True(t, w.Finish(taken[2]))
	seen := map[string]int64{}
	for n := 0; n < 5000*2+3; {
		slots := takeAll(w, 1)
		require.Len(t, slots, 1)
		for o, slot := range slots {
			key := string(w.find(slot).record.Key)
			last, again := seen[key]
			require.True(t, !again || last < o, "%d of %q after %d", o, key, last)
			seen[key] = o
			require.True(t, w.Finish(slot))
			n++
		}
	}
	require.Equal(t, Counts{}, w.Counts())
	require.EqualValues(t, 10006, w.Position())
}

// The name of a record that is done is never the name of another one, also when 2³²
// records have come between.
func TestNumbersHave64Bits(t *testing.T) {
	w := keyed("a", "b")
	old := takeAll(w, 2)
	require.True(t, w.Finish(old[0]))
	w.seq += 1<<32 - 2
	pushKeys(w, "c")
	now := takeAll(w, 1)[2]
	require.Equal(t, old[0].index, now.index, "the slot is used again")
	require.Equal(t, uint32(old[0].seq), uint32(now.seq))
	require.False(t, w.Finish(old[0]), "the name of a record that is done finishes another one")
	require.Equal(t, 2, w.Counts().Running)
	require.True(t, w.Finish(now))
}

// A key whose home is taken lies behind it. When what is before it is done, it must be
// found all the same: otherwise it would get a second lane.
func TestCollidingKeysKeepTheirLanes(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	for _, spread := range []uint32{0, 1, 15, math.MaxUint32} { // all in one place, in two, in 16 or anywhere
		for done := range names {
			w := New(Config{Keyed: true})
			w.lanes.spread = spread
			pushKeys(w, names...)
			taken := takeAll(w, len(names))
			require.True(t, w.Finish(taken[int64(done)]))
			for i, name := range names {
				if i != done {
					pushKeys(w, name)
				}
			}
			require.Zero(t, w.Counts().Ready, "a key has a second lane after %q is done; spread %d", names[done], spread)
		}
	}
}

// The table against a map, small enough that entries wrap around its end.
func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := table{spread: rapid.SampledFrom([]uint32{0, 3, 14 | 1<<20, math.MaxUint32}).Draw(t, "spread")}
		home := rapid.Uint32Range(0, 15).Draw(t, "home")
		slots, lanes := make([]slot, 1), map[string]uint32{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}).Draw(t, "key")
				hash := home + uint32(len(key)) // keys of one length have one hash
				if len(key) > 0 {
					hash += uint32(key[0]&3) << 1
				}
				slots = append(slots, slot{hash: hash, record: &driver.Record{Key: []byte(key)}})
				i := uint32(len(slots) - 1)
				require.Equal(t, lanes[key], table.put(slots, i))
				lanes[key] = i
			},
			"remove": func(t *rapid.T) {
				if len(lanes) == 0 {
					t.Skip("empty")
				}
				var names []string
				for _, key := range []string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
					if lanes[key] != 0 {
						names = append(names, key)
					}
				}
				key := rapid.SampledFrom(names).Draw(t, "key")
				table.remove(slots[lanes[key]].hash, lanes[key])
				slots[lanes[key]] = slot{}
				delete(lanes, key)
			},
			"": func(t *rapid.T) { require.Equal(t, len(lanes), table.used) },
		})
	})
}

// A slot that was released is zeroed, and a zeroed slot has no key: an empty key must
// find neither it nor the record that has the slot now.
func TestReleasedSlotIsNotAnEmptyKey(t *testing.T) {
	w := keyed("", "x")
	taken := takeAll(w, 2)
	require.True(t, w.Finish(taken[0]))
	require.Equal(t, 1, w.lanes.used, "the lane of the empty key is left")
	pushKeys(w, "")
	require.Equal(t, 1, w.Counts().Ready, "an empty key waits for a record that is done")
	again := takeAll(w, 1)
	require.True(t, w.Finish(again[2]))
	pushKeys(w, "a", "")
	require.Equal(t, 2, w.Counts().Ready, "an empty key waits for another key")
	pushKeys(w, "")
	require.Equal(t, 1, w.Counts().Waiting)
}

// A goroutine that finishes while its partition is revoked does not get the next record
// of the lane, and the position stays below it.
func TestNothingIsTakenAfterClose(t *testing.T) {
	w := keyed("a", "a", "b", "b", "c")
	var c Chunk
	require.Equal(t, 2, w.Take(&c, 2))
	c.Next()
	w.Close()
	require.Equal(t, 1, w.GiveBack(&c), "what has not begun")
	_, ok := c.Next() // the first is done
	require.False(t, ok)
	require.Zero(t, w.Take(&c, 9))
	require.Equal(t, Counts{}, w.Counts())
	require.EqualValues(t, 1, w.Position())
	require.Zero(t, w.Push(driver.Batch{Records: []driver.Record{{Offset: 9}}, Next: 20}))
	require.EqualValues(t, 1, w.Position())
}

// What runs may be finished after Close, and counts.
func TestFinishAfterClose(t *testing.T) {
	w := keyed("a", "b", "c", "d")
	taken := takeAll(w, 3)
	w.Close()
	require.True(t, w.Finish(taken[1]))
	position, runs := w.Progress(nil)
	require.Zero(t, position)
	require.Equal(t, []finished.Run{{From: 1, To: 2}}, runs)
	require.Equal(t, Counts{Undone: 2, Bytes: 2 * (new(driver.Record).Size() + 1), Running: 2, Done: 1}, w.Counts())
}

// 16 keys are in one chunk, and the first record blocks: any other goroutine can have
// the other 15, and what was done before a record that blocks counts.
func TestChunkThatBlocksGivesTheRestBack(t *testing.T) {
	w := New(Config{Keyed: true})
	for i := range 16 {
		pushKeys(w, fmt.Sprint(i))
	}
	var stuck, other Chunk
	require.Equal(t, 16, w.Take(&stuck, 16))
	for range 3 {
		stuck.Next()
	}
	require.Equal(t, 13, w.GiveBack(&stuck))
	require.EqualValues(t, 2, w.Position(), "two are done before the one that blocks")
	require.Zero(t, w.Take(&stuck, 1), "its record is at hand")
	require.Equal(t, 13, w.Take(&other, 16))
	for want := int64(3); ; want++ {
		r, ok := other.Next()
		if !ok {
			require.EqualValues(t, 16, want)
			break
		}
		require.Equal(t, want, r.Offset, "the order is kept")
	}
	require.Zero(t, w.Take(&other, 16))
	require.Equal(t, Counts{Undone: 1, Bytes: new(driver.Record).Size() + 1, Running: 1, Done: 13}, w.Counts())
	_, ok := stuck.Next()
	require.False(t, ok)
	w.Settle(&stuck)
	require.EqualValues(t, 16, w.Position())
}

// The position is the oldest record that is not done, and passes holes at the end when
// all is done. It stays behind them when more comes.
func TestPositionPassesHoles(t *testing.T) {
	w := New(Config{Start: 0, Keyed: true})
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 3}, {Offset: 5}}, Next: 8})
	taken := takeAll(w, 2)
	require.True(t, w.Finish(taken[5]))
	position, runs := w.Progress(nil)
	require.EqualValues(t, 3, position)
	require.Equal(t, []finished.Run{{From: 5, To: 6}}, runs)
	require.True(t, w.Finish(taken[3]))
	position, runs = w.Progress(nil)
	require.EqualValues(t, 8, position)
	require.Empty(t, runs)
	w.Push(driver.Batch{Next: 12})
	require.EqualValues(t, 12, w.Position())
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 20}}})
	require.EqualValues(t, 20, w.Position())

	unknown := New(Config{Start: -1})
	unknown.Push(driver.Batch{Records: []driver.Record{{Offset: 5}}})
	require.EqualValues(t, -1, unknown.Position(), "nothing has been handed out")
	takeAll(unknown, 1)
	require.EqualValues(t, 5, unknown.Position())

	passed := New(Config{Start: -1})
	passed.Push(driver.Batch{Next: 47})
	require.EqualValues(t, 47, passed.Position())
	passed.Push(driver.Batch{Records: []driver.Record{{Offset: 50}}})
	require.EqualValues(t, 50, passed.Position())
}

// What a predecessor finished is passed over. It stays named until the position has
// passed it, also before it was delivered, and the position is never one of it.
func TestKnownRecordsArePassedOver(t *testing.T) {
	w := New(Config{Start: 42, Keyed: true})
	w.Known([]finished.Run{{From: 43, To: 45}, {From: 47, To: 50}, {From: 60, To: 61}})
	progress := func() (int64, []finished.Run) { return w.Progress(nil) }
	position, runs := progress()
	require.EqualValues(t, 42, position)
	require.Equal(t, []finished.Run{{From: 43, To: 45}, {From: 47, To: 50}, {From: 60, To: 61}}, runs)

	records := make([]driver.Record, 6)
	for i := range records {
		records[i].Offset = 42 + int64(i)
	}
	require.Equal(t, 3, w.Push(driver.Batch{Records: records})) // 42 to 47
	require.Equal(t, Counts{Undone: 3, Bytes: 3 * records[0].Size(), Ready: 3, Done: 3}, w.Counts())
	taken := takeAll(w, 9)
	require.ElementsMatch(t, []int64{42, 45, 46}, offsetsOf(taken))
	require.True(t, w.Finish(taken[46]))
	position, runs = progress()
	require.EqualValues(t, 42, position)
	require.Equal(t, []finished.Run{{From: 43, To: 45}, {From: 46, To: 50}, {From: 60, To: 61}}, runs)
	require.True(t, w.Finish(taken[42]))
	require.EqualValues(t, 45, w.Position())
	require.True(t, w.Finish(taken[45]))
	position, runs = progress()
	require.EqualValues(t, 50, position, "48 and 49 are known to be done")
	require.Equal(t, []finished.Run{{From: 60, To: 61}}, runs)
	require.Equal(t, 2, w.Push(driver.Batch{Records: []driver.Record{{Offset: 48}, {Offset: 49}, {Offset: 50}}}))
	require.Equal(t, 1, w.Counts().Ready)
	require.Zero(t, w.Counts().Done)
	w.Push(driver.Batch{Next: 60})
	require.True(t, w.Finish(takeAll(w, 1)[50]))
	require.EqualValues(t, 61, w.Position())
}

// A window is full when MaxDone records above the position are done, and no longer when
// the position has moved.
func TestFullOfDoneRecords(t *testing.T) {
	w := keyed("stuck")
	var stuck, c Chunk
	require.Equal(t, 1, w.Take(&stuck, 1))
	stuck.Next()
	for w.Counts().Done < MaxDone-1 {
		if w.Take(&c, 100) == 0 {
			records := make([]driver.Record, min(1000, MaxDone-1-w.Counts().Done))
			for i := range records {
				records[i].Offset = w.end + int64(i)
			}
			w.Push(driver.Batch{Records: records})
			continue
		}
		for ok := true; ok; _, ok = c.Next() {
		}
	}
	require.False(t, w.Full())
	require.Less(t, len(w.slots), 1100, "records that are done keep slots")
	require.Len(t, w.runs.at, 2)
	pushKeys(w, "nil")
	require.Equal(t, 1, w.Take(&c, 1))
	c.Next()
	c.Done()
	w.Settle(&c)
	require.True(t, w.Full())
	require.Zero(t, w.Position())
	stuck.Done()
	w.Settle(&stuck)
	require.False(t, w.Full())
	require.EqualValues(t, MaxDone+1, w.Position())
}

// A window is full as soon as a text has no room for its runs, and Encode agrees.
func TestFullOfRuns(t *testing.T) {
	for _, hole := range []int64{1, 100, 1 << 20, 1 << 31} {
		w := New(Config{Keyed: true})
		unnamed := New(Config{Unnamed: true})
		records := make([]driver.Record, 4000)
		for i := range records {
			records[i].Offset = int64(i) * hole
			if hole == 1<<31 && i < 10 {
				records[i].Offset = int64(i)
			}
		}
		w.Push(driver.Batch{Records: records})
		unnamed.Push(driver.Batch{Records: records})
		slots, others := takeAll(w, len(records)), takeAll(unnamed, len(records))
		was := 0
		for k, i := range rand.New(rand.NewPCG(uint64(hole), 0)).Perm(len(records)) {
			require.True(t, w.Finish(slots[records[i].Offset]))
			require.True(t, unnamed.Finish(others[records[i].Offset]))
			require.False(t, unnamed.Full())
			if k%7 > 0 && hole != 1<<31 {
				continue
			}
			position, runs := w.Progress(nil)
			require.Equal(t, !allNamed(position, runs), w.Full(), "%d runs", len(runs))
			require.LessOrEqual(t, len(runs), finished.Room/2+1)
			if w.Full() {
				was++
			}
		}
		require.NotZero(t, was)
		require.False(t, w.Full())
		require.Zero(t, w.runs.n)
	}
}

// A record that is done holds no memory but its part of a run.
func TestPayloadIsReleased(t *testing.T) {
	w := New(Config{Keyed: true})
	released := make(chan int64, 1)
	func() {
		r := &driver.Record{Offset: 1, Key: []byte("key"), Value: make([]byte, 1<<16)}
		runtime.AddCleanup(&r.Value[0], func(offset int64) { released <- offset }, 1)
		w.Push(driver.Batch{Records: []driver.Record{{Offset: 0}}})
		w.Push(driver.Batch{Records: []driver.Record{*r}})
	}()
	var stuck, c Chunk
	require.Equal(t, 1, w.Take(&stuck, 1))
	stuck.Next()
	require.Equal(t, 1, w.Take(&c, 1))
	c.Next()
	c.Done()
	w.Settle(&c)
	runtime.GC()
	select {
	case <-released:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the value of a record that is done is still held")
	}
	require.Equal(t, 1, w.Counts().Done)
}

// About the oldest comes first: a key that has many records is not held up by others.
func TestOldestFirst(t *testing.T) {
	w := New(Config{Keyed: true})
	for i := range 4000 {
		pushKeys(w, "hot", fmt.Sprint("cold-", i))
	}
	var c Chunk
	for i := range int64(4000) {
		require.Equal(t, 1, w.Take(&c, 1))
		r, _ := c.Next()
		c.Done()
		require.LessOrEqual(t, r.Offset, w.Position()+64, "taken as number %d", i)
	}
}

// Deeper than the queue is long, everything is taken once all the same.
func TestQueueDeeperThanItsBuckets(t *testing.T) {
	const n = 3 * 64 << bucketBits
	w := New(Config{})
	records := make([]driver.Record, n)
	for i := range records {
		records[i].Offset = int64(i)
	}
	w.Push(driver.Batch{Records: records})
	var c Chunk
	for range n {
		require.NotZero(t, w.Take(&c, 3)) // the first one is done, and the others are given back
		c.Next()
		c.Done()
	}
	require.Zero(t, w.Take(&c, 1))
	require.EqualValues(t, n, w.Position())
}

func TestWindowForgetsABurst(t *testing.T) {
	w := New(Config{Keyed: true})
	var c Chunk
	for range 3 {
		for i := range 20 * idleSlots {
			pushKeys(w, fmt.Sprint(i))
		}
		slots := takeAll(w, math.MaxInt)
		for o := w.end - 1; slots[o].seq != 0; o-- {
			if o%2 == 0 {
				w.Finish(slots[o])
			}
		}
		for _, slot := range slots {
			w.Finish(slot)
		}
		require.Zero(t, w.Take(&c, 1))
		require.LessOrEqual(t, cap(w.slots), idleSlots)
		require.LessOrEqual(t, len(w.lanes.entries), 2*idleSlots)
		require.LessOrEqual(t, cap(w.runs.at), idleSlots)
	}
}

// In the steady state nothing is allocated per record.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	l := newLoad(Config{Keyed: true}, 1000, 1000)
	chunks := make([]Chunk, 64)
	var runs []finished.Run
	step := func() {
		c := &chunks[l.random.IntN(len(chunks))]
		c.Next()
		c.Done()
		l.w.Take(c, 1)
		_, runs = l.w.Progress(runs[:0])
		l.fill()
	}
	for range 200_000 {
		step()
	}
	require.Zero(t, testing.AllocsPerRun(20_000, step))
}

// Goroutines hand out records beside each other and take chunks away from each other.
// No key is handled twice at once or out of order, and nothing is lost.
func TestGoroutines(t *testing.T) {
	const records, names = 20_000, 30
	w := New(Config{Keyed: true})
	var mu sync.Mutex
	chunks := make([]Chunk, 8)
	busy, last := [names]sync.Mutex{}, [names]int64{}
	var group sync.WaitGroup
	for g := range chunks {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			c := &chunks[g]
			for {
				mu.Lock()
				for w.end < records && w.Counts().Undone < 500 {
					pushKeys(w, string([]byte{byte(random.IntN(names))}), string([]byte{byte(random.IntN(names))}))
				}
				if random.IntN(4) == 0 {
					w.GiveBack(&chunks[random.IntN(len(chunks))])
				}
				w.Settle(&chunks[random.IntN(len(chunks))])
				n, left := w.Take(c, 1+random.IntN(16)), w.Counts().Undone
				mu.Unlock()
				if n == 0 {
					if left == 0 {
						return
					}
					runtime.Gosched()
				}
				for r, ok := c.Next(); ok; r, ok = c.Next() {
					key := r.Key[0]
					if !assert.True(t, busy[key].TryLock(), "key %d is handled twice at once", key) {
						return
					}
					assert.GreaterOrEqual(t, r.Offset, last[key], "key %d", key)
					last[key] = r.Offset
					busy[key].Unlock()
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, records, w.Position())
	require.Equal(t, Counts{}, w.Counts())
}
