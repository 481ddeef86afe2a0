//go:build unix

package main

import (
	"slices"
	"sync"
	"time"
)

// A history takes the events of all processes, and knows what matters while
// they come: which partitions are handled, and which senders answered.
type history struct {
	mu      sync.Mutex // guards what follows
	events  []event
	handled map[int32]progress
	answers map[string]time.Time // by process: when the latest message was sent that was acknowledged
	calls   map[uint64]event     // handlers that run
	slowest time.Duration        // the longest time without an acknowledgement
	lastAck time.Time
	acked   int
}

// progress is what was handled last in a partition.
type progress struct {
	at   time.Time // when
	sent time.Time // when the record had been sent
}

func newHistory() *history {
	return &history{
		handled: map[int32]progress{},
		answers: map[string]time.Time{}, calls: map[uint64]event{},
	}
}

func (h *history) tell(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	at := time.Unix(0, e.At)
	switch e.Kind {
	case isAnswer:
		if e.Outcome == 0 {
			h.noteAck(e, at)
		}
	case isStart:
		h.calls[e.ID] = e
	case isEnd:
		start := h.calls[e.ID]
		delete(h.calls, e.ID)
		if e.OK {
			h.noteHandled(start, at)
		}
	}
}

func (h *history) noteAck(e event, at time.Time) {
	h.acked++
	if !h.lastAck.IsZero() {
		h.slowest = max(h.slowest, at.Sub(h.lastAck))
	}
	h.lastAck = at
	if sent := sentAt(e.Value); sent.After(h.answers[e.process.Name]) {
		h.answers[e.process.Name] = sent
	}
}

func (h *history) noteHandled(start event, at time.Time) {
	p := h.handled[start.Partition]
	p.at = at
	if sent := sentAt(start.Value); sent.After(p.sent) {
		p.sent = sent
	}
	h.handled[start.Partition] = p
}

// recovered reports whether every partition has handled, and every process of
// senders got acknowledged, a message that was sent after t.
func (h *history) recovered(t time.Time, partitions int, senders []*process) (missing string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range senders {
		if !h.answers[s.Name].After(t) {
			return "acknowledgements for " + s.Name
		}
	}
	for p := range int32(partitions) {
		if !h.handled[p].sent.After(t) {
			return "handlers of a partition"
		}
	}
	return ""
}

// takeSlowest returns the longest time without an acknowledgement since the last
// call, the time that is running included.
func (h *history) takeSlowest() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.slowest
	h.slowest = 0
	return d
}

// sorted returns everything in the order in which it happened.
func (h *history) sorted() []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := slices.Clone(h.events)
	slices.SortStableFunc(events, func(a, b event) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	return events
}
