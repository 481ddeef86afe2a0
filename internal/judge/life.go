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
	"running":     {"stopping"},
	"stopping":    {"off", "disabled", "stopped", "backing off", "starting"},
	"backing off": {"starting", "off", "disabled", "stopped"},
	"disabled":    {"starting", "off", "stopped"},
	"stopped":     {},
}

type stateSince struct {
	state string
	since time.Time
	free  bool // something has happened that ends a backoff
}

func (j *Judge) stateChanged(e StateChanged) {
	j.alive(e.Member.Process, e)
	was, told := j.states[e.Member]
	if !told {
		was.state = "off"
	}
	if e.From != was.state || !slices.Contains(edges[e.From], e.To) {
		j.violate("illegal-state", "%+v, was %s", e, was.state)
	}
	if e.From == "backing off" && e.To == "starting" && !was.free {
		j.checkRestart(e, j.now.Sub(was.since))
	}
	j.states[e.Member] = stateSince{state: e.To, since: j.now}
}

// checkRestart holds that a member is not started again and again at once. How
// many failures there were in a row is not told, so the band is the widest.
func (j *Judge) checkRestart(e StateChanged, wait time.Duration) {
	least, _ := j.rules.backoff(1)
	_, most := j.rules.backoff(math.MaxInt)
	if wait < least || wait > most+j.rules.Grace {
		j.violate("backoff", "%+v after %v, want %v to %v", e, wait, least, most)
	}
}

// forgetBackoff says that a switch was used, which ends a backoff.
func (j *Judge) forgetBackoff(m Member) {
	if s, ok := j.states[m]; ok {
		s.free = true
		j.states[m] = s
	}
}

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
		if m.Process == e.Process && m.Async && len(m.answers) == 0 {
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
// have to wait for: no handler, and no send without an answer or with an unknown one.
func (j *Judge) Idle(process string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
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
