package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// WithStuckAfter sets how long one call of a handler may run, or a record may lie ready
// without being handed out, before Healthy reports it. The default is 5 minutes, or
// twice the HandlerTimeout of a consumer that has one. A consumer whose HandlerTimeout
// allows longer calls than d gets twice its HandlerTimeout. A duration that is not
// positive is ignored.
func WithStuckAfter(d time.Duration) Option {
	return Option{func(m *Manager) {
		if d > 0 {
			m.stuckAfter = d
		}
	}}
}

// Ready reports whether the process does its part: nil once each consumer that is
// switched on has joined its group since its last start, with or without partitions. It
// is an error while one is starting or backing off, or is switched on before
// StartAllConsumers, and from the beginning of a shutdown on, when it wraps ErrClosed. A
// disabled consumer is switched off, and is none of those. A consumer that has joined stays
// ready while its brokers are away, until its driver gives up.
//
// A manager without consumers is ready, so a program that registers them by Run answers
// probes only after that.
//
// It is meant for a readiness probe, and for a deployment that waits for it. It asks no
// broker.
func (m *Manager) Ready() error {
	if err := m.ready(); err != nil {
		return err
	}
	if isClosed(m.stopping) {
		return fmt.Errorf("kafka: shutting down: %w", ErrClosed)
	}
	return m.report((*job).awaited)
}

// Healthy reports whether a restart of the process would help: nil unless a call of a
// handler has run for longer than [WithStuckAfter] says, or a record was ready for that
// long and was not handed out for no known reason. It is nil for a consumer that is
// starting, is held, is paused, is disabled, has no partitions, cannot reach its brokers, or
// retries a record that fails, and during a shutdown.
//
// The time is measured from when the library first saw the call under way, up to a
// twentieth of the bound late. It is meant for a liveness probe, and asks no broker.
func (m *Manager) Healthy() error {
	if err := m.ready(); err != nil {
		return err
	}
	if isClosed(m.stopping) {
		return nil
	}
	return m.report((*job).stuck)
}

// maxReported is how many problems the error of Ready or Healthy lists.
const maxReported = 20

// report joins what ask returns for each consumer.
func (m *Manager) report(ask func(*job) []error) error {
	var all []error
	for _, j := range m.allJobs() {
		all = append(all, ask(j)...)
	}
	if more := len(all) - maxReported; more > 0 {
		all = append(all[:maxReported:maxReported], fmt.Errorf("kafka: and %d more", more))
	}
	return errors.Join(all...)
}

// awaited returns why the job is not ready, if so.
func (j *job) awaited() []error {
	j.mu.Lock()
	st, w, s := j.status, j.wish, j.session
	j.mu.Unlock()
	switch {
	case !w.on:
		return nil
	case s != nil && s.committer.offs == w.offs && st.state != StateStopping && isClosed(s.member.joined):
		return nil
	case st.state == StateOff:
		return []error{fmt.Errorf("kafka: consumer %q is switched on and has not been started", j.name())}
	case st.reason != nil:
		return []error{fmt.Errorf("kafka: consumer %q has not joined its group, and is %v: %w", j.name(), st.state, st.reason)}
	}
	return []error{fmt.Errorf("kafka: consumer %q has not joined its group, and is %v", j.name(), st.state)}
}

// stuck returns which partitions of the job stand still for no known reason.
func (j *job) stuck() (all []error) {
	for _, p := range j.workers.busy() {
		o := j.watch.look(p)
		still := time.Since(o.ready)
		if o.what == isReady && still > j.watch.limit+p.env.batchLinger { // a batch may wait for so long to fill
			all = append(all, fmt.Errorf("kafka: consumer %q: the record of %v at offset %d has been ready for %v and was not handed out",
				j.name(), keyOf(p.claim), o.position, still.Truncate(time.Second)))
		}
		c, calling := longest(o.calls)
		if still := time.Since(c.since); calling && still > j.watch.limit {
			all = append(all, fmt.Errorf("kafka: consumer %q: the handler of %v has been at offset %d for %v",
				j.name(), keyOf(p.claim), c.offset, still.Truncate(time.Second)))
		}
	}
	return all
}

// longest returns the call that has run for the longest time, if there is one.
func longest(calls []call) (c call, some bool) {
	for i, o := range calls {
		if i == 0 || o.since.Before(c.since) {
			c = o
		}
	}
	return c, len(calls) > 0
}

// stuckLimit returns how long a call may run.
func (m *Manager) stuckLimit(cfg *ConsumerConfig) time.Duration {
	twice := 2 * cfg.HandlerTimeout
	switch {
	case m.stuckAfter > 0:
		return max(m.stuckAfter, twice)
	case twice > 0:
		return twice
	}
	return 5 * time.Minute
}

// A watch notes since when the partitions of a job stand still. A lane takes no time
// stamps, which would cost more than all else that it does per record. The watch looks
// at the lanes now and then, while records are there, and whenever a status is asked for.
type watch struct {
	limit time.Duration
	every time.Duration
	job   *job

	armed atomic.Bool // the timer is set, or its function runs

	mu     sync.Mutex
	closed bool
	timer  *time.Timer
	seen   map[*partition]sight
}

// A sight is what a partition was found at.
type sight struct {
	stance
	stood time.Time // since when its position is the same, and nothing else bars it
	ready time.Time // since when the stance is the same
	calls []call    // in order of offset
}

// A call is a call of the handler that is under way. A partition with a crew can have many,
// at any of its offsets: one that does not return is found though the record at the
// position waits, or has been dropped with its claim.
type call struct {
	offset int64
	again  int       // how many calls for records that had failed came before
	since  time.Time // when it was first seen
}

// began returns since when a call is under way, of which the sight before knew.
func (o *sight) began(c call, now time.Time) time.Time {
	i, found := slices.BinarySearchFunc(o.calls, c.offset, func(o call, offset int64) int { return cmp.Compare(o.offset, offset) })
	if found && o.calls[i].again == c.again {
		return o.calls[i].since
	}
	return now
}

// A stance is where a partition is and what it does there.
type stance struct {
	what     stanceKind
	position int64
}

type stanceKind int

const (
	isIdle    stanceKind = iota // it has no record
	isEarly                     // it has none that is due
	isFailing                   // the one at its position has failed, and no handler is called for it
	isBarred                    // none is called for another reason
	isReady                     // that one could be handed out
	isCalling                   // a handler is called for it
)

func newWatch(j *job, limit time.Duration) *watch {
	return &watch{limit: limit, every: limit / 20, job: j, seen: make(map[*partition]sight)}
}

// arm makes the watch look, now that records have come. It costs an atomic load while
// the watch is armed.
func (w *watch) arm() {
	if !w.armed.Load() && w.armed.CompareAndSwap(false, true) {
		w.set()
	}
}

func (w *watch) set() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.timer = time.AfterFunc(w.every, w.tick)
	}
}

// tick looks at all partitions. While one has records, those of a retry topic that are not
// due included, it comes again: to look is cheap. Records may come
// between the look and the disarming, whose arm does nothing then: so it looks twice.
func (w *watch) tick() {
	if w.lookAtAll() {
		w.set()
		return
	}
	w.armed.Store(false)
	if w.lookAtAll() {
		w.arm()
	}
}

// lookAtAll reports whether a partition has records, and forgets those that have ended.
func (w *watch) lookAtAll() (records bool) {
	busy := w.job.workers.busy()
	live := make(map[*partition]bool, len(busy))
	for _, p := range busy {
		live[p] = true
		records = w.look(p).what != isIdle || records
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.seen {
		if !live[p] {
			delete(w.seen, p)
		}
	}
	return records
}

// look notes what p is at, and returns it with the times since when. It keeps nothing of a
// partition without records.
func (w *watch) look(p *partition) sight {
	now := time.Now()
	s, calls := p.stance()
	w.mu.Lock()
	defer w.mu.Unlock()
	before, known := w.seen[p]
	o := sight{s, now, now, calls}
	if known && before.position == s.position && before.what != isEarly {
		if before.what != isBarred || s.what == isBarred { // else the handler would get the blame for a pause
			o.stood = before.stood
		}
		if before.stance == s {
			o.ready = before.ready
		}
	}
	for i, c := range calls {
		calls[i].since = before.began(c, now)
	}
	if s.what == isIdle {
		delete(w.seen, p)
	} else if !w.closed {
		w.seen[p] = o
	}
	return o
}

// close ends the watch.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	clear(w.seen)
	if w.timer != nil {
		w.timer.Stop()
	}
}

// stance returns what p is at, and the calls of the handler that are under way. A failing
// record that waits, or whose copy is being sent, is a reason; so are a hold, a pause, the
// rate, the end of the claim, and other partitions that have all places of MaxConcurrency. A
// lane that has not begun waits for the handler of an earlier claim.
func (p *partition) stance() (s stance, calls []call) {
	var ps PartitionStatus
	p.intake.fill(&ps)
	waits, calls := p.standing(&ps)
	s.position = ps.Position
	switch {
	case p.ended():
		return s, nil
	case waits != isIdle:
		s.what = waits
	case slices.ContainsFunc(calls, func(c call) bool { return c.offset == ps.Position }):
		s.what = isCalling
	case ps.Buffered == 0 && len(calls) == 0:
	case !ps.Due.IsZero() && len(calls) == 0:
		s.what = isEarly
	case p.brake.stopped() || p.env.rate.asked(p.brake) || p.goroutine.Load() == 0 || p.crew != nil && p.env.places.asked(p.crew):
		s.what = isBarred
	default:
		s.what = isReady
	}
	return s, calls
}

// standing returns whether the record at the position of ps has failed and waits, is
// barred though a lane has it, or neither, which is isIdle. It also returns the calls of the
// handler that are under way, in order of offset.
func (p *partition) standing(ps *PartitionStatus) (waits stanceKind, calls []call) {
	if p.crew == nil {
		failing, deciding, again := p.lane.failing.standing()
		switch {
		case failing:
			waits = isFailing
		case !deciding && ps.InFlight > 0:
			calls = []call{{offset: ps.Position, again: again}}
		}
		return waits, calls
	}
	p.crew.each(func(s *seat) {
		failing, deciding, again := s.lane.failing.standing()
		switch {
		case !failing && !deciding && !s.waits:
			calls = append(calls, call{offset: s.offset, again: again})
		case s.offset != ps.Position:
		case failing || !s.gated:
			waits = isFailing
		default:
			waits = isBarred
		}
	})
	slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(a.offset, b.offset) })
	return waits, calls
}

// standing reports whether a record has failed and is not with the handler, and whether
// none is with it at all, and counts the calls of the handler for records that had failed.
//
// What is left of a batch has been handed out with the rest, so its progress says that the
// handler is at it, though the lane waits at the gate.
func (f *failing) standing() (waits, deciding bool, calls int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open) > 0 && !f.atWork, f.deciding, f.calls
}

// stands returns since when p stands at its position with records to handle, or the zero
// time.
func (w *watch) stands(p *partition) time.Time {
	if o := w.look(p); o.what > isEarly {
		return o.stood
	}
	return time.Time{}
}
