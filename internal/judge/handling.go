package judge

import (
	"slices"
	"time"
)

// A handling is one call of a handler.
type handling struct {
	HandleStart
	claim                  *claim
	cancelled              bool
	cancelBy               time.Time
	startedAt, cancelledAt time.Time
	over                   bool
	endedAt                time.Time
	counted                bool // it has failed, for certain
}

func (j *Judge) start(e HandleStart) {
	j.alive(e.Member.Process, e)
	c := j.under(e)
	j.checkAlone(e, c)
	h := &handling{HandleStart: e, claim: c, startedAt: j.now}
	j.running[e.ID] = h
	k := groupPartition{e.Member.Group, e.Partition}
	j.hidden = append(j.hidden, hidden{e, c != nil && !c.ok, j.seq, j.accountOf(c, k)})
	j.mustFollow(c, e)
	j.checkHeld(e)
	j.checkPaused(e, c)
	j.checkRate(e)
	j.checkMarks(e)
	if j.expired(e.Member) {
		j.violate("handled-after-the-session", "%+v, which the group gave up at %v", e, j.expiring[e.Member])
	}
	over := e.Context.over()
	if off, told := j.switches[e.Member]; told && !off.on && (!over || j.overdue(off.at)) {
		j.violate("handled-while-off", "%+v", e)
	}
	if over && c != nil {
		j.onItsWay(c, e)
	}
	switch {
	case c == nil:
		j.violate("handled-without-owning", "%+v", e)
		return
	case c.ended && (!c.lost || j.overdue(c.endedAt)):
		j.violate("handled-after-revoke-or-loss", "%+v", e)
	}
	if (c.last < 0 || c.many()) && e.first() < c.start {
		j.violate("started-below-committed", "%+v, committed were %d", e, c.start)
	}
	for _, r := range e.Records {
		if covers(c.named, r.Offset) {
			j.violate("handled-though-named", "%+v, but what was committed beside %d names %v as done", e, c.start, c.named)
		}
	}
	if j.rules.AtMostOnce {
		j.done(h, 0)
	}
	if c.many() {
		j.checkLanes(c, e)
	} else {
		j.checkOrder(c, e)
	}
	c.handOut(e.Records)
	if !over {
		c.calledSeq = j.seq
	}
	c.first, c.last, c.ok = c.open[0].Offset, max(c.last, e.last()), false
	c.call(h)
}

// mustFollow holds that all below what a call gets has been done. A member that is
// cut off, and does not know that the group has been positioned elsewhere since its
// claim began, goes on from where it was.
func (j *Judge) mustFollow(c *claim, e HandleStart) {
	k := groupPartition{e.Member.Group, e.Partition}
	switch {
	case c != nil && c.since <= c.account.positioned:
	case c == nil || !c.many():
		j.queries = append(j.queries, query{groupPartition: k, account: j.accountOf(c, k), offset: e.first(), seq: j.seq, invariant: "skipped"})
	case j.laneOf(c, e) != "":
		j.queries = append(j.queries, query{groupPartition: k, account: c.account, offset: e.first(), seq: j.seq, invariant: "overtaken", lane: j.laneOf(c, e)})
	}
}

// onItsWay holds that a claim that has been halted makes no call but the one that
// was on its way, or as many as may run at once. A shutdown whose time is up ends the
// contexts before that.
func (j *Judge) onItsWay(c *claim, e HandleStart) {
	c.onWay++
	late := c.onWay > max(1, c.Parallelism) || !c.haltedAt.IsZero() && j.overdue(c.haltedAt)
	if late && j.stops[e.Member.Process] == nil {
		j.violate("handed-out-after-halt", "%+v", e)
	}
	c.halted = true
}

// A meeting is two handlers of one partition at once.
type meeting struct {
	first  *handling
	second HandleStart
	claim  *claim // of the second
	at     time.Time
}

// checkAlone holds that no other handler is at the partition, unless its member
// cannot know that it should not be, or does not obey, or may have several. Two processes
// learn of one rebalance at the same time, but in any order.
func (j *Judge) checkAlone(e HandleStart, c *claim) {
	all := 1 // handlers of the member
	for _, h := range j.running {
		if h.Member == e.Member {
			all++
		}
		if h.Partition != e.Partition || h.Member.Group != e.Member.Group {
			continue
		}
		m := meeting{h, e, c, j.now}
		switch {
		case c != nil && c.many() && h.claim == c:
			j.checkBeside(h, e, c)
		case h.Member == e.Member:
			j.violate("two-handlers", "%+v while %+v", e, h.HandleStart)
		case h.claim != nil && m.claim != nil && !j.severed[h.Member] && !j.severed[e.Member]:
			j.meetings = append(j.meetings, m)
		}
	}
	if o := j.orders[e.Member]; o.Concurrency > 0 && all > o.Concurrency {
		j.violate("too-many-handlers", "%+v is number %d of %d in its process", e, all, o.Concurrency)
	}
}

// lostBy reports whether the claim was gone by t though its handler may not be.
func (c *claim) lostBy(t time.Time) bool { return c.ended && c.lost && !c.endedAt.After(t) }

// lastedTo reports whether both the handling and its claim ended no later than
// t: a drain window that runs out as the handler returns ends both at one moment,
// at which the next owner begins.
func (h *handling) lastedTo(t time.Time) bool {
	return h.over && !h.endedAt.After(t) && h.claim.ended && !h.claim.endedAt.After(t)
}

func (j *Judge) checkMeetings() {
	j.meetings = slices.DeleteFunc(j.meetings, func(m meeting) bool {
		if j.rules.Grace > 0 && !m.first.claim.ended && !m.claim.ended && !j.overdue(m.at) {
			return false
		}
		by := m.at.Add(j.rules.Grace)
		if !m.first.claim.lostBy(by) && !m.claim.lostBy(by) && !m.first.lastedTo(by) {
			j.violate("two-handlers", "%+v while %+v", m.second, m.first.HandleStart)
		}
		return true
	})
}

func (j *Judge) checkOrder(c *claim, e HandleStart) {
	switch {
	case c.ok && e.first() <= c.last:
		j.violate("handled-twice-or-reordered", "%+v after %d was done under the same claim", e, c.last)
	case !c.ok && !c.again(e):
		j.violate("failed-record-left-behind", "%+v, but %d failed", e, c.first)
	}
	handed := 0
	if i, found := c.find(e.first()); found {
		handed = c.open[i].handed
	}
	if c.ok || handed == 0 {
		c.attempts, c.failures = 0, 0
	} else {
		j.checkVerdicts(c, e)
		j.checkRetry(c, e)
	}
	c.attempts, c.timed = handed+1, false
	if e.Attempt != 0 && e.Attempt != c.attempts+j.before(e.Partition, e.first()) {
		j.violate("wrong-attempt", "%+v is attempt %d", e, c.attempts)
	}
}

// again reports whether a call is about what is not done, from the first such record on.
func (c *claim) again(e HandleStart) bool {
	if len(c.open) == 0 || e.first() != c.open[0].Offset {
		return false
	}
	for _, r := range e.Records {
		if _, open := c.find(r.Offset); !open && r.Offset <= c.last {
			return false
		}
	}
	return true
}

func (j *Judge) checkRetry(c *claim, e HandleStart) {
	if j.rules.Policy.Batches || c.timed || j.holds[e.Member].active || j.holds[e.Member].endedAt.After(c.failedAt) {
		return
	}
	from := max(c.attempts, c.failures)
	to := from
	if t := j.attempts[claimKey{e.Member, e.Partition}][e.first()]; t != nil && j.rules.Policy != (Policy{}) {
		from, to = max(t.least, 1), max(t.most, 1) // a hold counts no attempt
	}
	wait := j.now.Sub(c.failedAt)
	for n := from; n <= to; n++ {
		if least, most := j.rules.backoff(n); wait >= least && (wait <= most+j.rules.Grace || j.delayed(e.Member, c.failedAt)) {
			return
		}
	}
	j.violate("backoff", "%+v after %v and %d to %d failures", e, wait, from, to)
}

func (j *Judge) end(e HandleEnd) {
	h := j.running[e.ID]
	if h == nil {
		j.violate("ended-twice", "%+v", e)
		return
	}
	j.alive(h.Member.Process, e)
	delete(j.running, e.ID)
	h.over, h.endedAt = true, j.now
	j.probeEnded(h.Member, h.ID)
	if h.claim != nil {
		h.claim.returned(h, j.now)
	}
	if !e.OK {
		j.failedCall(h)
		return
	}
	for _, r := range h.Records {
		delete(j.attempts[claimKey{h.Member, h.Partition}], r.Offset)
		if h.claim != nil {
			h.claim.close(r.Offset, j.now)
		}
	}
	if h.claim != nil && !h.claim.ended {
		j.streaks[claimKey{h.Member, h.Partition}].handled(h.HandleStart, h.claim.many())
	}
	j.progressed(h.Member, h.claim)
	j.done(h, j.seq)
}

// done notes that the records of a call were done at an event, unless they were before.
func (j *Judge) done(h *handling, seq uint64) {
	g := j.accountOf(h.claim, groupPartition{h.Member.Group, h.Partition})
	for _, r := range h.Records {
		g.doneOne(r.Value, seq)
	}
}

// doneOne notes that a record was done at an event, unless it was before.
func (g *groupLog) doneOne(value string, seq uint64) {
	if _, again := g.done[value]; !again {
		g.done[value] = seq
	}
}

// A streak is the failures in a row of each record of one partition in one member,
// by offset. It may continue in a later claim.
type streak map[int64]int

// handled ends the streaks of the records up to those of a call, or of these alone if
// others may come later.
func (s streak) handled(e HandleStart, alone bool) {
	for offset := range s {
		if offset <= e.last() && (!alone || offset >= e.first()) {
			delete(s, offset)
		}
	}
}

// replaced ends the streaks of records that a member knows to be others now.
func (j *Judge) replaced(e Replaced) {
	key := claimKey{e.Member, e.Partition}
	for offset := range j.streaks[key] {
		if offset >= e.From {
			delete(j.streaks[key], offset)
		}
	}
	for offset := range j.attempts[key] {
		if offset >= e.From {
			delete(j.attempts[key], offset)
		}
	}
}

// failed holds that each failure is counted, and once.
func (j *Judge) failed(e HandlerFailed) {
	key := claimKey{e.Member, e.Partition}
	e.Failures -= j.before(e.Partition, e.Offset)
	if j.streaks[key] == nil {
		j.streaks[key] = make(streak)
	}
	before := j.streaks[key][e.Offset]
	j.streaks[key][e.Offset] = e.Failures
	c := j.claims[key]
	if c == nil || c.ended {
		return // of an earlier claim
	}
	i, open := c.find(e.Offset)
	_, over := c.over[e.Offset]
	if c.many() && !open && !over || !c.many() && c.first != e.Offset {
		return // the same
	}
	goesOn := before > 0 && before == e.Failures-1
	if t := j.attempts[key][e.Offset]; c.ok || over || t == nil || !goesOn && (e.Failures < t.least || e.Failures > t.most) {
		j.violate("failures-miscounted", "%+v after %+v attempts, before it %d failures", e, t, before)
	}
	if c.failures = e.Failures; open {
		c.open[i].failures = e.Failures
	}
}

// mustCancel has Check see to it that the context of h has ended.
func (j *Judge) mustCancel(h *handling) {
	if h != nil {
		h.cancelBy = j.now
		j.owed = append(j.owed, h)
	}
}

func (j *Judge) checkCancelled() {
	j.owed = slices.DeleteFunc(j.owed, func(h *handling) bool {
		if h.cancelled || h.over {
			return true
		}
		if j.rules.Grace > 0 && !j.overdue(h.cancelBy) {
			return false
		}
		j.violate("handler-not-cancelled", "%+v", h.HandleStart)
		return true
	})
}

// checkHidden holds that what was handled could be read, and is what was written.
func (j *Judge) checkHidden() {
	for _, e := range j.hidden {
		next := -1 // the index of the record that must follow
		for _, r := range e.Records {
			if next = j.checkRecord(e, r, next); e.again {
				next = -1 // those between have been done before
			}
		}
	}
	j.hidden = nil
}

// A hidden is a call that has not been compared with the log.
type hidden struct {
	HandleStart
	again   bool // it is about what was left of one before
	seq     uint64
	account *groupLog
}

func (j *Judge) checkRecord(e hidden, r Record, want int) (next int) {
	p := e.Partition
	at, ok := j.places[r.Value]
	if !ok {
		j.violate("aborted-read", "%v %+v, which no reader may get", p, r)
		return -1
	}
	if at != (place{p, r.Offset}) {
		j.violate("inconsistent-offset", "%v %+v, but it lies at %+v", p, r, at)
		return -1
	}
	l := j.log(p)
	i := l.index(r.Offset)
	if i == len(l.records) || l.records[i].value != r.Value {
		return -1 // truncated away
	}
	if l.records[i].key != r.Key {
		j.violate("changed-record", "%v %+v, but its key is %q", p, r, l.records[i].key)
	}
	if want > i {
		j.violate("handled-twice-or-reordered", "%v %+v behind a later one in one call", p, r)
	}
	for ; want >= 0 && want < i; want++ {
		seq, before := e.account.done[l.records[want].value]
		if !l.records[want].gone && (!before || seq > e.seq) {
			j.violate("skipped", "%v %+v in one call, but not %d before it", p, r, l.records[want].offset)
		}
	}
	return i + 1
}

// A switching is where a member was switched to last.
type switching struct {
	on bool
	at time.Time
}

func (j *Judge) switched(e Switched) {
	if e.On {
		j.forgetAttempts(e.Member)
	}
	j.switches[e.Member] = switching{e.On, j.now}
	j.life(e.Member).switched(e.On, j.now, j.seq)
	if e.On {
		return
	}
	for _, h := range j.running {
		if h.Member == e.Member {
			j.mustCancel(h)
		}
	}
}
