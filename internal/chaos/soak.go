//go:build unix

package main

import (
	"context"
	"time"
)

// A soak is a long quiet run in which only the group changes: of three consumers
// two stay, and the third comes and goes, so that there is a rebalance every
// soakEvery. The handlers could do about twice of what is sent: six partitions at
// 4 ms are 1,500 a second, and one record in a thousand fails and stops its
// partition for a second. Keys are many, so that no partition gets much more.
const soakEvery = 20 * time.Second

func (s settings) soaking() settings {
	s.Partitions, s.Consumers, s.Producers = 6, 2, 2
	s.Work, s.Rate, s.Keys = 4*time.Millisecond, 600, 600
	s.WarmUp, s.Calm = 0, soakEvery
	return s
}

func comeAndGo() fault {
	return fault{"a third consumer comes and goes", soakEvery, false, func(_ context.Context, t *trial) (func(context.Context) error, error) {
		return func(context.Context) error {
			last := len(t.consumers) - 1
			leaver := t.consumers[last]
			t.consumers = t.consumers[:last]
			return leaver.stop(2 * stopTimeout)
		}, t.startConsumer()
	}}
}

// A minute is one line of a soak's table. Of the processes
// that live from the first minute on, it has the one that takes most.
type minute struct {
	Minute      int     `json:"minute"`
	Acked       int     `json:"acked"`
	Handled     int     `json:"handled"`
	Redelivered int     `json:"redelivered"`
	Joins       int     `json:"joins"`
	Lost        int     `json:"partitions_lost"`
	RSS         float64 `json:"rss"`
	Heap        float64 `json:"heap"`
	Goroutines  int     `json:"goroutines"`
	Files       int     `json:"files"`
}

// minutes cuts the history into minutes from begun on.
func (v verdict) minutes(begun time.Time) []minute {
	var all []minute
	in := func(e event) *minute {
		i := max(0, int(time.Unix(0, e.At).Sub(begun)/time.Minute))
		for len(all) <= i {
			all = append(all, minute{Minute: len(all) + 1})
		}
		return &all[i]
	}
	old := map[*process]bool{}
	for _, e := range v.events {
		m := in(e)
		if m.Minute == 1 {
			old[e.process] = true
		}
		switch {
		case e.Kind == isAnswer && e.Outcome == 0:
			m.Acked++
		case e.Kind == isAssigned:
			m.Joins++
		case e.Kind == isLost:
			m.Lost += len(e.Partitions)
		case e.Kind == isStat && old[e.process]:
			m.RSS = max(m.RSS, mebibytes(e.RSS))
			m.Heap = max(m.Heap, mebibytes(e.Heap))
			m.Goroutines, m.Files = max(m.Goroutines, e.Goroutines), max(m.Files, e.Files)
		}
	}
	seen := map[string]bool{}
	v.eachHandled(func(start, end event) {
		m := in(end)
		m.Handled++
		if seen[start.Value] {
			m.Redelivered++
		}
		seen[start.Value] = true
	})
	return all
}

func mebibytes(n int64) float64 { return float64(n>>10) / 1024 }

// grown returns how many times as much memory the last third of the minutes took
// as the middle one.
func grown(all []minute) float64 {
	third := len(all) / 3
	if third == 0 {
		return 1
	}
	mean := func(ms []minute) (sum float64) {
		for _, m := range ms {
			sum += m.RSS / float64(len(ms))
		}
		return sum
	}
	return mean(all[len(all)-third:]) / mean(all[third:2*third])
}
