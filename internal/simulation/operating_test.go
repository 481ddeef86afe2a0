package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// pause is an operator's word that a consumer, or some of its partitions, hand out nothing.
func (w *world) pause(t *rapid.T) {
	n := w.one(t)
	g, ps := rapid.SampledFrom(n.groups).Draw(t, "consumer"), []kafka.TopicPartition(nil)
	if rapid.Bool().Draw(t, "partitions") {
		ps = w.somePartitions(t, g)
	}
	w.operate(t, func(atRest bool) { n.pause(g, ps, atRest) })
}

func (w *world) resume(t *rapid.T) {
	var paused []*node
	for _, n := range w.live() {
		if slices.ContainsFunc(n.manager.Consumers(), isPaused) {
			paused = append(paused, n)
		}
	}
	if len(paused) == 0 {
		t.Skip("nothing is paused")
	}
	n := rapid.SampledFrom(paused).Draw(t, "process")
	all := rapid.IntRange(0, 2).Draw(t, "all") == 0
	for _, s := range n.manager.Consumers() {
		if ps := s.PausedPartitions; all && isPaused(s) {
			w.operate(t, func(bool) { n.resume(s.JobName, nil) })
		} else if len(ps) > 0 {
			w.operate(t, func(bool) { n.resume(s.JobName, ps[:1]) })
		} else if s.Paused { // that does not lift it
			others := w.somePartitions(t, s.Group)
			w.operate(t, func(bool) { n.resume(s.JobName, others) })
		}
	}
}

func isPaused(s kafka.ConsumerStatus) bool { return s.Paused || len(s.PausedPartitions) > 0 }

// somePartitions returns one or two that a group reads, owned or not.
func (w *world) somePartitions(t *rapid.T, group string) (ps []kafka.TopicPartition) {
	all := w.readBy(group)
	for range rapid.IntRange(1, 2).Draw(t, "partitions to name") {
		topic := rapid.SampledFrom(all).Draw(t, "topic")
		ps = append(ps, kafka.TopicPartition{Topic: topic, Partition: int32(rapid.IntRange(0, max(0, w.broker.Partitions(topic)-1)).Draw(t, "number"))})
	}
	return ps
}

// setRate is an operator's word on how fast a consumer goes.
func (w *world) setRate(t *rapid.T) {
	n := w.one(t)
	g, rate := rapid.SampledFrom(n.groups).Draw(t, "consumer"), drawRate(t)
	w.operate(t, func(bool) { n.setRate(g, rate) })
}

func drawRate(t *rapid.T) float64 {
	return rapid.SampledFrom([]float64{0, 0.1, 1, 1, 3, 20, 200}).Draw(t, "per second")
}

// operate does what an operator asks for, at once or when other things are under way.
func (w *world) operate(t *rapid.T, do func(atRest bool)) {
	delay := time.Duration(rapid.SampledFrom([]int{0, 0, 10, 300, 1_000}).Draw(t, "after ms")) * time.Millisecond
	if delay == 0 {
		do(true)
		return
	}
	w.timers = append(w.timers, time.AfterFunc(delay, func() { do(false) }))
}

func (n *node) pause(group string, ps []kafka.TopicPartition, atRest bool) {
	n.operating.Lock()
	defer n.operating.Unlock()
	if n.manager.Pause(group, ps...) == nil {
		n.w.judge.Tell(judge.Paused{Member: n.member(group), Partitions: judged(ps), AtRest: atRest})
	}
}

func (n *node) resume(group string, ps []kafka.TopicPartition) {
	n.operating.Lock()
	defer n.operating.Unlock()
	n.w.judge.Tell(judge.Resuming{Member: n.member(group), Partitions: judged(ps)})
	if n.manager.Resume(group, ps...) != nil {
		n.w.breaks("resume-refused")
	}
}

// setRate records a higher rate with the judge before it holds, and a lower one after that.
func (n *node) setRate(group string, perSecond float64) {
	n.operating.Lock()
	defer n.operating.Unlock()
	was := n.rates[group]
	higher := perSecond == 0 || was > 0 && perSecond > was
	if higher {
		n.rated(group, perSecond)
	}
	if n.manager.SetRate(group, perSecond) != nil {
		n.w.breaks("rate-refused")
	}
	if !higher {
		n.rated(group, perSecond)
	}
}

func (n *node) rated(group string, perSecond float64) {
	n.rates[group] = perSecond
	n.w.judge.Tell(judge.Rated{Member: n.member(group), PerSecond: perSecond})
}

// letGo lifts all that operators have asked for.
func (w *world) letGo() {
	for _, n := range w.live() {
		for _, g := range n.groups {
			n.resume(g, nil)
			n.setRate(g, 0)
		}
	}
}

// checkPause holds that a status knows what an operator has paused. A claim that is about to
// end need not.
func (w *world) checkPause(t *rapid.T, n *node, s kafka.ConsumerStatus, p kafka.PartitionStatus) {
	shown := slices.Contains(p.PausedBy, kafka.PausedByOperator)
	paused, ending := w.judge.Pausing(n.member(s.Group), judge.Partition{Topic: p.Topic, Number: p.Partition})
	ending = ending || !w.quiet() || w.napping.Load() > 0
	if shown != paused && !ending {
		w.violated(t, "status-consistent", fmt.Sprintf("%s: %+v, an operator has paused it: %t", n.name, p, paused))
	}
}

// fetching records with the judge that a partition is paused at the driver, or fetched again.
func (w *world) fetching(c fault.Call) {
	process, group, _ := strings.Cut(c.ClientID, ".")
	w.judge.Tell(judge.Fetching{
		Member:    judge.Member{Process: process, Group: group, Name: group},
		Partition: judge.Partition{Topic: c.Topic, Number: c.Partition}, Paused: c.Op == fault.Pause,
	})
}

// operated reports a change that an operator has made, and counts it.
func (h hook) operated(e kafka.Event) {
	switch e := e.(type) {
	case kafka.PauseChanged:
		what := "resumed"
		if e.Paused {
			what = "paused"
		}
		if len(e.Partitions) == 0 {
			h.n.w.stats.strike(what + ": consumer")
		} else {
			h.n.w.stats.strike(what + ": partition")
		}
	case kafka.RateChanged:
		h.n.w.stats.strike("rate changed")
	default:
		h.failed(e)
	}
}
