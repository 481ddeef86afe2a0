package position

import (
	"maps"
	"slices"
	"sync"
)

// EndUnknown stands for an end that could not be looked up before the join. It is looked
// up when the claim starts: without a leader nothing is appended in between.
const EndUnknown = -1

// Pin decides which ends are made durable as the start of "newest", for a group that has
// no position in the topics of fresh. Its arguments are the ends and beginnings that the
// leaders have answered, and which partitions were still fresh after that: another member
// may have pinned a topic, and have gone again, in between, and the records that have
// come since must not be skipped. Pin also returns the partitions whose pin is owed
// until their claim starts, since a leader did not answer.
func Pin(fresh, still []Partition, ends, begins map[Partition]int64) (pins, owed map[Partition]int64) {
	pins, owed = map[Partition]int64{}, map[Partition]int64{}
	for _, p := range fresh {
		end, answered := ends[p]
		_, known := begins[p]
		switch {
		case !slices.Contains(still, p):
		case !answered || !known:
			owed[p] = EndUnknown
		default:
			pins[p] = end
		}
	}
	return pins, owed
}

// Owed are pins that could not be made durable before a join. Several goroutines may use
// it.
type Owed struct {
	mu   sync.Mutex
	pins map[Partition]int64
}

// Add adds pins, and returns all that are owed. A pin that is owed already stays: its end
// is the earlier one.
func (o *Owed) Add(pins map[Partition]int64) map[Partition]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pins == nil {
		o.pins = map[Partition]int64{}
	}
	for p, end := range pins {
		if _, ok := o.pins[p]; !ok {
			o.pins[p] = end
		}
	}
	return maps.Clone(o.pins)
}

// Settle notes that the claim of p has a start.
func (o *Owed) Settle(p Partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pins, p)
}
