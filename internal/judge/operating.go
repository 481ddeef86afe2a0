package judge

import (
	"math"
	"time"
)

// Paused reports that a call that has paused a member has returned: the whole of it if there
// are no Partitions. AtRest says that nothing was under way as the call was made.
type Paused struct {
	Member     Member
	Partitions []Partition
	AtRest     bool
}

// Resuming reports that a call is about to end pauses: of Partitions, or all of the member's
// if there are none.
type Resuming struct {
	Member     Member
	Partitions []Partition
}

// Fetching reports that a member is about to call its driver to pause a partition, or to go
// on with it.
type Fetching struct {
	Member    Member
	Partition Partition
	Paused    bool
}

// Rated reports how many records per second a member may hand out; 0 is no bound. A higher
// rate is recorded before it holds, and a lower one when it does.
type Rated struct {
	Member    Member
	PerSecond float64
}

func (Paused) event()   {}
func (Resuming) event() {}
func (Fetching) event() {}
func (Rated) event()    {}

// A pausing is what an operator has paused of a member. It outlives claims and sessions.
type pausing struct {
	all   *pauseMark
	some  map[Partition]*pauseMark
	until time.Time // when the latest pause ended that is over
}

// A pauseMark is one pause.
type pauseMark struct {
	since  time.Time
	seq    uint64
	atRest bool
	calls  map[Partition]int // that were made after it had begun
}

func (j *Judge) pausingOf(m Member) *pausing {
	p := j.pauses[m]
	if p == nil {
		p = &pausing{some: make(map[Partition]*pauseMark)}
		j.pauses[m] = p
	}
	return p
}

// of returns the pauses of a partition.
func (p *pausing) of(at Partition) (marks []*pauseMark) {
	if p == nil {
		return nil
	}
	if p.all != nil {
		marks = append(marks, p.all)
	}
	if one := p.some[at]; one != nil {
		marks = append(marks, one)
	}
	return marks
}

func (j *Judge) paused(e Paused) {
	p := j.pausingOf(e.Member)
	mark := &pauseMark{since: j.now, seq: j.seq, atRest: e.AtRest, calls: make(map[Partition]int)}
	if len(e.Partitions) == 0 && p.all == nil {
		p.all = mark
	}
	for _, at := range e.Partitions {
		if p.some[at] == nil {
			p.some[at] = mark
		}
	}
}

func (j *Judge) resuming(e Resuming) {
	p := j.pausingOf(e.Member)
	if p.until = j.now; len(e.Partitions) == 0 {
		p.all = nil
		clear(p.some)
	}
	for _, at := range e.Partitions {
		delete(p.some, at)
	}
}

// Pausing reports whether an operator has paused a partition of a member, and whether the
// member may be letting go of claims.
func (j *Judge) Pausing(m Member, p Partition) (paused, ending bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ending = j.life(m).state != "running"
	if c := j.claims[claimKey{m, p}]; c != nil {
		ending = ending || j.mayDrain(c, m, p)
	}
	for _, h := range j.running {
		ending = ending || h.Member == m && h.Context.over()
	}
	return len(j.pauses[m].of(p)) > 0, ending
}

// checkPaused holds that nothing is handed out while a partition is paused, but calls that
// were on their way: one, or as many as may run at once.
func (j *Judge) checkPaused(e HandleStart, c *claim) {
	for _, mark := range j.pauses[e.Member].of(e.Partition) {
		mark.calls[e.Partition]++
		most := 1
		if c != nil {
			most = max(1, c.Parallelism)
		}
		if mark.atRest || j.overdue(mark.since) || mark.calls[e.Partition] > most {
			j.violate("handed-out-while-paused", "%+v, paused since %v", e, mark.since)
		}
	}
}

// fetching notes a call of a driver.
func (j *Judge) fetching(e Fetching) {
	key := claimKey{e.Member, e.Partition}
	if e.Paused {
		delete(j.fetched, key)
	} else {
		j.fetched[key] = j.seq
	}
}

// checkFetched holds that a member does not go on to fetch what an operator has paused,
// for another reason.
func (j *Judge) checkFetched() {
	if j.rules.Grace > 0 {
		return // the call that pauses it may be on its way
	}
	for key, seq := range j.fetched {
		for _, mark := range j.pauses[key.Member].of(key.Partition) {
			if c := j.claims[key]; seq > mark.seq && c != nil && !c.ended && !c.context.over() {
				j.violate("fetched-while-paused", "%v, paused since %v", key, mark.since)
			}
		}
	}
}

// A bucket is what a member may hand out: records by now, as of a time.
type bucket struct {
	perSecond float64
	tokens    float64
	at        time.Time
	changed   time.Time
	lastly    time.Time // when something was handed out, at most so many tokens were left then
	left      float64
	until     time.Time // when the latest rate ended that is over
}

// burstSpan is how much of a rate may come at once.
const burstSpan = 100 * time.Millisecond

func (b *bucket) burst() float64 { return max(1, b.perSecond*burstSpan.Seconds()) }

func (b *bucket) refill(now time.Time) {
	b.tokens = min(b.burst(), b.tokens+now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
}

// rated changes a rate. Records that are owed take as long as before at a lower one, and are
// no more than before at a higher one.
func (j *Judge) rated(e Rated) {
	b := j.rates[e.Member]
	if b == nil {
		b = &bucket{at: j.now}
		j.rates[e.Member] = b
	}
	if b.perSecond == e.PerSecond {
		return
	}
	b.refill(j.now)
	from := b.perSecond
	b.perSecond, b.changed = e.PerSecond, j.now
	switch {
	case e.PerSecond == 0:
		b.until = j.now
	case from == 0:
		b.tokens = b.burst()
	case b.tokens < 0:
		b.tokens = max(b.tokens, b.tokens/from*e.PerSecond)
	default:
		b.tokens = min(b.tokens, b.burst())
	}
	b.lastly, b.left = j.now, b.tokens
}

// checkRate holds that a member hands out no more than its rate over any time, but for the
// burst, the probe of a hold, and the rest of a batch, which the next records wait for.
func (j *Judge) checkRate(e HandleStart) {
	b := j.rates[e.Member]
	if b == nil || b.perSecond == 0 {
		return
	}
	b.refill(j.now)
	probe := j.holds[e.Member].active // or it was on its way as the hold began
	if b.tokens < 1-1e-3-j.kept(e.Member) && !probe && j.overdue(b.changed) {
		j.violate("rate-exceeded", "%+v: %v of a record are left of %v per second", e, b.tokens, b.perSecond)
	}
	if b.tokens -= float64(len(e.Records)); !j.overdue(b.changed) {
		b.tokens = max(b.tokens, 0) // some were on their way as the rate changed, and count against none
	}
	b.lastly, b.left = j.now, b.tokens
}

// kept returns how many records that the rate has allowed a member may hand out late. Where
// several are handled at once, one that has failed before, or has waited for the end of a
// hold or of a pause, can take the place of one that was to come, per partition.
func (j *Judge) kept(m Member) (records float64) {
	h := j.holds[m]
	stood := h.active || !h.endedAt.IsZero() || j.pauses[m] != nil
	for key, c := range j.claims {
		if key.Member == m && c.many() && (c.retries || stood) { // one that has ended gives its turn back
			records++
		}
	}
	return records
}

// limited reports whether a member's rate may keep it from handing out a record: what it
// owes, what is kept for others, and one record more, takes its time.
func (j *Judge) limited(m Member) bool {
	b := j.rates[m]
	if b == nil || b.perSecond == 0 {
		return false
	}
	s := (2 + j.kept(m) - b.left) / b.perSecond
	return s > math.MaxInt64/1e9 || j.now.Sub(b.lastly) <= time.Duration(s*float64(time.Second))
}

// delayed reports whether a pause or a rate may have put off, after a time, what a member
// hands out.
func (j *Judge) delayed(m Member, since time.Time) bool {
	if p := j.pauses[m]; p != nil && (p.all != nil || len(p.some) > 0 || !p.until.Before(since)) {
		return true
	}
	b := j.rates[m]
	return b != nil && (b.perSecond > 0 || !b.until.Before(since))
}
