package judge

import (
	"slices"
	"sort"
)

// A partitionLog is what could be read of a partition, in rising order of offset.
type partitionLog struct {
	records   []record
	reused    int64 // offsets below it were used before a truncation
	truncated bool
	cut       int64 // where the lowest truncation cut it off, if it was truncated
	damaged   int64 // offset of the first record that cannot be read, or -1
}

type record struct {
	offset int64
	key    string
	lane   string
	value  string
	gone   bool // and so not owed
}

// A place is where a value was first seen.
type place struct {
	partition Partition
	offset    int64
}

type groupPartition struct {
	group     string
	partition Partition
}

// A groupLog is what a group has made of a partition.
type groupLog struct {
	floor      int64             // what lies below is not its concern
	positioned uint64            // the event that said so
	done       map[string]uint64 // by value: the event that said so first
	committed  int64             // -1 if nothing
	named      []Span            // what a commit has named as done above that

	// What follows is known of an account that a seek has begun.
	before  *groupLog // the account of before
	sought  bool
	by      Member // which moved the position; its Process is "" if no member has
	claimed bool   // a claim has begun since

	// The log's first records that are done or need not be, and the latest event
	// by which each and all before it were.
	through []uint64
}

// A query asks whether all below offset was done before an event, or all of a lane, or
// all of a span.
type query struct {
	groupPartition
	account   *groupLog
	offset    int64
	seq       uint64
	invariant string
	lane      string
	span      Span
}

func (j *Judge) log(p Partition) *partitionLog {
	l := j.logs[p]
	if l == nil {
		l = &partitionLog{damaged: -1}
		j.logs[p] = l
		j.known = append(j.known, p)
	}
	return l
}

func (j *Judge) group(k groupPartition) *groupLog {
	g := j.groups[k]
	if g == nil {
		g = &groupLog{done: make(map[string]uint64), committed: -1}
		j.groups[k] = g
	}
	return g
}

// index returns that of the first record at or above offset.
func (l *partitionLog) index(offset int64) int {
	return sort.Search(len(l.records), func(i int) bool { return l.records[i].offset >= offset })
}

func (j *Judge) tellLog(e Event) {
	switch e := e.(type) {
	case Appended:
		j.appended(e)
	case Deleted:
		l := j.log(e.Partition)
		for i := range l.records[:l.index(e.Before)] {
			l.records[i].gone = true
		}
	case Removed:
		l := j.log(e.Partition)
		if i := l.index(e.Offset); i < len(l.records) && l.records[i].offset == e.Offset {
			l.records[i].gone = true
		}
	case Truncated:
		j.truncated(e)
	case Recreated:
		j.recreated(e)
	case Damaged:
		j.log(e.Partition).damaged = e.Offset
	case Positioned:
		k := groupPartition{e.Group, e.Partition}
		j.answerQueriesOf(k) // by what was done before
		g := j.group(k)
		g.floor, g.committed, g.named, g.through, g.positioned = e.Offset, e.Offset, nil, nil, j.seq
	case CommitApplied:
		j.committed(e)
	}
}

func (j *Judge) appended(e Appended) {
	l := j.log(e.Partition)
	if n := len(l.records); n > 0 && l.records[n-1].offset >= e.Offset {
		j.violate("log-order", "%+v comes after offset %d", e, l.records[n-1].offset)
		return
	}
	if at, ok := j.places[e.Value]; ok && at != (place{e.Partition, e.Offset}) {
		j.violate("duplicate", "%q lies at %+v and at %v %d", e.Value, at, e.Partition, e.Offset)
	}
	j.places[e.Value] = place{e.Partition, e.Offset}
	l.records = append(l.records, record{offset: e.Offset, key: e.Key, lane: j.rules.lane(e.Key), value: e.Value, gone: e.Offset < l.reused})
	j.appendedSend(e)
}

// truncated forgets records.
func (j *Judge) truncated(e Truncated) {
	l := j.log(e.Partition)
	i := l.index(e.End)
	l.reused = max(l.reused, e.Was)
	l.records = l.records[:i]
	if !l.truncated || e.End < l.cut {
		l.cut = e.End
	}
	l.truncated = true
	for k, g := range j.groups {
		if k.partition != e.Partition {
			continue
		}
		l.reused = max(l.reused, g.committed)
		for ; g != nil; g = g.before {
			g.through = g.through[:min(i, len(g.through))]
		}
	}
}

func (j *Judge) committed(e CommitApplied) {
	k := groupPartition{e.Group, e.Partition}
	g := j.group(k)
	if e.Offset < g.committed {
		j.violate("commit-moved-back", "%+v, before it %d", e, g.committed)
	}
	j.commitSought(e, g)
	g.committed, g.named = e.Offset, e.Done
	j.queries = append(j.queries, query{groupPartition: k, account: g, offset: e.Offset, seq: j.seq, invariant: "commit-beyond-done"})
	for _, s := range e.Done {
		j.queries = append(j.queries, query{groupPartition: k, account: g, offset: s.To, seq: j.seq, invariant: "named-but-not-done", span: s})
	}
}

// advance takes the log's records into g.through as far as they are done.
func (g *groupLog) advance(l *partitionLog) {
	for i := len(g.through); i < len(l.records); i++ {
		r := l.records[i]
		seq, done := g.done[r.value]
		switch {
		case r.gone || r.offset < g.floor:
			seq = 0
		case !done:
			return
		}
		if i > 0 {
			seq = max(seq, g.through[i-1])
		}
		g.through = append(g.through, seq)
	}
}

// answerQueriesOf answers those of one group and partition.
func (j *Judge) answerQueriesOf(k groupPartition) {
	j.queries = slices.DeleteFunc(j.queries, func(q query) bool {
		if q.groupPartition == k {
			j.answerQuery(q)
		}
		return q.groupPartition == k
	})
}

func (j *Judge) answerQueries() {
	for _, q := range j.queries {
		j.answerQuery(q)
	}
	j.queries = nil
}

func (j *Judge) answerQuery(q query) {
	g, l := q.account, j.log(q.partition)
	g.advance(l)
	i := l.index(q.offset)
	switch {
	case i > 0 && i <= len(g.through) && g.through[i-1] <= q.seq: // all is done
	case q.lane != "" || q.span.To > 0:
		j.answerPart(q, g, l.records[:i])
	case i > len(g.through):
		j.violate(q.invariant, "%v at %d, but %d %q is not done", q.groupPartition, q.offset,
			l.records[len(g.through)].offset, l.records[len(g.through)].value)
	case i > 0 && g.through[i-1] > q.seq:
		j.violate(q.invariant, "%v at %d, but one below it was done only later", q.groupPartition, q.offset)
	}
}

// finalGroup decides whether everything is done and committed.
func (j *Judge) finalGroup(s Subscription) {
	for _, p := range j.known {
		if p.Topic != s.Topic {
			continue
		}
		g, l := j.group(groupPartition{s.Group, p}), j.log(p)
		g.advance(l)
		n := l.readable()
		if done := len(g.through); done < n {
			j.violate("unseen", "%s: %v %d %q is not done at the end", s.Group, p, l.records[done].offset, l.records[done].value)
			continue
		}
		if n > 0 && !l.records[n-1].gone && l.records[n-1].offset >= max(g.floor, g.committed) {
			j.violate("uncommitted", "%s: %v is committed at %d, its last record is %d", s.Group, p, g.committed, l.records[n-1].offset)
		}
	}
}
