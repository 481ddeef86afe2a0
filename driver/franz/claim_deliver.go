package franz

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

// batch converts records, which have come in one answer, up to the first that cannot be. It
// makes one slice of records and one of headers: the core keeps both. Kgo has made the bytes
// that they point to for this answer alone.
func (cl *claim) batch(fetched []*kgo.Record) (driver.Batch, *recordbatch.Damage) {
	var damage *recordbatch.Damage
	next, n, headers := cl.next.Load(), 0, 0
	for i, r := range fetched {
		if r.Offset < next || r.Offset == math.MaxInt64 {
			damage = &recordbatch.Damage{Offset: max(next, 0), Err: recordbatch.Corrupt(
				"a record at offset %d, where at least %d is next", r.Offset, next)}
			fetched = fetched[:i]
			break
		}
		next = r.Offset + 1
		if !r.Attrs.IsControl() {
			n++
			headers += len(r.Headers)
		}
	}
	if len(fetched) == 0 {
		return driver.Batch{}, damage
	}
	b := driver.Batch{Next: next}
	if n > 0 {
		b.Records = make([]driver.Record, 0, n)
	}
	var slab []driver.Header
	if headers > 0 {
		slab = make([]driver.Header, 0, headers)
	}
	for _, r := range fetched {
		if r.Attrs.IsControl() {
			continue // it moves Next
		}
		record := driver.Record{Offset: r.Offset, Timestamp: timeOf(r.Timestamp), Key: r.Key, Value: r.Value}
		if len(r.Headers) > 0 {
			from := len(slab)
			for _, h := range r.Headers {
				slab = append(slab, driver.Header{Key: h.Key, Value: h.Value})
			}
			record.Headers = slab[from:len(slab):len(slab)]
		}
		b.Records = append(b.Records, record)
	}
	cl.arrived(fetched, next)
	return b, damage
}

// timeOf returns the time of a record as it is stored. franz-go makes nanoseconds of its
// milliseconds: no time, which is -1, becomes one before 1970, and a time beyond the year
// 2262, such as one that was meant in microseconds, overflows. Then it is no whole number
// of milliseconds.
func timeOf(t time.Time) time.Time {
	const inverse = 0x790fb65668c26139 // of 15625, modulo 2^64
	switch ns := t.UnixNano(); {
	case ns == -1e6:
		return time.Time{}
	case ns%1e6 != 0: // ms * 64 * 15625, modulo 2^64: what is lost of ms are its upper 6 bits
		return time.UnixMilli(int64(uint64(ns)>>6*inverse<<6) >> 6)
	}
	return t
}

// arrived notes where fetching goes on, and the leader epochs of records.
func (cl *claim) arrived(fetched []*kgo.Record, next int64) {
	cl.next.Store(next)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.begun < 0 {
		cl.begun = fetched[0].Offset
	}
	epoch := int32(math.MinInt32)
	for _, r := range fetched {
		if r.LeaderEpoch != epoch {
			epoch = r.LeaderEpoch
			cl.epochs.note(r.Offset, epoch)
		}
	}
}

// keep keeps b for later if the core has paused the claim, or if an earlier batch is kept,
// and reports whether it did. It decides both in one step. Otherwise this would happen: B1 is
// kept; the core resumes the claim; B2 comes, and the claim is not paused; the core pauses the
// claim before B1 is delivered; B2 is delivered before B1.
func (cl *claim) keep(b driver.Batch) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.done && (cl.paused || len(cl.held) > 0) {
		cl.held = append(cl.held, b)
		return true
	}
	return false
}

// release returns what was kept, unless the claim is still paused. It reports whether
// nothing is kept any longer.
func (cl *claim) release() (batches []driver.Batch, empty bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.paused && len(cl.held) > 0 {
		return nil, false
	}
	batches, cl.held = cl.held, nil
	return batches, true
}
