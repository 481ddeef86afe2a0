package kafka

import (
	"time"
	"unsafe"

	"github.com/aarontianqx/gopkg/driver"
)

// A queue holds the records of one partition that have been delivered and not
// been released, in a ring. It is not safe for concurrent use, but what take
// returned stays valid until it is released, whatever is pushed meanwhile.
type queue struct {
	ring  []driver.Record // its length is a power of two
	head  int             // index of the oldest record
	taken int             // records from head that take has returned
	n     int             // records from head in all
	bytes int             // what the n records cost
}

// recordCost is what a record costs beside what it points to, and headerCost what
// each of its headers adds: there can be a million empty ones.
const (
	recordCost = int(unsafe.Sizeof(driver.Record{}))
	headerCost = int(unsafe.Sizeof(driver.Header{}))
)

// idleRing is the longest ring that an empty queue keeps: a burst should not
// hold its memory for ever.
const idleRing = 1024

func cost(r *driver.Record) int {
	c := recordCost + len(r.Key) + len(r.Value) + headerCost*len(r.Headers)
	for i := range r.Headers {
		c += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return c
}

// push appends copies of records.
func (q *queue) push(records []driver.Record) {
	if need := q.n + len(records); need > len(q.ring) {
		q.grow(need)
	}
	tail := (q.head + q.n) & (len(q.ring) - 1)
	k := copy(q.ring[tail:], records)
	copy(q.ring, records[k:])
	q.n += len(records)
	for i := range records {
		q.bytes += cost(&records[i])
	}
}

// grow moves to a new ring of at least need. The old one stays as it is for
// who still reads what take returned.
func (q *queue) grow(need int) {
	size := max(64, len(q.ring))
	for size < need {
		size *= 2
	}
	ring := make([]driver.Record, size)
	k := copy(ring, q.ring[q.head:min(q.head+q.n, len(q.ring))])
	copy(ring[k:], q.ring[:q.n-k])
	q.ring, q.head = ring, 0
}

// take returns up to limit of the oldest records that have not been taken.
func (q *queue) take(limit int) []driver.Record {
	if q.taken == q.n {
		return nil
	}
	from := (q.head + q.taken) & (len(q.ring) - 1)
	k := min(limit, q.n-q.taken, len(q.ring)-from)
	q.taken += k
	return q.ring[from : from+k : from+k]
}

// undone returns how many records lie from position up to handed, and when the
// first one from position on was made. What has been taken is all that is looked
// at, and one more.
func (q *queue) undone(position, handed int64) (n int, oldest time.Time) {
	for i := range min(q.taken+1, q.n) {
		r := &q.ring[(q.head+i)&(len(q.ring)-1)]
		if r.Offset < position {
			continue
		}
		if oldest.IsZero() {
			oldest = r.Timestamp
		}
		if r.Offset < handed {
			n++
		}
	}
	return n, oldest
}

// release forgets the k oldest records, which have been taken.
func (q *queue) release(k int) {
	for range k {
		r := &q.ring[q.head]
		q.bytes -= cost(r)
		*r = driver.Record{}
		q.head = (q.head + 1) & (len(q.ring) - 1)
	}
	q.n -= k
	q.taken -= k
	if q.n == 0 && len(q.ring) > idleRing {
		q.ring, q.head = nil, 0
	}
}
