package kafka

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A hold keeps a consumer from handing out records while its handler blames an outage,
// as [Hold] says. When its time is up it lets one record pass, as a probe; what that
// comes to ends the hold or makes it longer.
//
// A lane asks for one flag of its brake, which it loads for each record anyway. While
// the flag is set it waits here, at the gate.
type hold struct {
	job      string
	backoff  Backoff
	patience time.Duration // a probe that takes longer is stuck
	log      *slog.Logger
	event    func(Event)

	reports
	brakes  map[*brake]bool // of the lanes that live
	active  bool
	since   time.Time
	until   time.Time
	err     error
	asked   TopicPartition // whose record is the probe, or will be
	wait    time.Duration  // the latest, without jitter; zero after a probe that succeeded
	due     bool           // the time is up, and no probe is under way
	probe   *gateTicket    // the one under way
	waiting []*gateTicket  // in order of arrival
	timer   *time.Timer    // of the hold, or of the probe
	epoch   int            // counts timers, so that a late one does nothing
	timers  sync.WaitGroup
}

// A gateTicket is a lane's place at the gate, and afterwards its leave to probe.
type gateTicket struct {
	partition TopicPartition
	retry     time.Time      // when the record at hand was due, if it has failed
	admit     chan admission // holds one
}

// An admission lets a lane pass the gate.
type admission struct {
	probe bool          // with one record, and report what it comes to
	delay time.Duration // after that time
}

func newHold(cfg *ConsumerConfig, log *slog.Logger, event func(Event)) *hold {
	return &hold{
		job: cfg.JobName, backoff: cfg.Backoff, log: log, event: event,
		patience: max(cfg.Backoff.filled().Max, cfg.HandlerTimeout),
		brakes:   make(map[*brake]bool),
	}
}

// enlist makes b follow the hold.
func (h *hold) enlist(b *brake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.brakes[b] = true
	b.setHeld(h.active)
}

// drop forgets b.
func (h *hold) drop(b *brake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.brakes, b)
}

// begin holds the consumer for a record of p, for d or as the backoff says. While it is
// held already, nothing changes: the call that asks began before.
func (h *hold) begin(p TopicPartition, d time.Duration, err error) {
	h.mu.Lock()
	defer h.unlock()
	if h.active {
		return
	}
	h.active, h.since = true, time.Now()
	for b := range h.brakes {
		b.setHeld(true)
	}
	h.extend(p, d, err)
}

// probed notes that the probe of t asks for the hold to go on.
func (h *hold) probed(t *gateTicket, d time.Duration, err error) {
	h.mu.Lock()
	defer h.unlock()
	if h.probe == t {
		h.extend(t.partition, d, err)
	}
}

// extend sets the time of the next probe, and reports it. The caller holds the mutex.
func (h *hold) extend(p TopicPartition, d time.Duration, err error) {
	wait := max(d, h.grow(d))
	h.asked, h.err, h.until = p, err, time.Now().Add(wait)
	h.probe, h.due = nil, false
	h.after(wait, h.ripen)
	until := h.until
	h.report(func() {
		h.log.Warn("kafka: consumer held", "until", until, "error", loggable(err))
		h.event(ConsumerHeld{JobName: h.job, Until: until, Err: err})
	})
}

// grow returns the next wait. It begins with d, or Backoff.Min, and doubles up to
// Backoff.Max until a probe has succeeded. The caller holds the mutex.
func (h *hold) grow(d time.Duration) time.Duration {
	b := h.backoff.filled()
	if h.wait == 0 {
		h.wait = b.Min
	} else {
		h.wait = min(time.Duration(float64(h.wait)*b.Multiplier), b.Max)
	}
	h.wait = max(h.wait, d)
	if b.Jitter <= 0 {
		return h.wait
	}
	return h.wait - time.Duration(float64(h.wait)*min(b.Jitter, 1)*rand.Float64())
}

// after calls f under the mutex when d has passed, unless the timer is set again
// before. The caller holds the mutex.
func (h *hold) after(d time.Duration, f func()) {
	h.stopTimer()
	epoch := h.epoch
	h.timers.Add(1)
	h.timer = time.AfterFunc(d, func() {
		defer h.timers.Done()
		h.mu.Lock()
		defer h.unlock()
		if h.epoch == epoch {
			h.timer = nil
			f()
		}
	})
}

// stopTimer lets no timer that was set do anything. The caller holds the mutex.
func (h *hold) stopTimer() {
	h.epoch++
	if h.timer != nil && h.timer.Stop() {
		h.timers.Done()
	}
	h.timer = nil
}

// ripen makes a record the probe: of the partition that asked, or of the first lane at
// the gate, or of the next that arrives. The caller holds the mutex.
func (h *hold) ripen() {
	h.due = true
	if len(h.waiting) == 0 {
		return
	}
	first := max(0, slices.IndexFunc(h.waiting, func(t *gateTicket) bool { return t.partition == h.asked }))
	t := h.waiting[first]
	h.waiting = slices.Delete(h.waiting, first, first+1)
	t.admit <- h.grant(t)
}

// grant makes t the probe. One that does not return counts as stuck: another partition's
// record is the next probe, and what the stuck one comes to is ignored. The caller holds
// the mutex.
func (h *hold) grant(t *gateTicket) admission {
	h.due, h.probe, h.asked = false, t, t.partition
	h.after(h.patience, func() {
		h.report(func() {
			h.log.Error("kafka: the probe of a held consumer has not returned; another record is the next one",
				"topic", t.partition.Topic, "partition", t.partition.Partition)
		})
		h.probe = nil
		h.ripen()
	})
	return admission{probe: true}
}

// arrive asks for admission to the gate. Without one, t waits there.
func (h *hold) arrive(t *gateTicket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.active:
		t.admit <- admission{}
	case h.due:
		t.admit <- h.grant(t)
	default:
		h.waiting = append(h.waiting, t)
	}
}

// withdraw takes t from the gate, and gives back its leave to probe if it has got it
// meanwhile.
func (h *hold) withdraw(t *gateTicket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.waiting, t); i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
		return
	}
	h.giveBack(t)
}

// probes reports whether t is the probe.
func (h *hold) probes(t *gateTicket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.probe == t
}

// abandon gives back the leave of t to probe, which came to nothing.
func (h *hold) abandon(t *gateTicket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.giveBack(t)
}

func (h *hold) giveBack(t *gateTicket) {
	if h.probe == t {
		h.stopTimer()
		h.probe = nil
		h.ripen()
	}
}

// passed notes that the probe of t asks for no hold: everything goes on. If its handler
// succeeded, the next hold begins with a short wait again.
func (h *hold) passed(t *gateTicket, succeeded bool) {
	h.mu.Lock()
	defer h.unlock()
	if h.probe != t {
		return
	}
	if succeeded {
		h.wait = 0
	}
	h.release()
}

// end ends the hold, if there is one.
func (h *hold) end() {
	h.mu.Lock()
	defer h.unlock()
	if h.active {
		h.release()
	}
}

// reset ends the hold, and lets the next one begin with a short wait.
func (h *hold) reset() {
	h.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wait = 0
}

// close ends the hold and waits for what its timers do.
func (h *hold) close() {
	h.end()
	h.timers.Wait()
}

// release admits all that wait at the gate: records that have failed in order of the
// time when they were due, evenly spread over Backoff.Min, so that what has just come
// back is not run over. The caller holds the mutex.
func (h *hold) release() {
	h.stopTimer()
	h.active, h.due, h.probe, h.err = false, false, nil, nil
	h.since, h.until = time.Time{}, time.Time{}
	for b := range h.brakes {
		b.setHeld(false)
	}
	var retries []*gateTicket
	for _, t := range h.waiting {
		if t.retry.IsZero() {
			t.admit <- admission{}
		} else {
			retries = append(retries, t)
		}
	}
	h.waiting = nil
	slices.SortStableFunc(retries, func(a, b *gateTicket) int { return a.retry.Compare(b.retry) })
	over := h.backoff.filled().Min
	for i, t := range retries {
		t.admit <- admission{delay: over * time.Duration(i) / time.Duration(len(retries))}
	}
	h.report(func() {
		h.log.Info("kafka: consumer no longer held")
		h.event(ConsumerHeld{JobName: h.job})
	})
}

// status returns what a status says of the hold, or nil if there is none.
func (h *hold) status() *HeldStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.active {
		return nil
	}
	return &HeldStatus{Since: h.since, Until: h.until, Err: h.err, Probe: h.asked}
}
