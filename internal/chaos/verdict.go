//go:build unix

package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/internal/judge"
)

// grace is how far two processes may be apart in learning of one rebalance.
const grace = 500 * time.Millisecond

// A verdict is what is known of a trial when it is over.
type verdict struct {
	events  []event // in order
	records []stored
	commits []applied
	group   string
	topic   string
}

// violations gives a judge every event, and returns its verdict.
func (v verdict) violations() []judge.Violation {
	j := judge.New(judge.Rules{Grace: grace, MaxErrors: 10})
	r := &replay{v: v, judge: j, claims: map[*process]map[int32]bool{}, calls: map[*process]map[uint64]bool{}, starts: map[uint64]event{}}
	commits := slices.Clone(v.commits)
	for _, e := range v.events {
		for len(commits) > 0 && commits[0].before(e.At) {
			r.commit(commits[0])
			commits = commits[1:]
		}
		r.tell(e)
	}
	for _, c := range commits {
		r.commit(c)
	}
	for _, s := range v.records {
		j.Tell(judge.Appended{Partition: v.partition(s.partition), Offset: s.offset, Key: s.key, Value: s.value})
	}
	return j.Final(judge.Subscription{Group: v.group, Topic: v.topic})
}

// before reports whether a commit was applied before an event: the broker's clock
// is this machine's, but it drops what is less than a millisecond.
func (a applied) before(at int64) bool { return a.at.Add(time.Millisecond).UnixNano() <= at }

func (v verdict) partition(id int32) judge.Partition {
	return judge.Partition{Topic: v.topic, Number: id}
}

func (v verdict) partitions(ids []int32) (ps []judge.Partition) {
	for _, id := range ids {
		ps = append(ps, v.partition(id))
	}
	return ps
}

// A replay gives a judge the events that the processes wrote down, and those that a
// killed process could not write.
type replay struct {
	v      verdict
	judge  *judge.Judge
	claims map[*process]map[int32]bool
	calls  map[*process]map[uint64]bool // handlers that run
	starts map[uint64]event
}

func (r *replay) commit(c applied) {
	r.judge.TellAt(c.at, judge.CommitApplied{Group: r.v.group, Partition: r.v.partition(c.partition), Offset: c.offset})
}

func (r *replay) member(p *process) judge.Member {
	return judge.Member{Process: p.Name, Group: r.v.group, Name: "chaos"}
}

func (r *replay) tell(e event) {
	at, p := time.Unix(0, e.At), e.process
	tell := func(j judge.Event) { r.judge.TellAt(at, j) }
	switch e.Kind {
	case isSend:
		tell(judge.Send{Process: p.Name, Sender: e.Sender, Value: e.Value, Async: true})
	case isAnswer:
		tell(judge.Answer{Value: e.Value, Outcome: judge.Outcome(e.Outcome), Partition: r.v.partition(e.Partition), Offset: e.Offset})
	case isStart:
		r.running(p)[e.ID] = true
		tell(judge.HandleStart{
			ID: e.ID, Member: r.member(p), Partition: r.v.partition(e.Partition),
			Records: []judge.Record{{Offset: e.Offset, Key: e.Key, Value: e.Value}},
		})
	case isEnd:
		delete(r.running(p), e.ID)
		tell(judge.HandleEnd{ID: e.ID, OK: e.OK})
	case isAssigned:
		for _, id := range e.Partitions {
			r.owned(p)[id] = true
		}
		if len(e.Partitions) > 0 {
			tell(judge.Assigned{Member: r.member(p), Partitions: r.v.partitions(e.Partitions)})
		}
	case isRevoked:
		r.disown(p, e.Partitions)
		tell(judge.Revoked{Member: r.member(p), Partitions: r.v.partitions(e.Partitions), Stuck: r.v.partitions(e.Stuck)})
	case isLost:
		r.disown(p, e.Partitions)
		tell(judge.Lost{Member: r.member(p), Partitions: r.v.partitions(e.Partitions)})
	case isState:
		tell(judge.StateChanged{Member: r.member(p), From: e.From, To: e.Text})
	case isStop:
		tell(judge.StopCall{Process: p.Name, Limit: stopTimeout})
	case isStopped:
		tell(judge.StopReturn{Process: p.Name, Clean: e.OK})
	case isSevered:
		tell(judge.Severed{Member: r.member(p)})
	case isReconnected:
		tell(judge.Reconnected{Member: r.member(p)})
	case isKilled:
		r.killed(p, tell)
	}
}

// killed ends what a process had under way. What it was waiting for is no longer owed.
func (r *replay) killed(p *process, tell func(judge.Event)) {
	tell(judge.Severed{Member: r.member(p)})
	for id := range r.running(p) {
		tell(judge.HandleEnd{ID: id})
	}
	var owned []int32
	for id := range r.owned(p) {
		owned = append(owned, id)
	}
	if len(owned) > 0 {
		tell(judge.Lost{Member: r.member(p), Partitions: r.v.partitions(owned)})
	}
	tell(judge.StopCall{Process: p.Name})
	tell(judge.StopReturn{Process: p.Name})
}

func (r *replay) running(p *process) map[uint64]bool {
	if r.calls[p] == nil {
		r.calls[p] = map[uint64]bool{}
	}
	return r.calls[p]
}

func (r *replay) owned(p *process) map[int32]bool {
	if r.claims[p] == nil {
		r.claims[p] = map[int32]bool{}
	}
	return r.claims[p]
}

func (r *replay) disown(p *process, ids []int32) {
	for _, id := range ids {
		delete(r.owned(p), id)
	}
}

// fates counts what became of messages.
func (v verdict) fates(rep *report) {
	answers := map[string]event{}
	var sent []string
	for _, e := range v.events {
		switch e.Kind {
		case isSend:
			sent = append(sent, e.Value)
		case isAnswer:
			answers[e.Value] = e
		}
	}
	inLog, handled := v.inLog(), v.handled()
	for _, value := range sent {
		a, answered := answers[value]
		rep.Attempted++
		switch {
		case !answered:
			rep.Unanswered++
		case a.Outcome == int(judge.OK):
			rep.Acked++
			if inLog[value] == 0 {
				rep.LostWrites++
			}
			if handled[value] == 0 {
				rep.Lost++
			}
		case a.Outcome == int(judge.Failed):
			rep.Failed++
			rep.sendError(a.Text)
		default:
			rep.Unknown++
			rep.sendError(a.Text)
		}
	}
	for value, n := range inLog {
		rep.InLog++
		rep.Duplicated += n - 1
		if handled[value] == 0 {
			rep.Unseen++
		}
	}
	for _, n := range handled {
		rep.Handled++
		rep.Redelivered += n - 1
	}
	rep.Commits = len(v.commits)
}

// inLog counts how often each value lies in the log.
func (v verdict) inLog() map[string]int {
	n := map[string]int{}
	for _, s := range v.records {
		n[s.value]++
	}
	return n
}

// handled counts how often each value was handled well.
func (v verdict) handled() map[string]int {
	n := map[string]int{}
	v.eachHandled(func(start, _ event) { n[start.Value]++ })
	return n
}

// eachHandled calls f for each good end of a handler, in order.
func (v verdict) eachHandled(f func(start, end event)) {
	starts := map[uint64]event{}
	for _, e := range v.events {
		switch {
		case e.Kind == isStart:
			starts[e.ID] = e
		case e.Kind == isEnd && e.OK:
			f(starts[e.ID], e)
		}
	}
}

// reorderedKeys counts records that one sender sent before another one of the
// same key, and that lie behind it.
func (v verdict) reorderedKeys() (n int) {
	type senderKey struct{ sender, key string }
	number := map[string]int{}
	senders := map[string]string{}
	for _, e := range v.events {
		if e.Kind == isSend {
			number[e.Value], senders[e.Value] = len(number), e.Sender
		}
	}
	last := map[senderKey]int{}
	for _, s := range v.records {
		if s.key == "" {
			continue
		}
		k := senderKey{senders[s.value], s.key}
		if m := number[s.value]; m < last[k] {
			n++
		} else {
			last[k] = m
		}
	}
	return n
}

// handedOutTooLate counts records that a consumer handed out after another one had
// begun to handle the same partition, and before it was assigned that again. Other
// rules let pass what a consumer does that cannot hear of its losses; this one does
// not, since each has to let go of its partitions by the clock. A process that was
// frozen had no clock: it may hand out the rest of one chunk.
func (v verdict) handedOutTooLate() (n int) {
	owners := map[int32]map[*process]bool{} // those that were assigned it, and whether another has begun since
	frozen := map[*process]bool{}
	for _, e := range v.events {
		switch e.Kind {
		case isFrozen:
			frozen[e.process] = true
		case isAssigned:
			for _, id := range e.Partitions {
				if owners[id] == nil {
					owners[id] = map[*process]bool{}
				}
				owners[id][e.process] = false
			}
		case isStart:
			if owners[e.Partition][e.process] && !frozen[e.process] {
				n++
			}
			for p := range owners[e.Partition] {
				if p != e.process {
					owners[e.Partition][p] = true
				}
			}
		}
	}
	return n
}

// impact returns what a fault has done, up to the next one.
func (v verdict) impact(h hit, until time.Time) impact {
	i := impact{
		Fault: h.name, Lasted: seconds(h.healed.Sub(h.began)),
		LongestWithoutAck: seconds(h.longestWithoutOK),
	}
	if !h.recovered.IsZero() {
		i.Recovered = seconds(h.recovered.Sub(h.healed))
	} else {
		i.Recovered = -1
	}
	within := func(e event) bool { return e.At >= h.began.UnixNano() && e.At < until.UnixNano() }
	seen := map[string]bool{}
	first := map[int32]time.Duration{}
	v.eachHandled(func(start, end event) {
		if within(end) && seen[start.Value] {
			i.Redelivered++
		}
		seen[start.Value] = true
		if after := time.Unix(0, end.At).Sub(h.healed); after > 0 && within(end) {
			if _, ok := first[start.Partition]; !ok {
				first[start.Partition] = after
			}
		}
	})
	i.FirstHandledMedian, i.FirstHandledMax = spread(first)
	for _, e := range v.events {
		if !within(e) {
			continue
		}
		switch {
		case e.Kind == isAssigned:
			i.Joins++
		case e.Kind == isLost:
			i.PartitionsLost += len(e.Partitions)
		case e.Kind == isState && e.Text == "starting":
			i.Starts++
		}
	}
	return i
}

func spread(of map[int32]time.Duration) (median, most float64) {
	if len(of) == 0 {
		return -1, -1
	}
	var all []time.Duration
	for _, d := range of {
		all = append(all, d)
	}
	slices.SortFunc(all, cmp.Compare[time.Duration])
	return seconds(all[len(all)/2]), seconds(all[len(all)-1])
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
