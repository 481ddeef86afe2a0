package lanes

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// keys are few, so that lanes are long. The first two differ only in being nil.
var keys = [][]byte{nil, {}, []byte("a"), []byte("b"), []byte("ab"), {0}, {0, 0}, []byte("c"), []byte("d"), []byte("e")}

// batch makes a delivery behind end of n records, with a hole before the first, behind
// each fifth and behind the last.
func batch(end int64, n, key, before, after int) driver.Batch {
	var b driver.Batch
	next := max(end, 0) + int64(before)
	for i := range n {
		b.Records = append(b.Records, driver.Record{
			Offset: next, Key: keys[(key+i*(1+key))%len(keys)], Value: make([]byte, i%7), Timestamp: time.Unix(next, 0),
		})
		next++
		if i%5 == 4 {
			next += int64(before)
		}
	}
	if after > 0 {
		b.Next = next + int64(after) - 1
	}
	return b
}

func runsAbove(start int64, lengths ...int) (runs []finished.Run) {
	at := start
	for i := 0; i+1 < len(lengths); i += 2 {
		from := at + 1 + int64(lengths[i])
		at = from + 1 + int64(lengths[i+1])
		runs = append(runs, finished.Run{From: from, To: at})
	}
	return runs
}

// Records are taken and finished in any order, and the window is what the model says after
// each step.
func TestWindowAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Start:   rapid.SampledFrom([]int64{-1, 0, 7, 1<<31 - 5, 1 << 62}).Draw(t, "start"),
			Keyed:   rapid.SampledFrom([]bool{true, true, true, false}).Draw(t, "keyed"),
			Unnamed: rapid.SampledFrom([]bool{false, false, true}).Draw(t, "unnamed"),
		}
		var known []finished.Run
		if cfg.Start >= 0 {
			known = runsAbove(cfg.Start, rapid.SliceOfN(rapid.IntRange(0, 9), 0, 8).Draw(t, "known")...)
		}
		p := newPair(cfg, known)
		p.w.lanes.spread = rapid.SampledFrom([]uint32{math.MaxUint32, 1, 7 | 1<<31}).Draw(t, "hashes")
		p.w.seq = rapid.SampledFrom([]uint64{0, math.MaxUint32 - 5}).Draw(t, "seq")
		p.m.most = rapid.SampledFrom([]int{MaxDone, 20}).Draw(t, "most")
		p.w.most = p.m.most
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { p.check(t) },
			"push": func(t *rapid.T) {
				p.push(batch(p.m.end-rapid.SampledFrom([]int64{0, 0, 0, 2}).Draw(t, "again"), rapid.IntRange(0, 40).Draw(t, "n"),
					rapid.IntRange(0, len(keys)-1).Draw(t, "key"), rapid.IntRange(0, 3).Draw(t, "before"), rapid.IntRange(0, 3).Draw(t, "after")))
			},
			"take": func(t *rapid.T) {
				for range rapid.IntRange(1, 16).Draw(t, "n") {
					p.take(t)
				}
			},
			"finish":  func(t *rapid.T) { p.finish(t, p.m.running(), rapid.IntRange(0, 1000).Draw(t, "n")) },
			"finish2": func(t *rapid.T) { p.finish(t, p.m.running(), rapid.IntRange(0, 1000).Draw(t, "n")) },
			"again":   func(t *rapid.T) { p.finish(t, p.m.taken(), rapid.IntRange(0, 1000).Draw(t, "n")) },
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "close") == 20 {
					p.close()
				}
			},
		})
		p.drain(t)
	})
}

// FuzzWindow does the same with steps that the fuzzer chooses: of each two bytes the
// low bits of the first say which step, and the rest how.
func FuzzWindow(f *testing.F) {
	f.Add(int64(0), uint16(0), []byte{}, []byte{0, 0x52, 1, 0x10, 2, 0, 2, 0, 1, 3})
	f.Add(int64(-1), uint16(1), []byte{}, []byte{0, 0xf1, 1, 0xf1, 2, 1, 3, 1, 4, 0, 5, 1, 6, 9, 0, 0x31})
	f.Add(int64(7), uint16(0x102), []byte{0, 3, 2, 9}, []byte{0, 0x51, 1, 0x72, 2, 3, 2, 4, 1, 0x70, 7, 4, 2, 0})
	f.Add(int64(1)<<62, uint16(0x213), []byte{5, 5, 5, 5}, []byte{0, 0xf2, 0, 0xf3, 0, 0xf5, 1, 0xf0, 2, 0, 2, 0, 15, 255, 2, 0})
	f.Add(int64(-1), uint16(0), []byte{}, []byte{13, 48, 0, 0x30})
	f.Fuzz(func(t *testing.T, start int64, how uint16, lengths, ops []byte) {
		if start < -1 || start > 1<<62 || len(ops) > 200 || len(lengths) > 200 {
			t.Skip("no offset of Kafka's, more steps than are needed, or more runs than a text names")
		}
		cfg := Config{Start: start, Keyed: how&3 != 3, Unnamed: how&4 != 0}
		var known []finished.Run
		if start >= 0 {
			ints := make([]int, len(lengths))
			for i, n := range lengths {
				ints[i] = int(n) % 50
			}
			known = runsAbove(start, ints...)
		}
		p := newPair(cfg, known)
		p.w.lanes.spread = []uint32{math.MaxUint32, 1, 7 | 1<<31, 0}[how>>3&3]
		p.w.seq = []uint64{0, math.MaxUint32 - 5}[how>>5&1]
		p.m.most = []int{MaxDone, 20}[how>>6&1]
		p.w.most = p.m.most
		for i := 0; i+1 < len(ops); i += 2 {
			x := int(ops[i+1])
			switch op := ops[i]; op & 15 {
			case 0, 14:
				p.push(batch(p.m.end-int64(op>>7), x>>3, x&7+int(op>>6&1), int(op>>4&3), x>>1&3))
			case 1, 7, 8:
				for range 1 + x>>4 {
					p.take(t)
				}
			case 2, 3, 4, 5, 9, 10, 11:
				p.finish(t, p.m.running(), x)
			case 6, 12:
				p.finish(t, p.m.taken(), x) // it may be done
			case 13:
				p.push(driver.Batch{Next: p.m.end + int64(x)})
			case 15:
				if x == 255 {
					p.close()
				}
			}
			p.check(t)
		}
		p.drain(t)
	})
}
