package judge

import (
	"slices"
	"time"
)

// Asked reports what a handler that fails asks for, per record that is not done. It is
// recorded before the HandleEnd of the call; without it the call has failed for each of
// its records, and asks for nothing.
type Asked struct {
	ID      uint64
	Records []AskedRecord
}

// An AskedRecord is one that a handler has not done. Do is "" if the handler has left
// the decision to the policy, or "keep", "dead letter", "skip", "stop" or "hold".
// Unhandled says that the handler has not been at it.
type AskedRecord struct {
	Offset    int64
	Do        string
	Unhandled bool
}

// Skipped reports that a member goes on without a record, after so many attempts.
type Skipped struct {
	Member    Member
	Partition Partition
	Offset    int64
	Attempts  int
}

// Forwarded reports that a member takes a record for done because a broker has a copy, at
// ToOffset of To: in a retry topic, or else in one for dead letters.
type Forwarded struct {
	Member    Member
	Partition Partition
	Offset    int64
	Attempts  int // in all topics
	To        Partition
	ToOffset  int64
	Retry     bool
}

// Copied reports that a broker has appended a copy of a record to another topic. Group,
// Partition and Record.Offset are what the copy's headers say; Record.Key includes the
// record's own headers. At and AtOffset are where the copy lies, and Attempts how often the
// record has failed. A copy counts as an acknowledged one once it is there.
type Copied struct {
	Group     string
	Partition Partition
	Record    Record
	At        Partition
	AtOffset  int64
	Attempts  int
}

// Held reports that a member is held until a time, after which it hands out a probe;
// the zero time, that it is no longer.
type Held struct {
	Member Member
	Until  time.Time
}

// Releasing reports that an operator is about to end a hold.
type Releasing struct{ Member Member }

// Resolving reports that an operator is about to decide what happens to a record, by
// the words of AskedRecord.
type Resolving struct {
	Member    Member
	Partition Partition
	Offset    int64
	Do        string
}

// StoppedBy reports that a member is about to be disabled by one of its records.
type StoppedBy struct {
	Member    Member
	Partition Partition
	Offset    int64
}

// Waiting reports that the next backoff of a member is no failed start: it waits for a
// topic.
type Waiting struct{ Member Member }

func (Waiting) event()   {}
func (Asked) event()     {}
func (Skipped) event()   {}
func (Forwarded) event() {}
func (Copied) event()    {}
func (Held) event()      {}
func (Releasing) event() {}
func (Resolving) event() {}
func (StoppedBy) event() {}

// A Policy is what a member does with a record that its handler fails: Then, in the
// words of AskedRecord, after MaxAttempts. Patience is how long a probe may take.
type Policy struct {
	Then        string
	MaxAttempts int
	Batches     bool // attempts of a batch come before those of its records alone
	DeadLetters bool // a member has a producer, which may take some time to close
	Patience    time.Duration
}

// An openRecord is one that was handed out under a claim and is not done.
type openRecord struct {
	Record
	handed  int    // how often
	counted int    // how many of its failures were counted under the claim
	failed  int    // how often it had failed in the member by the latest failure, at most
	asked   string // by the handler's latest failure
	named   bool   // that failure was about this record

	// What follows is known where several calls run at once.
	failedAt time.Time
	failures int  // in a row, as it was recorded; 0 if it was not
	timed    bool // something else than the backoff decides when the next call comes
}

// find returns the place of a record among those that are not done.
func (c *claim) find(offset int64) (int, bool) {
	return slices.BinarySearchFunc(c.open, offset, func(o *openRecord, offset int64) int { return int(o.Offset - offset) })
}

// handOut notes that records go to a handler.
func (c *claim) handOut(rs []Record) {
	for _, r := range rs {
		i, found := c.find(r.Offset)
		if !found {
			c.open = slices.Insert(c.open, i, &openRecord{Record: r})
		}
		c.open[i].handed++
	}
}

// close notes that a record is done, and returns it, or nil if it was not open.
func (c *claim) close(offset int64, now time.Time) *openRecord {
	i, found := c.find(offset)
	if !found {
		return nil
	}
	o := c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	if c.over != nil {
		c.over[offset] = now
	}
	c.rest()
	return o
}

// rest notes what has to come next.
func (c *claim) rest() {
	if c.ok = len(c.open) == 0; !c.ok {
		c.first = c.open[0].Offset
	}
}

// checkVerdicts holds that no record goes to a handler again that was given up, and none
// more often than the policy says.
func (j *Judge) checkVerdicts(c *claim, e HandleStart) {
	for _, r := range e.Records {
		i, again := c.find(r.Offset)
		if !again {
			continue
		}
		o := c.open[i]
		if o.asked == "skip" || o.asked == "dead letter" {
			j.violate("handled-after-verdict", "%+v, but its handler asked for %s", e, o.asked)
		}
		then, most := j.policyAt(e.Member.Group, e.Partition.Topic)
		once := 1 // one call under a new claim, though none is left
		if j.rules.Policy.Batches && most > 0 {
			most, once = most+1, 2
		}
		if n := j.attempts[claimKey{e.Member, e.Partition}][r.Offset]; most > 0 && n != nil && n.least >= most && o.counted >= once && then != "stop" {
			j.violate("too-many-calls", "%+v after %d attempts", e, n.least)
		}
	}
}

// A tries is how often a record has failed in one member, as far as that is known.
type tries struct{ least, most int }

func (j *Judge) triesOf(key claimKey, offset int64) *tries {
	if j.attempts[key] == nil {
		j.attempts[key] = make(map[int64]*tries)
	}
	t := j.attempts[key][offset]
	if t == nil {
		t = new(tries)
		j.attempts[key][offset] = t
	}
	return t
}

// failedCall notes what is left of a call that has failed. An attempt that its context
// interrupts, or that outlives its claim, may count or not.
func (j *Judge) failedCall(h *handling) {
	asked, told := j.asked[h.ID]
	delete(j.asked, h.ID)
	if !told {
		for _, r := range h.Records {
			asked = append(asked, AskedRecord{Offset: r.Offset})
		}
	}
	certain := !h.Context.over() && h.claim != nil && !h.claim.ended && !h.claim.halted && j.stops[h.Member.Process] == nil
	key := claimKey{h.Member, h.Partition}
	h.counted = certain
	for _, r := range h.Records {
		at := slices.IndexFunc(asked, func(a AskedRecord) bool { return a.Offset == r.Offset })
		if at < 0 {
			j.accountOf(h.claim, groupPartition{h.Member.Group, h.Partition}).doneOne(r.Value, j.seq)
			j.progressed(h.Member, h.claim)
			delete(j.attempts[key], r.Offset)
			if h.claim != nil {
				h.claim.close(r.Offset, j.now)
			}
			continue
		}
		a := asked[at]
		if !a.Unhandled && a.Do != "hold" {
			t := j.triesOf(key, r.Offset)
			t.most++
			if certain {
				t.least++
			}
		}
		if h.claim == nil {
			continue
		}
		if i, found := h.claim.find(r.Offset); found {
			o := h.claim.open[i]
			o.asked, o.named, o.failed = a.Do, !a.Unhandled, j.triesOf(key, r.Offset).most
			if o.named && a.Do != "hold" {
				o.counted++
			}
			o.timed = o.timed || a.Do != ""
		}
		if a.Do != "" || len(h.Records) > 1 {
			h.claim.timed = true
		}
	}
	if h.claim != nil {
		h.claim.retries = true
		h.claim.rest()
	}
}

// doubtFailures notes that calls which failed at the moment at which their claim was lost may
// not count: the member may have found that it was halted.
func (j *Judge) doubtFailures(key claimKey, c *claim) {
	for _, h := range c.calls {
		if !h.counted || !h.endedAt.Equal(j.now) {
			continue
		}
		for _, r := range h.Records {
			if t := j.attempts[key][r.Offset]; t != nil {
				t.least = max(0, t.least-1)
			}
		}
	}
}

// forgetAttempts notes that a member may count attempts from zero.
func (j *Judge) forgetAttempts(m Member) {
	for key, of := range j.attempts {
		if key.Member == m {
			for _, t := range of {
				t.least = 0
			}
		}
	}
}

// doneBy notes that a record is done, unless it was before: under the member's claim, if it
// has one.
func (j *Judge) doneBy(m Member, p Partition, r Record) {
	j.accountOf(j.claims[claimKey{m, p}], groupPartition{m.Group, p}).doneOne(r.Value, j.seq)
}

// givenUp returns the record that a member gives up, if it was handed out, and whether
// its claim lives. It holds that the record may be given up.
func (j *Judge) givenUp(m Member, p Partition, offset int64, attempts int, do string) (o *openRecord, lives bool) {
	key := claimKey{m, p}
	for _, c := range []*claim{j.late[key], j.claims[key]} {
		if c != nil && o == nil {
			if o = c.close(offset, j.now); o == nil {
				c = nil // it was handed out under an earlier claim, perhaps of an earlier session
			}
			lives = o != nil && !c.ended
			j.progressed(m, c)
		}
	}
	if o == nil {
		o = j.orphan(key, offset)
	}
	t := j.triesOf(key, offset)
	if !lives {
		t.least = 0
		return o, false
	}
	delete(j.attempts[key], offset)
	ordered := j.resolved[order{key, offset, do}]
	then, most := j.policyAt(m.Group, p.Topic)
	attempts -= j.before(p, offset)
	switch {
	case ordered || o.asked == do:
	case !o.named || o.asked != "" && o.asked != "keep" || then != do || t.most < most:
		j.violate("given-up-unasked", "%v %v %d: %s after %d attempts, its handler asked for %q", m, p, offset, do, attempts, o.asked)
	}
	if attempts < t.least || attempts > t.most {
		j.violate("attempts-miscounted", "%v %v %d: %s after %d attempts, there were %d to %d", m, p, offset, do, attempts, t.least, t.most)
	}
	return o, true
}

// orphan returns a record that was open as an earlier claim ended, and forgets it.
func (j *Judge) orphan(key claimKey, offset int64) *openRecord {
	for i, o := range j.orphans[key] {
		if o.Offset == offset {
			j.orphans[key] = slices.Delete(j.orphans[key], i, i+1)
			return o
		}
	}
	return nil
}

// An order is what an operator has asked for: it may come too late, or after another.
type order struct {
	claimKey
	offset int64
	do     string
}

func (j *Judge) tellFailing(e Event) {
	switch e := e.(type) {
	case Asked:
		j.asked[e.ID] = e.Records
	case Skipped:
		switch o, lives := j.givenUp(e.Member, e.Partition, e.Offset, e.Attempts, "skip"); {
		case o == nil:
			j.violate("skipped-unhanded", "%+v", e)
		case lives: // else the next owner has to decide
			j.doneBy(e.Member, e.Partition, o.Record)
		}
	case Forwarded:
		j.forwarded(e)
	case Copied:
		j.copy(e)
	case Held:
		j.held(e)
	case Releasing:
		j.holds[e.Member] = holding{endedAt: j.now}
	case Resolving:
		j.resolving(e)
	case StoppedBy:
		j.stoppedBy(e)
	case Waiting:
		j.life(e.Member).waiting = true
	}
}

// copy notes that a record is done, which is the one that the copy's headers name.
func (j *Judge) copy(e Copied) {
	if e.Partition.Topic == "" || e.Group == "" {
		j.violate("unidentified-copy", "%+v", e)
		return
	}
	j.copies = append(j.copies, e)
	at := place{e.At, e.AtOffset}
	j.copied[at] = append(j.copied[at], e)
	j.group(groupPartition{e.Group, e.Partition}).doneBefore(e.Record.Value, j.seq)
}

// checkCopies holds that each copy is what its record is.
func (j *Judge) checkCopies() {
	for _, e := range j.copies {
		j.checkRecord(hidden{HandleStart: HandleStart{Partition: e.Partition}}, e.Record, -1)
	}
	j.copies = nil
}

func (j *Judge) resolving(e Resolving) {
	key := claimKey{e.Member, e.Partition}
	j.resolved[order{key, e.Offset, e.Do}] = true
	if c := j.claims[key]; c != nil {
		c.time()
	}
}

// stoppedBy holds that a record disables its member only if that was asked for. A member
// that stops has decided so before, though another record may lie at the offset by now.
func (j *Judge) stoppedBy(e StoppedBy) {
	key := claimKey{e.Member, e.Partition}
	open := slices.Clone(j.orphans[key]) // the claim may have ended while the member was stopping
	for _, c := range []*claim{j.late[key], j.claims[key]} {
		if c != nil {
			open = append(open, c.open...)
		}
	}
	then, most := j.policyAt(e.Member.Group, e.Partition.Topic)
	for _, o := range open {
		usedUp := then == "stop" && (o.asked == "" || o.asked == "keep") && o.failed >= most
		if o.Offset == e.Offset && (o.asked == "stop" || usedUp) {
			return
		}
	}
	j.violate("stopped-by-a-record", "%+v", e)
}

// A holding is the hold of a member.
type holding struct {
	active       bool
	since, until time.Time
	endedAt      time.Time
	probe        uint64 // the call that is one, or 0
	probedAt     time.Time
	probeOver    bool // it has returned
	overAt       time.Time
}

func (j *Judge) held(e Held) {
	h := j.holds[e.Member]
	if e.Until.IsZero() {
		j.holds[e.Member] = holding{endedAt: j.now}
		return
	}
	if !h.active {
		h.since = j.now
	}
	h.active, h.until, h.probe = true, e.Until, 0
	j.holds[e.Member] = h
	for key, c := range j.claims {
		if key.Member == e.Member {
			c.time()
		}
	}
}

// checkHeld holds that nothing is handed out while a member is held, but for one probe
// at a time once the time is up. Calls that were on their way come at once.
func (j *Judge) checkHeld(e HandleStart) {
	h := j.holds[e.Member]
	switch {
	case !h.active || j.now.Sub(h.since) <= j.rules.Grace:
		return
	case h.probe != 0 && h.probeOver && j.now.Sub(h.overAt) <= j.rules.Grace:
		return // its end is about to be recorded
	case j.now.Before(h.until):
		j.violate("handed-out-while-held", "%+v, held until %v", e, h.until)
	case h.probe != 0 && !h.probeOver && j.now.Sub(h.probedAt) < j.rules.Policy.Patience:
		j.violate("handed-out-while-held", "%+v, but %d is the probe", e, h.probe)
	case len(e.Records) != 1:
		j.violate("handed-out-while-held", "%+v is no single probe", e)
	}
	h.probe, h.probedAt, h.probeOver = e.ID, j.now, false
	j.probes++
	j.holds[e.Member] = h
}

// Probes returns how many probes there have been.
func (j *Judge) Probes() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.probes
}

// probeEnded notes that a call has returned that was a probe.
func (j *Judge) probeEnded(m Member, id uint64) {
	if h := j.holds[m]; h.active && h.probe == id {
		h.probeOver, h.overAt = true, j.now
		j.holds[m] = h
	}
}
