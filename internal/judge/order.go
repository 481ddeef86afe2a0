package judge

import (
	"slices"
	"time"
)

// An Order is what a member keeps of the order of a partition's records.
type Order int

// The orders.
const (
	ByPartition Order = iota // they are handled one after the other
	ByKey                    // those of one lane are; see Rules.Lane
	AnyOrder                 // none is kept
)

// Ordered reports what a member keeps. Parallelism bounds its handlers at one partition,
// and Concurrency, unless it is 0, all of them. Unnamed says that it neither reads nor
// writes what a commit names as done. A member of which nothing is recorded handles the
// records of a partition one after the other.
type Ordered struct {
	Member      Member
	Order       Order
	Parallelism int
	Concurrency int
	Unnamed     bool
}

// Offered reports that a member could hand out records of a partition, by its own
// count, at a moment at which nothing is under way that would still follow at once; or
// that it has Paused the partition though its queue has room.
type Offered struct {
	Member    Member
	Partition Partition
	Ready     int
	Paused    bool
}

// A Span is offsets: From and those after it, up to To, which is not one of them.
type Span struct{ From, To int64 }

func (Ordered) event() {}
func (Offered) event() {}

// many reports whether several records of a partition may be open at once, though each
// call is about one.
func (o Ordered) many() bool { return o.Order != ByPartition }

func covers(spans []Span, offset int64) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.From <= offset && offset < s.To })
}

// heeded returns what a new owner must heed of what a commit names as done: nothing if it
// names offsets beyond the end of a log that was cut off.
func (l *partitionLog) heeded(named []Span) []Span {
	if n := len(named); n > 0 && l.truncated && named[n-1].To > l.cut && named[n-1].To <= l.reused {
		return nil
	}
	return named
}

func (r Rules) lane(key string) string {
	if r.Lane == nil {
		return key
	}
	return r.Lane(key)
}

// laneOf returns the lane of a call's record, or "" if the record waits for none.
func (j *Judge) laneOf(c *claim, e HandleStart) string {
	if c.Order != ByKey {
		return ""
	}
	return j.rules.lane(e.Records[0].Key)
}

// answerPart decides a query about some of the records below its offset.
func (j *Judge) answerPart(q query, g *groupLog, records []record) {
	for _, r := range records {
		if r.gone || r.offset < g.floor || r.offset < q.span.From || q.lane != "" && r.lane != q.lane {
			continue
		}
		switch seq, done := g.done[r.value]; {
		case !done:
			j.violate(q.invariant, "%v %+v at %d, but %d %q is not done", q.groupPartition, q.span, q.offset, r.offset, r.value)
			return
		case seq > q.seq:
			j.violate(q.invariant, "%v %+v at %d, but %d %q was done only later", q.groupPartition, q.span, q.offset, r.offset, r.value)
			return
		}
	}
}

// checkBeside holds what a call may be beside another one under the same claim.
func (j *Judge) checkBeside(h *handling, e HandleStart, c *claim) {
	lane := j.laneOf(c, e)
	if h.first() == e.first() || lane != "" && j.laneOf(c, h.HandleStart) == lane {
		j.violate("two-handlers", "%+v while %+v", e, h.HandleStart)
	}
}

// checkLanes holds that records come in the order of their lanes, each one until it is
// done, and not too many of them at once.
func (j *Judge) checkLanes(c *claim, e HandleStart) {
	if c.over == nil {
		c.over, c.lasts = make(map[int64]time.Time), make(map[string]int64)
	}
	if c.runs >= c.Parallelism {
		j.violate("too-many-handlers", "%+v beside %d others", e, c.runs)
	}
	offset, lane := e.first(), j.laneOf(c, e)
	if _, done := c.over[offset]; done {
		j.violate("handled-twice-or-reordered", "%+v, which was done under the same claim", e)
	}
	i, again := c.find(offset)
	if lane != "" {
		j.checkLane(c, e, lane)
	}
	handed := 0
	if again {
		o := c.open[i]
		j.checkVerdicts(c, e)
		j.checkRetryOf(c, o, e)
		handed, o.timed = o.handed, false
	}
	if e.Attempt != 0 && e.Attempt != handed+1+j.before(e.Partition, offset) {
		j.violate("wrong-attempt", "%+v is attempt %d", e, handed+1)
	}
}

func (j *Judge) checkLane(c *claim, e HandleStart, lane string) {
	for _, o := range c.open {
		if o.Offset < e.first() && j.rules.lane(o.Key) == lane {
			j.violate("failed-record-left-behind", "%+v, but %d of the same key is not done", e, o.Offset)
		}
	}
	if last, handed := c.lasts[lane]; handed && e.first() < last {
		j.violate("handled-twice-or-reordered", "%+v after %d of the same key", e, last)
	}
	c.lasts[lane] = e.first()
}

// checkRetryOf holds that a record that has failed comes again when its wait is over,
// or later if no handler was free then.
func (j *Judge) checkRetryOf(c *claim, o *openRecord, e HandleStart) {
	if o.timed || j.holds[e.Member].active || j.holds[e.Member].endedAt.After(o.failedAt) {
		return
	}
	from := max(o.handed, o.failures)
	to := from
	if t := j.attempts[claimKey{e.Member, e.Partition}][o.Offset]; t != nil && j.rules.Policy != (Policy{}) {
		from, to = max(t.least, 1), max(t.most, 1) // a hold counts no attempt
	}
	wait := j.now.Sub(o.failedAt)
	for n := from; n <= to; n++ {
		least, most := j.rules.backoff(n)
		queued := j.delayed(e.Member, o.failedAt) || c.Concurrency > 0 || !c.fullAt.Before(o.failedAt.Add(least))
		if wait >= least && (queued || wait <= most+j.rules.Grace) {
			return
		}
	}
	j.violate("backoff", "%+v after %v and %d to %d failures", e, wait, from, to)
}

// manyCalls is how many calls of a claim are remembered before those are forgotten that
// are over for longer than a revocation takes.
const manyCalls, longRevocation = 64, 10 * time.Minute

// call notes a call under the claim.
func (c *claim) call(h *handling) {
	c.runs++
	switch {
	case !c.many():
		c.calls = c.calls[:0]
	case len(c.calls) >= manyCalls:
		c.calls = slices.DeleteFunc(c.calls, func(o *handling) bool { return o.over && h.startedAt.Sub(o.endedAt) > longRevocation })
	}
	c.calls = append(c.calls, h)
	if c.runs == c.Parallelism {
		c.fullAt = h.startedAt
	}
}

// returned notes the end of a call.
func (c *claim) returned(h *handling, now time.Time) {
	if c.runs == c.Parallelism {
		c.fullAt = now
	}
	c.runs--
	c.failedAt = now
	if i, open := c.find(h.first()); open {
		c.open[i].failedAt = now
	}
}

// time says that something else than the backoff decides when the next calls come.
func (c *claim) time() {
	c.timed = true
	for _, o := range c.open {
		o.timed = true
	}
}

func (j *Judge) handlerCancelled(e HandlerCancelled) {
	h := j.running[e.ID]
	if h == nil {
		return
	}
	h.cancelled, h.cancelledAt = true, j.now
	if h.claim != nil && h.claim.haltedAt.IsZero() {
		h.claim.haltedAt = j.now
	}
}

// checkNamed holds that a revocation has committed all that was done under its claim: it
// lies below the position, or is named beside it.
func (j *Judge) checkNamed(e Revoked, p Partition, c *claim, g *groupLog) {
	if c.Unnamed || slices.Contains(e.Stuck, p) {
		return // no text says so, or it may have been done too late
	}
	for offset := range c.over {
		if offset >= g.committed && !covers(g.named, offset) {
			j.violate("not-committed-at-revoke", "%+v: %d is done, committed at %d with %v", e, offset, g.committed, g.named)
			return
		}
	}
}

// offered holds that a member hands out what it can: where a record is ready and a
// handler is free, it is about to be handled, unless something keeps it.
func (j *Judge) offered(e Offered) {
	c := j.claims[claimKey{e.Member, e.Partition}]
	off, told := j.switches[e.Member]
	switch {
	case e.Ready <= 0 && !e.Paused:
	case c == nil || c.ended || c.context.Context == nil || c.context.over(): // its end may be near
	case j.mayDrain(c, e.Member, e.Partition):
	case told && !off.on, j.stops[e.Member.Process] != nil, j.life(e.Member).state != "running":
	case j.severed[e.Member], !j.expiring[e.Member].IsZero(), j.holds[e.Member].active:
	case len(j.pauses[e.Member].of(e.Partition)) > 0:
	case e.Paused:
		j.violate("stalled", "%+v", e)
	case j.limited(e.Member), j.waits(e, c):
	case c.runs >= c.Parallelism, j.straggles(e, c):
	case c.Concurrency > 0 && j.runningOf(e.Member) >= c.Concurrency:
	default:
		j.violate("stalled", "%+v, and %d of %d handlers run", e, c.runs, c.Parallelism)
	}
}

// straggles reports whether a handler of an earlier claim is still at the partition.
func (j *Judge) straggles(e Offered, c *claim) bool {
	for _, h := range j.running {
		if h.Member == e.Member && h.Partition == e.Partition && h.claim != c {
			return true
		}
	}
	return false
}

func (j *Judge) runningOf(m Member) (n int) {
	for _, h := range j.running {
		if h.Member == m {
			n++
		}
	}
	return n
}
