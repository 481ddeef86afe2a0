package judge

import (
	"math"
	"slices"
	"time"
)

// edges are the changes of state that there are.
var edges = map[string][]string{
	"off":         {"starting", "stopped"},
	"starting":    {"running", "backing off", "stopping", "off", "disabled", "stopped", "starting"},
	"running":     {"stopping", "starting"}, // the group may have removed it
	"stopping":    {"off", "disabled", "stopped", "backing off", "starting"},
	"backing off": {"starting", "off", "disabled", "stopped"},
	"disabled":    {"starting", "off", "stopped"},
	"stopped":     {},
}

// A life is what is known of a member's state.
type life struct {
	member     Member
	state      string
	since      time.Time
	sinceSeq   uint64
	on         bool
	switchedAt time.Time
	switchSeq  uint64    // 0 if no switch has been used
	onAt       time.Time // when it was switched on while it was off
	againSeq   uint64    // when it was switched on though it was on, some time after that
	deafSeq    uint64    // such a switch-on before that does not end the next backoff
	free       bool      // something has happened that ends a backoff
	joinedAt   time.Time // when its session was running first; zero if it was not
	doneAt     time.Time // when it last handled a record well

	waiting bool // for a topic, which is no failed start
	absent  int  // how often in a row, at most

	// The failed starts in a row are no fewer than least and no more than most.
	least, most int
}

// life returns that of m.
func (j *Judge) life(m Member) *life {
	l := j.states[m]
	if l == nil {
		l = &life{member: m, state: "off"}
		j.states[m] = l
		j.lives = append(j.lives, l)
	}
	return l
}

func (j *Judge) stateChanged(e StateChanged) {
	j.alive(e.Member.Process, e)
	l := j.life(e.Member)
	if e.From != l.state || !slices.Contains(edges[e.From], e.To) {
		j.violate("illegal-state", "%+v, was %s", e, l.state)
	}
	switch {
	case e.From == "backing off" && e.To == "starting" && !l.free:
		j.checkRestart(e, l)
	case e.To == "stopping" && !l.joinedAt.IsZero():
		l.ran(j.now.Sub(l.joinedAt), j.rules)
		l.joinedAt, l.deafSeq = time.Time{}, j.seq
	}
	if e.To == "starting" && e.From != "running" {
		l.deafSeq = j.seq
	}
	switch e.To {
	case "running":
		if l.joinedAt.IsZero() {
			l.joinedAt = j.now
		}
	case "backing off":
		if l.waiting {
			l.absent++
		} else {
			l.absent = 0
			j.failedToStart(e, l)
		}
	}
	l.waiting = l.waiting && e.To == "backing off"
	l.state, l.since, l.sinceSeq, l.free = e.To, j.now, j.seq, false
}

// ran says that a session has ended that had been a member for so long. Longer
// than any backoff is health.
func (l *life) ran(d time.Duration, r Rules) {
	if d >= r.BackoffMax {
		l.least = 0
	}
	if d > r.BackoffMax+r.Grace {
		l.most = 0
	}
}

// progressed says that a record was handled well, which is health, too. A handler
// that has outlived its claim may be of a session before.
func (j *Judge) progressed(m Member, c *claim) {
	l := j.life(m)
	l.least, l.doneAt = 0, j.now
	if c != nil && !c.ended {
		l.most = 0
	}
}

func (j *Judge) failedToStart(e StateChanged, l *life) {
	l.least++
	l.most++
	if j.rules.MaxErrors > 0 && l.least >= j.rules.MaxErrors {
		j.violate("too-many-attempts", "%+v after %d failures", e, l.least)
	}
	if l.doneAt.Equal(j.now) {
		l.least = 0 // the member may take notice of the success only now
	}
}

// disabled holds that only failed starts, and what no retry cures, disable a member:
// a record that its handler fails never does. The last failed start shows in no
// state of its own.
func (j *Judge) disabled(e Disabled) {
	l := j.life(e.Member)
	if j.rules.MaxErrors > 0 && !e.Permanent && l.most+1 < j.rules.MaxErrors {
		j.violate("disabled-without-cause", "%+v after at most %d failed starts before this one", e, l.most)
	}
}

// checkRestart holds that a member waits as its failures in a row demand.
func (j *Judge) checkRestart(e StateChanged, l *life) {
	wait := j.now.Sub(l.since)
	from, to := max(l.least, 1), l.most
	if l.waiting {
		from, to = 1, l.absent
	}
	for n := from; n <= to; n++ {
		if least, most := j.rules.backoff(n); wait >= least && wait <= most+j.rules.Grace {
			return
		}
	}
	j.violate("backoff", "%+v after %v and %d to %d failures", e, wait, l.least, l.most)
}

// switched notes the use of a switch, which ends a backoff and may start the
// count of failures again.
func (l *life) switched(on bool, now time.Time, seq uint64) {
	switch {
	case on && !l.on:
		l.onAt = now
	case on && now.After(l.onAt):
		l.againSeq = seq
	}
	l.on, l.switchedAt, l.switchSeq, l.free = on, now, seq, true
	l.least = 0
}

// closeTimeout is how long a start that is ended may take to close the producer of dead
// letters.
const closeTimeout = 10 * time.Second

// checkSwitches holds that a switch has acted on a member that was at rest, or
// that only waited; and that no backoff follows one more switch-on that came during
// the start that failed, or while the failed session was closing.
func (j *Judge) checkSwitches() {
	for _, l := range j.lives {
		ignored := l.on && slices.Contains([]string{"disabled", "backing off"}, l.state) ||
			!l.on && slices.Contains([]string{"starting", "running", "backing off"}, l.state)
		unheard := ignored && l.sinceSeq < l.switchSeq || l.on && l.state == "backing off" && l.deafSeq < l.againSeq
		if closing := j.rules.Policy.DeadLetters && l.state == "starting" && j.now.Sub(l.switchedAt) <= closeTimeout; closing {
			continue
		}
		if unheard && j.overdueOrNow(l.switchedAt) {
			j.violate("switch-ignored", "%v was switched at %v (on: %t) and is %s since %v", l.member, l.switchedAt, l.on, l.state, l.since)
		}
	}
}

// overdueOrNow is overdue for what must have followed when Check is called:
// without a grace, whatever was to follow has.
func (j *Judge) overdueOrNow(t time.Time) bool { return j.rules.Grace == 0 || j.overdue(t) }

// backoff returns the band of the wait after the n-th failure in a row.
func (r Rules) backoff(n int) (least, most time.Duration) {
	if r.BackoffMin == 0 {
		return 0, math.MaxInt64 - r.Grace
	}
	d := min(float64(r.BackoffMin)*math.Pow(r.Multiplier, float64(n-1)), float64(r.BackoffMax))
	return time.Duration(d * (1 - r.Jitter)), time.Duration(d)
}

// A stop is the stopping of one process.
type stop struct {
	StopCall
	at       time.Time
	returned bool
	clean    bool
	blamed   bool
}

func (j *Judge) stopCall(e StopCall) {
	if j.stops[e.Process] == nil {
		j.stops[e.Process] = &stop{StopCall: e, at: j.now}
	}
}

func (j *Judge) stopReturn(e StopReturn) {
	s := j.stops[e.Process]
	if s == nil {
		j.violate("stop-without-call", "%+v", e)
		return
	}
	j.checkStop(s)
	s.returned, s.clean = true, e.Clean
	if !e.Clean {
		j.abandon(e.Process)
		return
	}
	for _, h := range j.running {
		if h.Member.Process == e.Process {
			j.violate("alive-after-stop", "%+v still runs", h.HandleStart)
		}
	}
	for _, m := range j.order {
		// What is sent at this very moment may come too late for the process.
		if m.Process == e.Process && m.Async && len(m.answers) == 0 && j.now.After(m.at) {
			j.violate("callback-missing", "%+v when its process has stopped", m.Send)
		}
	}
}

// abandon expects no more answers of a process that gave up at its deadline.
func (j *Judge) abandon(process string) {
	for _, m := range j.order {
		if m.Process == process {
			m.stopped = true
		}
	}
}

// checkStop holds the limit of a stop that has not returned.
func (j *Judge) checkStop(s *stop) {
	took := j.now.Sub(s.at)
	switch {
	case s.blamed:
	case s.Idle && took > j.rules.Grace:
		j.violate("slow-stop", "%+v took %v with nothing to wait for", s.StopCall, took)
		s.blamed = true
	case s.Limit > 0 && took > s.Limit+j.rules.Grace:
		j.violate("slow-stop", "%+v took %v", s.StopCall, took)
		s.blamed = true
	}
}

func (j *Judge) checkStops() {
	for _, s := range j.stops {
		if !s.returned {
			j.checkStop(s)
			if s.Idle && !s.blamed && j.rules.Grace == 0 {
				j.violate("slow-stop", "%+v has not returned with nothing to wait for", s.StopCall)
				s.blamed = true
			}
		}
	}
}

// alive holds that nothing comes from a process that said that it had stopped.
func (j *Judge) alive(process string, e Event) {
	if s := j.stops[process]; s != nil && s.returned && s.clean {
		j.violate("alive-after-stop", "%T %+v", e, e)
	}
}

// Idle reports whether nothing of a process is under way that its stop would
// have to wait for: no handler, no seek, and no send without an answer or with an unknown one.
func (j *Judge) Idle(process string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seeksOf(process) {
		return false
	}
	for _, h := range j.running {
		if h.Member.Process == process {
			return false
		}
	}
	for _, s := range j.order {
		if s.Process == process && (len(s.answers) == 0 || s.answers[0].Outcome == Unknown) {
			return false
		}
	}
	return true
}

// checkStatus holds that a member knows what it owns, and counts no failure that
// is over.
func (j *Judge) checkStatus(e Status) {
	for _, p := range j.known {
		owns := slices.Contains(j.owners[groupPartition{e.Member.Group, p}], e.Member)
		if owns != slices.Contains(e.Owned, p) {
			j.violate("wrong-status", "%+v, but it owns %v: %t", e, p, owns)
		}
	}
	for i, p := range e.Owned {
		if c := j.claims[claimKey{e.Member, p}]; c != nil && c.ok && e.Failures[i] != 0 {
			j.violate("wrong-status", "%+v, but nothing fails in %v", e, p)
		}
	}
	l := j.life(e.Member)
	if !l.joinedAt.IsZero() {
		l.ran(j.now.Sub(l.joinedAt), j.rules)
	}
	counts := e.Restarts >= 0 && j.stops[e.Member.Process] == nil && slices.Contains([]string{"starting", "running", "backing off"}, l.state)
	if counts && (e.Restarts < l.least || e.Restarts > l.most) {
		j.violate("wrong-status", "%+v, but %d to %d starts have failed", e, l.least, l.most)
	}
}
