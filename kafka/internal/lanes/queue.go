package lanes

import "math/bits"

// A queue is the slots that are ready, by the numbers of their records, about the
// lowest first: in buckets of 64 numbers each. So every operation takes the same short
// time, however many slots there are. Within a bucket the first to come is the first to
// be taken.
//
// The oldest first, and not the first that became ready: in turns with all other keys, a
// key that has twice as many records as they would fill the window with its lane.
type queue struct {
	buckets [1 << bucketBits]bucket // that of number n is n>>numberBits, in a circle
	used    [1 << (bucketBits - 6)]uint64
	low     uint64 // the lowest bucket that may be used, not reduced to the circle
	n       int
}

const (
	bucketBits = 8
	numberBits = 6
)

// A bucket is slots that are linked by queued.
type bucket struct {
	first, last uint32
}

// push adds a slot behind those of its bucket. Those before the lowest bucket go to its
// front, and those behind the circle into the last one.
func (q *queue) push(slots []slot, i uint32, number uint64) {
	b, early := q.bucket(number)
	if early {
		b.unshift(slots, i)
	} else {
		b.push(slots, i)
	}
}

// bucket returns the bucket for one more slot, and whether the slot belongs before all.
func (q *queue) bucket(number uint64) (b *bucket, early bool) {
	at := number >> numberBits
	switch {
	case q.n == 0:
		q.low = at
	case at < q.low:
		at, early = q.low, true
	case at-q.low >= uint64(len(q.buckets)):
		at = q.low + uint64(len(q.buckets)) - 1
	}
	q.n++
	at %= uint64(len(q.buckets))
	q.used[at>>6] |= 1 << (at & 63)
	return &q.buckets[at], early
}

// shift takes the first slot of the lowest bucket, or returns 0.
func (q *queue) shift(slots []slot) uint32 {
	if q.n == 0 {
		return 0
	}
	q.n--
	at := q.lowest()
	b := &q.buckets[at]
	i := b.first
	b.first, slots[i].queued = slots[i].queued, 0
	if b.first == 0 {
		q.used[at>>6] &^= 1 << (at & 63)
	}
	return i
}

// first returns the slot that shift would take, or 0.
func (q *queue) first() uint32 {
	if q.n == 0 {
		return 0
	}
	return q.buckets[q.lowest()].first
}

// lowest moves low to the lowest bucket that is used, and returns its place.
func (q *queue) lowest() uint64 {
	at := q.low % uint64(len(q.buckets))
	word := at >> 6
	left := q.used[word] >> (at & 63) << (at & 63)
	for left == 0 {
		word = (word + 1) % uint64(len(q.used))
		left = q.used[word]
	}
	lowest := word<<6 | uint64(bits.TrailingZeros64(left))
	q.low += (lowest - at) % uint64(len(q.buckets))
	return lowest
}

func (b *bucket) push(slots []slot, i uint32) {
	if b.first == 0 {
		b.first = i
	} else {
		slots[b.last].queued = i
	}
	b.last = i
}

func (b *bucket) unshift(slots []slot, i uint32) {
	if b.first == 0 {
		b.last = i
	}
	slots[i].queued, b.first = b.first, i
}
