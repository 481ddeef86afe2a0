package memory

import (
	"slices"
	"sort"

	"github.com/aarontianqx/gopkg/driver"
)

// A partitionLog is one partition. The broker's mutex guards it. A record that read has
// returned is never written again, nor is the slice element that holds it: records leave
// the log by copying or slicing.
type partitionLog struct {
	start, end int64 // the first offset, and the one after the last
	segments   []*segment
	open       []openTransaction // in the order of their first offsets
	damaged    []int64           // unreadable offsets, in order
	changed    signal            // fired when a fetch may answer differently
	arena      arena
}

// A segment holds a part of a log, so that neither growth of the log nor a change in its
// middle copies all of it.
type segment struct {
	records []driver.Record // rising offsets, with holes
	txs     []*Transaction  // by index in records; nil without transactional records
}

const segmentRecords = 1024

type openTransaction struct {
	tx    *Transaction
	first int64
}

// append copies r to the end and returns its offset. tx may be nil.
func (l *partitionLog) append(r driver.Record, tx *Transaction) int64 {
	s := l.tail()
	r.Offset = l.end
	r.Key, r.Value = l.arena.copy(r.Key), l.arena.copy(r.Value)
	r.Headers = l.arena.copyHeaders(r.Headers)
	s.add(r, tx)
	if tx != nil {
		l.join(tx, r.Offset)
	}
	l.end++
	l.changed.fire()
	return r.Offset
}

// skip makes one offset hold no record, as a control record does.
func (l *partitionLog) skip() {
	l.end++
	l.changed.fire()
}

func (l *partitionLog) tail() *segment {
	if n := len(l.segments); n > 0 && len(l.segments[n-1].records) < segmentRecords {
		return l.segments[n-1]
	}
	s := new(segment)
	l.segments = append(l.segments, s)
	return s
}

func (s *segment) add(r driver.Record, tx *Transaction) {
	if tx != nil && s.txs == nil {
		s.txs = make([]*Transaction, len(s.records), segmentRecords)
	}
	s.records = append(s.records, r)
	if s.txs != nil {
		s.txs = append(s.txs, tx)
	}
}

func (l *partitionLog) join(tx *Transaction, first int64) {
	for _, o := range l.open {
		if o.tx == tx {
			return
		}
	}
	l.open = append(l.open, openTransaction{tx, first})
}

// finish ends tx in this partition with the control record that Kafka writes.
func (l *partitionLog) finish(tx *Transaction) {
	l.open = slices.DeleteFunc(l.open, func(o openTransaction) bool { return o.tx == tx })
	l.skip()
}

// limit returns the end of the readable records: the end of the log or, for
// ReadCommitted, the last stable offset.
func (l *partitionLog) limit(level driver.IsolationLevel) int64 {
	if level == driver.ReadCommitted && len(l.open) > 0 {
		return l.open[0].first
	}
	return l.end
}

// read returns consecutive readable records from offset on, and the offset at which to
// continue. It returns at least one record if there is one, and otherwise at most maxBytes
// of records.
func (l *partitionLog) read(offset int64, level driver.IsolationLevel, maxBytes int) ([]driver.Record, int64) {
	limit := l.intact(offset, l.limit(level))
	for i := l.find(offset); i < len(l.segments); i++ {
		run := l.segments[i].run(offset, limit, level, maxBytes)
		if n := len(run); n > 0 {
			return run, run[n-1].Offset + 1
		}
	}
	return nil, max(offset, limit)
}

// find returns the index of the first segment that ends at or after offset.
func (l *partitionLog) find(offset int64) int {
	return sort.Search(len(l.segments), func(i int) bool {
		rs := l.segments[i].records
		return rs[len(rs)-1].Offset >= offset
	})
}

// find returns the index of the first record at or after offset.
func (s *segment) find(offset int64) int {
	if len(s.records) == 0 {
		return 0
	}
	// Without holes the index follows from the offset.
	if i := offset - s.records[0].Offset; i >= 0 && i < int64(len(s.records)) && s.records[i].Offset == offset {
		return int(i)
	}
	return sort.Search(len(s.records), func(i int) bool { return s.records[i].Offset >= offset })
}

// run returns the first unbroken run of visible records in [offset, limit).
func (s *segment) run(offset, limit int64, level driver.IsolationLevel, maxBytes int) []driver.Record {
	from := s.find(offset)
	for from < len(s.records) && !s.visible(from, level) {
		from++
	}
	to, bytes := from, 0
	for to < len(s.records) && s.records[to].Offset < limit && s.visible(to, level) {
		bytes += size(&s.records[to])
		if to > from && bytes > maxBytes {
			break
		}
		to++
	}
	return s.records[from:to:to]
}

// visible reports whether a reader below the last stable offset sees record i.
func (s *segment) visible(i int, level driver.IsolationLevel) bool {
	return level == driver.ReadUncommitted || s.txs == nil || s.txs[i] == nil || s.txs[i].state != aborted
}

func size(r *driver.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// deleteBefore moves the start of the log up.
func (l *partitionLog) deleteBefore(offset int64) {
	l.start = offset
	l.segments = slices.Delete(l.segments, 0, l.find(offset))
	if len(l.segments) > 0 {
		s := l.segments[0]
		l.segments[0] = s.slice(s.find(offset), len(s.records))
	}
	l.mend()
	l.changed.fire()
}

// truncate moves the end of the log down.
func (l *partitionLog) truncate(end int64) {
	i := l.find(end)
	if i < len(l.segments) {
		s := l.segments[i]
		if n := s.find(end); n > 0 {
			l.segments[i] = s.slice(0, n)
			i++
		}
		l.segments = slices.Delete(l.segments, i, len(l.segments))
	}
	l.open = slices.DeleteFunc(l.open, func(o openTransaction) bool { return o.first >= end })
	l.end = end
	l.mend()
	l.changed.fire()
}

// remove removes the record at offset and reports whether there was one.
func (l *partitionLog) remove(offset int64) bool {
	i := l.find(offset)
	if i == len(l.segments) {
		return false
	}
	s := l.segments[i]
	n := s.find(offset)
	if s.records[n].Offset != offset {
		return false
	}
	l.damaged = slices.DeleteFunc(l.damaged, func(o int64) bool { return o == offset })
	if len(s.records) == 1 {
		l.segments = slices.Delete(l.segments, i, i+1)
		return true
	}
	l.segments[i] = s.without(n)
	return true
}

// slice shares the records, but not the capacity behind them.
func (s *segment) slice(from, to int) *segment {
	t := &segment{records: s.records[from:to:to]}
	if s.txs != nil {
		t.txs = s.txs[from:to:to]
	}
	return t
}

func (s *segment) without(i int) *segment {
	t := &segment{records: slices.Concat(s.records[:i], s.records[i+1:])}
	if s.txs != nil {
		t.txs = slices.Concat(s.txs[:i], s.txs[i+1:])
	}
	return t
}
