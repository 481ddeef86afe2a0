package lanes

import (
	"math"

	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// runs are the runs of finished offsets above the position, in order. They are a ring of
// links through at[0], whose end is the position.
type runs struct {
	at    []run
	free  uint32 // the first that is not used, linked by next; or 0
	ahead uint32 // the first of the known ones that begin behind all that was pushed, or 0
	n     int

	// What they take of a text is counted only while they are so many that it matters.
	counting bool
	cost     int // the sum of finished.Cost
}

// Any text has room for fewRuns runs, unless one is longer than a text can say: each takes
// 10 bytes at most.
const fewRuns = finished.Room / 10

// A run is offsets that are finished: those of records, and holes between them.
type run struct {
	from, to   int64
	records    int // as far as they were pushed
	prev, next uint32
}

func newRuns(position int64) runs {
	return runs{at: []run{{to: position}}}
}

// fit reports whether one text has room for all runs.
func (r *runs) fit() bool {
	switch {
	case r.counting:
		return r.cost <= finished.Room
	case r.last()-r.at[0].to <= math.MaxInt32:
		return true
	}
	return r.sum() <= finished.Room
}

// count notes that there is one run more, or one less, and counts what they take from
// now on or no longer.
func (r *runs) count(more int) {
	r.n += more
	if r.n > fewRuns && !r.counting {
		r.counting, r.cost = true, r.sum()
	} else if r.n < fewRuns/2 {
		r.counting, r.cost = false, 0
	}
}

// sum returns what all runs take.
func (r *runs) sum() (cost int) {
	for i := r.at[0].next; i != 0; i = r.at[i].next {
		cost += r.take(i)
	}
	return cost
}

// take returns what a run takes. A text names how far it lies behind the one before.
func (r *runs) take(i uint32) int {
	n := &r.at[i]
	return finished.Cost(n.from-r.at[n.prev].to, n.to-n.from)
}

// costOf is take while that is counted.
func (r *runs) costOf(i uint32) int {
	if !r.counting || i == 0 {
		return 0
	}
	return r.take(i)
}

// costs returns what a run and the next one take.
func (r *runs) costs(i uint32) int { return r.costOf(i) + r.costOf(r.at[i].next) }

// last returns where the last run ends, or the position.
func (r *runs) last() int64 { return r.at[r.at[0].prev].to }

// append adds a known run behind all others.
func (r *runs) append(known finished.Run) {
	i := r.put(r.at[0].prev, run{from: known.From, to: known.To})
	if r.ahead == 0 {
		r.ahead = i
	}
}

// insert adds a run of one record behind another run.
func (r *runs) insert(behind uint32, offset int64) uint32 {
	return r.put(behind, run{from: offset, to: offset + 1, records: 1})
}

func (r *runs) put(behind uint32, n run) uint32 {
	r.cost -= r.costOf(r.at[behind].next)
	n.prev, n.next = behind, r.at[behind].next
	i := r.free
	if i != 0 {
		r.free = r.at[i].next
		r.at[i] = n
	} else {
		i = uint32(len(r.at))
		r.at = append(r.at, n)
	}
	r.at[n.prev].next, r.at[n.next].prev = i, i
	r.cost += r.costs(i)
	r.count(1)
	return i
}

// credit counts one record more for a run.
func (r *runs) credit(i uint32) { r.at[i].records++ }

// known returns the next known run and where it ends, if it begins at or below an
// offset, or 0.
func (r *runs) known(below int64) (i uint32, to int64) {
	i = r.ahead
	if i == 0 || r.at[i].from > below {
		return 0, 0
	}
	r.ahead = r.at[i].next
	return i, r.at[i].to
}

// stretch adds a record at the end of a run.
func (r *runs) stretch(i uint32, to int64) {
	r.cost -= r.costs(i)
	r.at[i].to = to
	r.at[i].records++
	r.cost += r.costs(i)
}

// begin adds a record at the beginning of a run.
func (r *runs) begin(i uint32, from int64) {
	r.cost -= r.costOf(i)
	r.at[i].from = from
	r.at[i].records++
	r.cost += r.costOf(i)
}

// join makes one run of two neighbours. No record between them is undone.
func (r *runs) join(i, next uint32) {
	to := r.at[next].to
	records := r.remove(next)
	r.cost -= r.costs(i)
	r.at[i].to = to
	r.at[i].records += records
	r.cost += r.costs(i)
}

// remove forgets a run, and returns how many records it had.
func (r *runs) remove(i uint32) (records int) {
	n := r.at[i]
	r.cost -= r.costs(i)
	r.at[n.prev].next, r.at[n.next].prev = n.next, n.prev
	r.cost += r.costOf(n.next)
	r.at[i] = run{next: r.free}
	r.free = i
	r.count(-1)
	return n.records
}

// rebase notes that the position has moved. No run is below it.
func (r *runs) rebase(position int64) {
	first := r.at[0].next
	r.cost -= r.costOf(first)
	r.at[0].to = position
	r.cost += r.costOf(first)
}

// appendTo appends the runs to done, as many as a text can name at most.
func (r *runs) appendTo(done []finished.Run) []finished.Run {
	n := 0
	for i := r.at[0].next; i != 0 && n <= finished.Room/2; i = r.at[i].next {
		done = append(done, finished.Run{From: r.at[i].from, To: r.at[i].to})
		n++
	}
	return done
}

// shrink gives back room that many runs took, if none is left.
func (r *runs) shrink() {
	if r.at[0].next != 0 {
		return
	}
	r.at, r.free = r.at[:1], 0
	if cap(r.at) > idleSlots {
		r.at = []run{r.at[0]}
	}
}
