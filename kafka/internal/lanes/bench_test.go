package lanes

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

// A load pushes records of random keys, of which there are so many, and never lets the
// window run low.
type load struct {
	w       *Window
	records []driver.Record // used again when they are done
	batch   int
	next    int64
	depth   int
	random  *rand.Rand
}

func newLoad(cfg Config, keys, depth int) *load {
	l := &load{w: New(cfg), batch: 50, depth: depth, random: rand.New(rand.NewPCG(1, 2))}
	l.records = make([]driver.Record, 8*depth/l.batch*l.batch)
	names := make([][]byte, keys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "customer-%d", i)
	}
	for i := range l.records {
		l.records[i] = driver.Record{Key: names[l.random.IntN(keys)], Value: make([]byte, 10)}
	}
	return l
}

func (l *load) fill() {
	for l.w.counts.Undone <= l.depth-l.batch {
		at := int(l.next % int64(len(l.records)))
		b := l.records[at : at+l.batch]
		for i := range b {
			b[i].Offset = l.next
			l.next++
		}
		l.w.Push(driver.Batch{Records: b})
	}
}

// One record is pushed, taken and finished while 64 goroutines have one each, and
// finish them in any order.
func BenchmarkRecord(b *testing.B) {
	for _, bench := range []struct {
		name  string
		cfg   Config
		keys  int
		depth int
	}{
		{"1,000 keys", Config{Keyed: true}, 1000, 1000},
		{"1,000 keys, 10,000 deep", Config{Keyed: true}, 1000, 10000},
		{"no lanes", Config{}, 1000, 1000},
	} {
		b.Run(bench.name, func(b *testing.B) {
			l := newLoad(bench.cfg, bench.keys, bench.depth)
			slots := make([]Slot, 64)
			order := make([]uint8, 1<<16)
			for i := range order {
				order[i] = uint8(l.random.IntN(len(slots)))
			}
			step := func(i int) {
				s := &slots[order[i%len(order)]]
				l.w.Finish(*s)
				*s, _, _ = l.w.Take()
				l.fill()
			}
			l.fill()
			for i := range 20 * bench.depth {
				step(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				step(i)
			}
			b.ReportMetric(float64(l.w.counts.Done), "above")
		})
	}
}
