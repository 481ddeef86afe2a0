package judge

import (
	"slices"
	"time"
)

type claimKey struct {
	Member
	Partition
}

// A claim is one ownership of one partition by one member.
type claim struct {
	Ordered               // what its member keeps
	calls     []*handling // those that run or have ended lately; if one follows the other, the last one
	before    *claim      // the member's claim on the same partition before
	context   Context
	account   *groupLog           // of the group, as it began: a seek begins another one
	since     uint64              // the event with which it began
	calledSeq uint64              // the event of the latest call while its context was not over
	halted    bool                // a call has been made though its context was over
	start     int64               // what was committed as it began, or -1
	named     []Span              // and what was named as done above that
	haltedAt  time.Time           // when that context was over, if a handler has noticed; or zero
	onWay     int                 // calls that have been made though its context was over
	runs      int                 // calls that run
	fullAt    time.Time           // when it had as many of them as it may have, at the latest
	over      map[int64]time.Time // by offset: when what it has handed out was done
	lasts     map[string]int64    // by lane: the last record that it has handed out
	ended     bool
	endedAt   time.Time
	endBy     time.Time // its topic is gone, so that it must end by then; or zero
	goneAt    time.Time // when its topic went, or zero
	lost      bool
	first     int64 // the offsets of the call made last, or -1
	last      int64
	ok        bool          // it went well, and nothing is open
	open      []*openRecord // handed out and not done, in order
	attempts  int           // at the first of them
	failures  int           // in a row, as it was recorded; 0 if it was not
	timed     bool          // something else than the backoff decides when the next call comes
	retries   bool          // a call has failed, under it or an earlier one
	failedAt  time.Time
}

// An overlap is a partition with two owners who both should know better.
type overlap struct {
	groupPartition
	old, new Member
	since    time.Time
}

func (j *Judge) tellOwnership(e Event) {
	switch e := e.(type) {
	case Assigned:
		j.alive(e.Member.Process, e)
		for _, p := range e.Partitions {
			j.assign(e.Member, p)
		}
	case Revoked:
		for _, p := range e.Partitions {
			if c := j.ending(claimKey{e.Member, p}); e.Calm && (c == nil || c.endBy.IsZero()) {
				j.checkRevoke(e, p)
			}
			for _, h := range j.handlers(e.Member, p) {
				if !slices.Contains(e.Stuck, p) {
					j.violate("revoked-while-handling", "%+v: handler of offset %d runs", e, h.first())
				}
			}
			if slices.Contains(e.Stuck, p) && !j.busy(e, p) {
				j.violate("stuck-without-a-handler", "%+v: no handler of %v runs", e, p)
			}
			j.endClaim(e.Member, p, slices.Contains(e.Stuck, p))
		}
		j.putOff(e)
	case Lost:
		for _, p := range e.Partitions {
			for _, h := range j.handlers(e.Member, p) {
				j.mustCancel(h)
			}
			j.endClaim(e.Member, p, true)
		}
	case Severed:
		j.severed[e.Member] = true
	case Reconnected:
		j.reconnected(e.Member)
	}
}

// busy reports whether something of a partition may have outlived the time to drain: a
// handler that ran during the revocation, or with a policy a dead letter or a hook. A
// revocation that took no time may have had none to wait: then a lane without a handler has
// not ended either.
func (j *Judge) busy(e Revoked, p Partition) bool {
	if j.rules.Policy.Then != "" || e.Took == 0 {
		return true
	}
	for _, h := range j.running {
		if h.Member == e.Member && h.Partition == p {
			return true
		}
	}
	c := j.ending(claimKey{e.Member, p})
	return c != nil && slices.ContainsFunc(c.calls, func(h *handling) bool { return !h.endedAt.Before(j.now.Add(-e.Took - j.rules.Grace)) })
}

// checkRevoke holds what a revocation in calm times owes.
func (j *Judge) checkRevoke(e Revoked, p Partition) {
	if j.stops[e.Member.Process] != nil {
		return // its time may be up, and its handlers are let be
	}
	c := j.ending(claimKey{e.Member, p})
	if c == nil {
		return
	}
	g := c.account
	switch {
	case c.many():
		j.checkNamed(e, p, c, g)
	case c.ok && c.last >= 0 && g.committed <= c.last:
		j.violate("not-committed-at-revoke", "%+v: %v is done up to %d, committed at %d", e, p, c.last, g.committed)
	}
	began := j.now.Add(-e.Took)
	sought := j.soughtAfter(e.Member, p, began) // which leaves handlers in peace at first
	for _, h := range c.calls {
		if !sought && h.ranOn(began) && !h.cancelledBy(began.Add(j.rules.Grace)) {
			j.violate("handler-not-cancelled", "%+v as %+v began", h.HandleStart, e)
		}
	}
	for _, h := range j.handlers(e.Member, p) {
		if !h.cancelled || h.cancelledAt.Equal(j.now) && j.overdue(h.startedAt) {
			j.violate("handler-not-cancelled", "%+v, or too late, at %+v", h.HandleStart, e)
		}
	}
}

// ranOn reports whether the call had begun by t and returned later.
func (h *handling) ranOn(t time.Time) bool {
	return !h.startedAt.After(t) && (!h.over || h.endedAt.After(t))
}

// cancelledBy reports whether the call's context had ended by t.
func (h *handling) cancelledBy(t time.Time) bool { return h.cancelled && !h.cancelledAt.After(t) }

func (j *Judge) assign(m Member, p Partition) {
	delete(j.expiring, m) // it is another member now
	key, k := claimKey{m, p}, groupPartition{m.Group, p}
	if c := j.claims[key]; c != nil && !c.ended {
		if j.late[key] != nil {
			j.violate("assigned-twice", "%v %v", m, p)
		}
		c.ended, c.lost, c.endedAt = true, true, j.now
		j.late[key] = c
	}
	g := j.group(k)
	g.claimed = true
	c := &claim{Ordered: j.orders[m], account: g, since: j.seq, start: g.committed, first: -1, last: -1, ok: true}
	if !c.Unnamed {
		c.named = j.log(p).heeded(g.named)
	}
	j.forgetSought(key, c)
	for offset := range j.attempts[key] {
		if offset < c.start || covers(c.named, offset) {
			delete(j.attempts[key], offset)
		}
	}
	if b := j.claims[key]; b != nil && j.now.Sub(b.endedAt) > time.Hour {
		j.forgetAttempts(m)
	}
	if b := j.claims[key]; b != nil {
		j.orphans[key] = append(j.orphans[key], b.open...)
	}
	if b := j.claims[key]; b != nil {
		c.retries = b.retries
	}
	c.before = forget(j.claims[key])
	j.claims[key] = c
	for _, other := range j.owners[k] {
		if other != m && !j.severed[other] {
			j.overlaps = append(j.overlaps, overlap{k, other, m, j.now})
		}
	}
	j.owners[k] = append(j.owners[k], m)
}

func (j *Judge) endClaim(m Member, p Partition, lost bool) {
	key := claimKey{m, p}
	if c := j.late[key]; c != nil {
		delete(j.late, key)
		j.checkEnded(key, c)
		return
	}
	c := j.claims[key]
	if c == nil || c.ended {
		j.violate("ended-without-owning", "%v %v", m, p)
		return
	}
	if j.expired(m) {
		j.violate("not-fenced", "%v has let go of %v only at %v, the group gave it up at %v", m, p, j.now, j.expiring[m])
	}
	c.ended, c.endedAt, c.lost = true, j.now, lost
	if lost {
		j.doubtFailures(key, c)
	}
	k := groupPartition{m.Group, p}
	j.overlaps = slices.DeleteFunc(j.overlaps, func(o overlap) bool {
		if o.groupPartition != k || o.old != m && o.new != m {
			return false
		}
		j.checkOverlap(o)
		return true
	})
	j.owners[k] = slices.DeleteFunc(j.owners[k], func(o Member) bool { return o == m })
}

// checkLate holds that a claim was over when the next one began. A drain window
// that runs out ends one at the moment at which the other begins.
func (j *Judge) checkLate() {
	for key, c := range j.late {
		if j.rules.Grace == 0 || j.overdue(c.endedAt) {
			j.violate("assigned-twice", "%v: the claim before has not ended", key)
		}
	}
}

func (j *Judge) checkEnded(key claimKey, c *claim) {
	if j.overdue(c.endedAt) {
		j.violate("assigned-twice", "%v: the claim before ended only after %v", key, j.now.Sub(c.endedAt))
	}
}

// finalClaims holds that every claim has ended, and every handler returned.
func (j *Judge) finalClaims() {
	for key, c := range j.claims {
		if !c.ended {
			j.violate("never-ended", "%v", key)
		}
	}
	for _, h := range j.running {
		j.violate("never-ended", "%+v", h.HandleStart)
	}
}

func (j *Judge) checkOverlap(o overlap) {
	if !j.severed[o.old] && !j.severed[o.new] && j.overdue(o.since) {
		j.violate("two-owners", "%v: %v and %v", o.groupPartition, o.old, o.new)
	}
}

func (j *Judge) checkOverlaps() {
	for _, o := range j.overlaps {
		if j.severed[o.old] || j.severed[o.new] {
			continue
		}
		if j.rules.Grace == 0 || j.overdue(o.since) {
			j.violate("two-owners", "%v: %v and %v", o.groupPartition, o.old, o.new)
		}
	}
}

// reconnected gives a member the grace to learn what it has lost.
func (j *Judge) reconnected(m Member) {
	delete(j.severed, m)
	delete(j.expiring, m)
	for i := range j.overlaps {
		if o := &j.overlaps[i]; o.old == m || o.new == m {
			o.since = j.now
		}
	}
	for _, p := range j.known {
		k := groupPartition{m.Group, p}
		if !slices.Contains(j.owners[k], m) {
			continue
		}
		for _, other := range j.owners[k] {
			if other != m && !j.severed[other] {
				j.overlaps = append(j.overlaps, overlap{k, m, other, j.now})
			}
		}
	}
}

// forget returns c without what came before it.
func forget(c *claim) *claim {
	if c != nil {
		c.before = nil
	}
	return c
}

// ending returns the claim whose end is recorded next.
func (j *Judge) ending(key claimKey) *claim {
	if c := j.late[key]; c != nil {
		return c
	}
	return j.claims[key]
}

// under returns the claim that a call is made under. A loss cannot stop a call
// that is on its way: such a call may be recorded only after the next claim has begun,
// before which no call is made under that one.
func (j *Judge) under(e HandleStart) *claim {
	c := j.claims[claimKey{e.Member, e.Partition}]
	if c == nil {
		return nil
	}
	if b := c.before; c.first < 0 && e.Context.over() && b != nil && b.lost && !j.overdue(b.endedAt) && b.is(e.Context) {
		return b
	}
	c.context = e.Context
	return c
}

// is reports whether c may be the claim of ctx.
func (c *claim) is(ctx Context) bool { return c.context.Context == nil || c.context == ctx }

// handlers returns what runs under a member's claim that ends next.
func (j *Judge) handlers(m Member, p Partition) (all []*handling) {
	c := j.ending(claimKey{m, p})
	for _, h := range j.running {
		if h.Member == m && h.Partition == p && h.claim == c {
			all = append(all, h)
		}
	}
	return all
}
