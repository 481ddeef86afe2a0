package judge

import (
	"slices"
	"time"
)

// Marked reports what lies in a retry topic. Record.Value must differ from that of every
// other record, also of one that it is a copy of. Origin and OriginOffset are where the
// record first lay, and Attempts how often it had failed before it came here. Foreign says
// that another group has sent it here. It must not be handed out before Due, and can be from
// Late on.
type Marked struct {
	Partition    Partition
	Record       Record
	Origin       Partition
	OriginOffset int64
	Attempts     int
	Foreign      bool
	Due, Late    time.Time
}

// PassedOver reports that a member goes on without a record of a retry topic, since another
// group has sent it there.
type PassedOver struct {
	Member    Member
	Partition Partition
	Offset    int64
}

func (Marked) event()     {}
func (PassedOver) event() {}

// A claimed is a record that a member took for done because of a copy.
type claimed struct {
	group string
	place
}

// before returns how often a record had failed before it came where it lies.
func (j *Judge) before(p Partition, offset int64) int { return j.marks[place{p, offset}].Attempts }

// policyAt returns what follows after how many attempts at a record that lies in a topic.
func (j *Judge) policyAt(group, topic string) (then string, most int) {
	then, most = j.rules.Policy.Then, j.rules.Policy.MaxAttempts
	if j.rules.Retry == nil {
		return then, most
	}
	is, more := j.rules.Retry(group, topic)
	if is {
		most = 1
	}
	if more {
		then = "retry topic"
	}
	return then, most
}

// checkMarks holds that no record of a retry topic is handed out that is another group's, or
// is not due.
func (j *Judge) checkMarks(e HandleStart) {
	for _, r := range e.Records {
		m, marked := j.marks[place{e.Partition, r.Offset}]
		switch {
		case !marked:
		case m.Foreign:
			j.violate("handled-of-another-group", "%+v: %+v", e, m)
		case j.now.Before(m.Due):
			j.violate("handed-out-before-its-time", "%+v at %v: %+v", e, j.now, m)
		}
	}
}

func (j *Judge) passedOver(e PassedOver) {
	m, marked := j.marks[place{e.Partition, e.Offset}]
	if !marked || !m.Foreign {
		j.violate("passed-over-of-this-group", "%+v: %+v", e, m)
		return
	}
	c := j.claims[claimKey{e.Member, e.Partition}]
	j.progressed(e.Member, c)
	if c != nil && !c.ended && c.over != nil {
		c.over[e.Offset] = j.now
	}
	j.doneBy(e.Member, e.Partition, m.Record)
}

// forwarded holds that a broker has the copy because of which a record counts as done, that
// it is one of this record, and that no other record counts as done because of it.
func (j *Judge) forwarded(e Forwarded) {
	do := "dead letter"
	if e.Retry {
		do = "retry topic"
	}
	o, lives := j.givenUp(e.Member, e.Partition, e.Offset, e.Attempts, do)
	if o == nil {
		j.violate("skipped-unhanded", "%+v", e)
		return
	}
	m, marked := j.marks[place{e.Partition, e.Offset}]
	if !marked && !e.Retry {
		if !j.isDoneBy(e.Member, e.Partition, o.Record, lives) {
			j.violate("forwarded-without-copy", "%+v", e)
		}
		return
	}
	origin := place{e.Partition, e.Offset}
	if marked {
		origin = place{m.Origin, m.OriginOffset}
	}
	to := place{e.To, e.ToOffset}
	if !slices.ContainsFunc(j.copied[to], func(c Copied) bool {
		return c.Group == e.Member.Group && place{c.Partition, c.Record.Offset} == origin && c.Attempts == e.Attempts
	}) {
		j.violate("forwarded-without-copy", "%+v of %v: %+v", e, origin, j.copied[to])
		return
	}
	by := claimed{e.Member.Group, place{e.Partition, e.Offset}}
	if u, again := j.used[to]; again && u != by && len(j.copied[to]) == 1 {
		j.violate("one-copy-for-two", "%+v, and %+v", e, u)
	}
	j.used[to] = by
	if lives {
		j.doneBy(e.Member, e.Partition, o.Record)
		return
	}
	j.group(groupPartition{e.Member.Group, e.Partition}).doneBefore(o.Value, j.seq)
}

// waits reports whether the next record of a retry topic that a claim has not handed out may
// not be due, so that those behind it wait.
func (j *Judge) waits(e Offered, c *claim) bool {
	if j.rules.Retry == nil {
		return false
	}
	if is, _ := j.rules.Retry(e.Member.Group, e.Partition.Topic); !is {
		return false
	}
	l := j.log(e.Partition)
	for _, r := range l.records[l.index(max(c.last+1, c.start)):] {
		if _, over := c.over[r.offset]; over || covers(c.named, r.offset) {
			continue
		}
		if j.now.Before(j.marks[place{e.Partition, r.offset}].Late) {
			return true // also a record that is gone: the member may have fetched it before
		}
		if !r.gone {
			return false
		}
	}
	return true // what it has is not in the log any longer
}
