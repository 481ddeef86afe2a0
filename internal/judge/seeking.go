package judge

import (
	"slices"
	"time"
)

// Seeking reports that a member is about to be asked to move its group's positions: in
// Partitions, or without any in all that it owns, and while it is off in all of its group,
// but for those of retry topics. Offset is what was asked for, or -1 if it was no offset. ID
// is unique in the history.
type Seeking struct {
	ID         uint64
	Member     Member
	Partitions []Partition
	Offset     int64
}

// Sought reports that a position which was asked for has become durable, without anything
// beside it. The Process of By is "" if no member has moved it, but a view of the group.
type Sought struct {
	By        Member
	Partition Partition
	Offset    int64
}

// SeekReturned reports what a call of Seeking has said: where it has moved positions, and
// where it may have. It has moved nothing else, and will not.
type SeekReturned struct {
	ID      uint64
	Done    []Target
	Unknown []Target
}

// A Target is where a position was to be moved.
type Target struct {
	Partition Partition
	Offset    int64
}

func (Seeking) event()      {}
func (Sought) event()       {}
func (SeekReturned) event() {}

// A seekCall is one call.
type seekCall struct {
	Seeking
	seq      uint64
	endSeq   uint64 // 0 while it runs
	endedAt  time.Time
	durable  map[Partition]int64 // where it says that it has moved positions, or may have
	isRetry  func(group, topic string) (is, more bool)
	accounts map[Partition]bool // what it has moved
}

// covers reports whether the call may be about a partition.
func (c *seekCall) covers(p Partition) bool {
	if len(c.Partitions) > 0 {
		return slices.Contains(c.Partitions, p)
	}
	if c.isRetry == nil {
		return true
	}
	is, _ := c.isRetry(c.Member.Group, p.Topic)
	return !is
}

func (c *seekCall) runs() bool { return c.endSeq == 0 }

// A move is a position that was moved.
type move struct {
	Sought
	seq uint64
}

// isBy reports whether the call may have made the move: it was under way, and says so if it
// has returned.
func (m *move) isBy(c *seekCall) bool {
	switch {
	case c.Member.Group != m.By.Group || m.By.Process != "" && c.Member != m.By:
		return false
	case c.seq > m.seq || !c.covers(m.Partition) || c.accounts[m.Partition]:
		return false
	case c.Offset >= 0 && c.Offset != m.Offset:
		return false
	case c.runs():
		return true
	}
	to, durable := c.durable[m.Partition]
	return durable && to == m.Offset && m.seq < c.endSeq
}

func (j *Judge) tellSeeking(e Event) {
	switch e := e.(type) {
	case Seeking:
		j.seeks = append(j.seeks, &seekCall{Seeking: e, seq: j.seq, isRetry: j.rules.Retry, accounts: make(map[Partition]bool)})
	case Sought:
		j.sought(e)
	case SeekReturned:
		j.seekReturned(e)
	}
}

// sought begins a new account of what the group makes of the partition: nothing is done from
// the new position on, and what lies below it is not the group's concern. What claims of
// before come to counts for the account of before.
func (j *Judge) sought(e Sought) {
	k := groupPartition{e.By.Group, e.Partition}
	j.groups[k] = &groupLog{
		done: make(map[string]uint64), floor: e.Offset, committed: e.Offset, positioned: j.seq,
		before: j.group(k), sought: true, by: e.By,
	}
	m := &move{e, j.seq}
	if !slices.ContainsFunc(j.seeks, m.isBy) {
		j.violate("moved-unasked", "%+v", e)
		return
	}
	j.moves = append(j.moves, m)
}

// seekReturned holds that what a call says is durable is.
func (j *Judge) seekReturned(e SeekReturned) {
	i := slices.IndexFunc(j.seeks, func(c *seekCall) bool { return c.ID == e.ID })
	c := j.seeks[i]
	c.durable = make(map[Partition]int64)
	for _, t := range slices.Concat(e.Done, e.Unknown) {
		if !c.covers(t.Partition) || c.Offset >= 0 && c.Offset != t.Offset {
			j.violate("moved-elsewhere", "%+v by %+v", e, c.Seeking)
		}
		c.durable[t.Partition] = t.Offset
	}
	for _, t := range e.Done {
		if !slices.ContainsFunc(j.moves, func(m *move) bool { return m.Target() == t && m.isBy(c) }) {
			j.violate("seek-not-durable", "%+v of %+v", t, c.Seeking)
		}
	}
	c.endSeq, c.endedAt = j.seq, j.now
	j.checkMoves()
}

// Target returns where the position was moved.
func (e Sought) Target() Target { return Target{e.Partition, e.Offset} }

// checkMoves holds that a position is moved by a call that is under way, and that the call
// says so.
func (j *Judge) checkMoves() {
	j.moves = slices.DeleteFunc(j.moves, func(m *move) bool {
		for _, c := range j.seeks {
			if !c.runs() && m.isBy(c) {
				c.accounts[m.Partition] = true
				return true
			}
		}
		if slices.ContainsFunc(j.seeks, m.isBy) {
			return false
		}
		j.violate("moved-unasked", "%+v: no call says that it may have done so", m.Sought)
		return true
	})
}

// accountOf returns the account that what is done under a claim counts for.
func (j *Judge) accountOf(c *claim, k groupPartition) *groupLog {
	if c != nil {
		return c.account
	}
	return j.group(k)
}

// soughtSince reports whether a call of a member that is about a partition was under way at
// an event or after it.
func (j *Judge) soughtSince(m Member, p Partition, seq uint64) bool {
	return slices.ContainsFunc(j.seeks, func(c *seekCall) bool {
		return c.Member == m && c.covers(p) && (c.runs() || c.endSeq > seq)
	})
}

// soughtAfter is the same for a time.
func (j *Judge) soughtAfter(m Member, p Partition, t time.Time) bool {
	return slices.ContainsFunc(j.seeks, func(c *seekCall) bool {
		return c.Member == m && c.covers(p) && (c.runs() || !c.endedAt.Before(t))
	})
}

// mayDrain reports whether a seek may have stopped a claim, which then ends. It has not if
// the claim has made a call since.
func (j *Judge) mayDrain(c *claim, m Member, p Partition) bool {
	return j.soughtSince(m, p, max(c.since, c.calledSeq))
}

// forgetSought notes at a new claim that its member has forgotten the attempts and failures
// of the partition if it has moved the position there, and may have if it was asked to.
func (j *Judge) forgetSought(key claimKey, c *claim) {
	before := j.claims[key]
	var since uint64
	if before != nil {
		since = before.since
	}
	g := c.account
	switch {
	case g.sought && g.by == key.Member && g.floor == c.start && g.positioned > since && !before.straggles(j.now):
		delete(j.attempts, key)
		delete(j.streaks, key)
	case j.soughtSince(key.Member, key.Partition, since):
		for _, t := range j.attempts[key] {
			t.least = 0
		}
	}
}

// straggles reports whether a call under the claim may fail only now.
func (c *claim) straggles(now time.Time) bool {
	return c != nil && slices.ContainsFunc(c.calls, func(h *handling) bool { return !h.over || h.endedAt.Equal(now) })
}

// seeksOf reports whether a process is asked to move positions.
func (j *Judge) seeksOf(process string) bool {
	return slices.ContainsFunc(j.seeks, func(c *seekCall) bool { return c.Member.Process == process && c.runs() })
}

// commitSought holds that no claim of before a seek moves the position after it.
func (j *Judge) commitSought(e CommitApplied, g *groupLog) {
	if g.sought && !g.claimed {
		j.violate("committed-by-an-old-claim", "%+v, but a seek has moved it to %d and no claim has begun since", e, g.floor)
	}
}

// doneBefore is doneOne for a record of which it is not known before which seek it was done.
func (g *groupLog) doneBefore(value string, seq uint64) {
	for ; g != nil; g = g.before {
		g.doneOne(value, seq)
	}
}

// isDoneBy reports whether a record is done under the member's claim, or was under an earlier
// one.
func (j *Judge) isDoneBy(m Member, p Partition, r Record, lives bool) bool {
	k := groupPartition{m.Group, p}
	if lives {
		_, done := j.accountOf(j.claims[claimKey{m, p}], k).done[r.Value]
		return done
	}
	for g := j.group(k); g != nil; g = g.before {
		if _, done := g.done[r.Value]; done {
			return true
		}
	}
	return false
}
