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
	slots := map[int64]Slot{}
	for len(slots) < n {
		slot, r, ok := w.Take()
		if !ok {
			break
		}
		slots[r.Offset] = slot
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
	taken := takeAll(w, 1)
	w.Close()
	require.True(t, w.Finish(taken[0]))
	require.Empty(t, takeAll(w, 9))
	require.Equal(t, Counts{}, w.Counts())
	require.EqualValues(t, 1, w.Position())
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 9}}, Next: 20})
	require.Equal(t, Counts{}, w.Counts())
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
	w.Push(driver.Batch{Records: records}) // 42 to 47
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
	w.Push(driver.Batch{Records: []driver.Record{{Offset: 48}, {Offset: 49}, {Offset: 50}}})
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
	stuck := takeAll(w, 1)[0]
	for w.Counts().Done < MaxDone-1 {
		slot, _, ok := w.Take()
		if !ok {
			records := make([]driver.Record, min(1000, MaxDone-1-w.Counts().Done))
			for i := range records {
				records[i].Offset = w.end + int64(i)
			}
			w.Push(driver.Batch{Records: records})
			continue
		}
		w.Finish(slot)
	}
	require.False(t, w.Full())
	require.Less(t, len(w.slots), 1100, "records that are done keep slots")
	require.Len(t, w.runs.at, 2)
	pushKeys(w, "nil")
	require.True(t, w.Finish(takeAll(w, 1)[MaxDone]))
	require.True(t, w.Full())
	require.Zero(t, w.Position())
	require.True(t, w.Finish(stuck))
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
	require.True(t, w.Finish(takeAll(w, 2)[1]))
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
	for i := range 4000 {
		slot, r, ok := w.Take()
		require.True(t, ok)
		require.LessOrEqual(t, r.Offset, w.Position()+64, "taken as number %d", i)
		require.True(t, w.Finish(slot))
	}
}

// A key whose first record took long goes on with its next one before all others.
func TestAKeyThatWasHeldUpComesFirst(t *testing.T) {
	w := keyed("hot", "hot")
	for i := range 1000 {
		pushKeys(w, fmt.Sprint("cold-", i))
	}
	hot := takeAll(w, 1)[0]
	for _, slot := range takeAll(w, 500) {
		w.Finish(slot)
	}
	require.True(t, w.Finish(hot))
	_, r, _ := w.Take()
	require.EqualValues(t, 1, r.Offset)
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
	taken := takeAll(w, n)
	require.Len(t, taken, n)
	require.Empty(t, takeAll(w, 1))
	for _, slot := range taken {
		require.True(t, w.Finish(slot))
	}
	require.EqualValues(t, n, w.Position())
}

func TestWindowForgetsABurst(t *testing.T) {
	w := New(Config{Keyed: true})
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
		require.Empty(t, takeAll(w, 1))
		require.LessOrEqual(t, cap(w.slots), idleSlots)
		require.LessOrEqual(t, len(w.lanes.entries), 2*idleSlots)
		require.LessOrEqual(t, cap(w.runs.at), idleSlots)
	}
}

// In the steady state nothing is allocated per record.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	l := newLoad(Config{Keyed: true}, 1000, 1000)
	slots := make([]Slot, 64)
	var runs []finished.Run
	step := func() {
		s := &slots[l.random.IntN(len(slots))]
		l.w.Finish(*s)
		*s, _, _ = l.w.Take()
		_, runs = l.w.Progress(runs[:0])
		l.fill()
	}
	for range 200_000 {
		step()
	}
	require.Zero(t, testing.AllocsPerRun(20_000, step))
}

// Goroutines hand out records beside each other. No key is handled twice at once or out of
// order, and nothing is lost.
func TestGoroutines(t *testing.T) {
	const records, names = 20_000, 30
	w := New(Config{Keyed: true})
	var mu sync.Mutex
	busy, last := [names]sync.Mutex{}, [names]int64{}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(g)))
			for {
				mu.Lock()
				for w.end < records && w.Counts().Undone < 500 {
					pushKeys(w, string([]byte{byte(random.IntN(names))}), string([]byte{byte(random.IntN(names))}))
				}
				slot, r, ok := w.Take()
				left := w.Counts().Undone
				mu.Unlock()
				switch {
				case !ok && left == 0:
					return
				case !ok:
					runtime.Gosched()
					continue
				}
				key := r.Key[0]
				if !assert.True(t, busy[key].TryLock(), "key %d is handled twice at once", key) {
					return
				}
				assert.GreaterOrEqual(t, r.Offset, last[key], "key %d", key)
				last[key] = r.Offset
				busy[key].Unlock()
				mu.Lock()
				w.Finish(slot)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.EqualValues(t, records, w.Position())
	require.Equal(t, Counts{}, w.Counts())
}
