package judge

import "time"

// A sent message and what is known of it.
type sent struct {
	Send
	at      time.Time
	number  int // among all sends
	answers []Answer
	inLog   bool
	stopped bool // its process stopped without saying that all is over
}

type senderPartition struct {
	sender    string
	partition Partition
}

type latestSend struct {
	number int
	value  string
}

func (j *Judge) send(e Send) {
	if j.sends[e.Value] != nil {
		j.violate("value-not-unique", "%+v", e)
		return
	}
	s := &sent{Send: e, at: j.now, number: len(j.order)}
	j.sends[e.Value] = s
	j.order = append(j.order, s)
}

func (j *Judge) answer(e Answer) {
	s := j.sends[e.Value]
	if s == nil {
		j.violate("callback-twice", "%+v of what was never sent", e)
		return
	}
	s.answers = append(s.answers, e)
	if len(s.answers) > 1 {
		j.violate("callback-twice", "%+v", s.answers)
	}
	j.checkFailed(s)
}

// appendedSend checks a record that has come into the log against its sending.
func (j *Judge) appendedSend(e Appended) {
	s := j.sends[e.Value]
	if s == nil {
		return // from outside
	}
	s.inLog = true
	j.checkFailed(s)
	k := senderPartition{s.Sender, e.Partition}
	if before, ok := j.latest[k]; ok && before.number > s.number {
		j.violate("reordered", "%v: %q was sent before %q and lies behind it", k, e.Value, before.value)
	}
	j.latest[k] = latestSend{s.number, e.Value}
}

func (j *Judge) checkFailed(s *sent) {
	if s.inLog && len(s.answers) > 0 && s.answers[0].Outcome == Failed {
		j.violate("failed-but-in-log", "%q", s.Value)
	}
}

func (j *Judge) finalSends() {
	for _, s := range j.order {
		switch {
		case len(s.answers) == 0 && !s.stopped:
			j.violate("callback-missing", "%+v", s.Send)
		case len(s.answers) > 0 && s.answers[0].Outcome == OK:
			j.checkAcked(s.answers[0])
		}
	}
}

func (j *Judge) checkAcked(a Answer) {
	at, ok := j.places[a.Value]
	switch {
	case !ok && j.log(a.Partition).truncated: // it may have been there
	case !ok:
		j.violate("acked-but-not-in-log", "%+v", a)
	case at != (place{a.Partition, a.Offset}):
		j.violate("acked-elsewhere", "%+v lies at %+v", a, at)
	}
}
