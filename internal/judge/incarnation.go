package judge

import "time"

// Recreated reports that a partition's topic was deleted, with what lay there and was
// committed, whether it has been created again or not. What bears its name later
// begins again. A claim of before must have ended after Within, since a driver may be
// in the middle of revoking it.
type Recreated struct {
	Partition Partition
	Within    time.Duration
}

// Damaged reports that the record at an offset, the first such one, cannot be read;
// -1 ends that.
type Damaged struct {
	Partition Partition
	Offset    int64
}

// Expiring reports when a member's group removes it, and gives its partitions to
// others: it cannot reach the group. The zero At takes that back, as do Reconnected
// and a new claim.
type Expiring struct {
	Member Member
	At     time.Time
}

func (Recreated) event() {}
func (Damaged) event()   {}
func (Expiring) event()  {}

// recreated forgets a log, and what groups have made of it.
func (j *Judge) recreated(e Recreated) {
	for k, g := range j.groups {
		if k.partition == e.Partition {
			j.answerQueriesOf(k) // by what was done before
			for ; g != nil; g = g.before {
				g.floor, g.committed, g.named, g.through, g.positioned, g.sought = 0, -1, nil, nil, j.seq, false
			}
		}
	}
	*j.log(e.Partition) = partitionLog{damaged: -1}
	for key, c := range j.claims {
		if key.Partition == e.Partition && !c.ended && c.endBy.IsZero() {
			c.endBy, c.goneAt = j.now.Add(e.Within), j.now
		}
	}
}

// putOff gives a member's claims whose topic is gone their time from the end of a
// revocation of others that was under way as the topic went: a driver may revoke one
// after the other.
func (j *Judge) putOff(e Revoked) {
	began := j.now.Add(-e.Took)
	for key, c := range j.claims {
		if key.Member == e.Member && !c.ended && !c.endBy.IsZero() && !began.After(c.goneAt) {
			c.endBy, c.goneAt = c.endBy.Add(j.now.Sub(c.goneAt)), j.now
		}
	}
}

// checkOrphans holds that no claim survives its topic, unless its member cannot
// know of that, or is stopping: then claims may take as long as that.
func (j *Judge) checkOrphans() {
	for key, c := range j.claims {
		if !c.ended && !c.endBy.IsZero() && !j.severed[key.Member] && j.life(key.Member).state != "stopping" && j.overdue(c.endBy) {
			j.violate("claim-survived-its-topic", "%v was to end by %v", key, c.endBy)
		}
	}
}

// expired reports whether a member's group has given it up.
func (j *Judge) expired(m Member) bool {
	at, expiring := j.expiring[m]
	return expiring && !j.now.Before(at.Add(j.rules.Grace))
}

func (j *Judge) expires(e Expiring) {
	if e.At.IsZero() {
		delete(j.expiring, e.Member)
	} else {
		j.expiring[e.Member] = e.At
	}
}

// checkExpired holds that a member has let go by itself of what its group gives to
// others.
func (j *Judge) checkExpired() {
	for key, c := range j.claims {
		if !c.ended && j.expired(key.Member) {
			j.violate("not-fenced", "%v, which the group gave up at %v", key, j.expiring[key.Member])
		}
	}
}

// readable returns how many of a log's records lie before the first that cannot
// be read.
func (l *partitionLog) readable() int {
	if l.damaged < 0 {
		return len(l.records)
	}
	return l.index(l.damaged)
}
