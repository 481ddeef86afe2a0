package kafka

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// SetRate bounds how many records per second a consumer hands out in this process, over all
// of its partitions; 0 is no bound. It takes the place of ConsumerConfig.MaxRate, which says
// what counts, until the process ends: a rebalance or a restart of the consumer does not
// change it. Records that wait already follow it at once. A rate that is negative, infinite
// or not a number is refused.
func (m *Manager) SetRate(jobName string, perSecond float64) error {
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	if !validRate(perSecond) {
		return fmt.Errorf("kafka: set the rate of consumer %q: %v %s", j.name(), perSecond, badRate)
	}
	j.rate.set(perSecond)
	return nil
}

// badRate is what is wrong with a rate.
const badRate = "is negative, infinite or not a number"

func validRate(perSecond float64) bool { return perSecond >= 0 && !math.IsInf(perSecond, 0) }

// A rate bounds how many records per second a job hands out. The job keeps it, so that it
// holds for claims and sessions to come: a rebalance brings no second burst.
//
// It is a bucket that holds what is due in burstSpan, at least one record. Records that are
// not to be refused, such as a probe, are owed. A lane takes its record out of the bucket
// when it hands it out, unless others wait. Then, or if the bucket is empty, it waits here
// with a ticket. The partitions get their turns one after the other, and each turn is for
// one record. A timer is set only while a ticket waits.
//
// A lane loads the flags of its brake for each record anyway, and one of them says that
// there is a rate. So a consumer without one pays nothing.
type rate struct {
	job   string
	log   *slog.Logger
	event func(Event)

	reports
	perSecond float64 // 0 is no bound
	tokens    float64 // records that may be handed out as of the time at; below zero what is owed
	at        time.Time
	brakes    map[*brake]bool // of the lanes that live
	queue     []*brake        // those for which tickets wait, in turn
	timer     *time.Timer
	running   sync.WaitGroup // timers that are set, or whose function runs
}

// burstSpan is how much of the rate may be handed out at once, after a rest.
const burstSpan = 100 * time.Millisecond

// A rateTicket waits for its turn: for the record that a lane has at hand, or for one that a
// crew has not taken yet.
type rateTicket struct {
	brake *brake
	crew  *crew
	admit chan struct{} // of a lane; holds one token
	free  bool          // it was served while there was no rate, so nothing was taken for it
}

func newRate(cfg *ConsumerConfig, log *slog.Logger, event func(Event)) *rate {
	r := &rate{job: cfg.JobName, log: log, event: event, perSecond: cfg.MaxRate, brakes: make(map[*brake]bool)}
	r.tokens = r.burst()
	return r
}

// enlist makes b follow the rate.
func (r *rate) enlist(b *brake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.brakes[b] = true
	b.setRated(r.perSecond > 0)
}

// drop forgets b, for which nothing waits.
func (r *rate) drop(b *brake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.brakes, b)
}

// set changes the rate. The records that are owed take the same time as before when the rate
// falls, and stay the same number when it rises. Otherwise this could happen: a batch of 20
// goes out at 0.001 per second and owes 19 records, which take 19000 s. An operator raises the
// rate to 1000, and 19000 s of that rate hold up the next record for five hours.
func (r *rate) set(perSecond float64) {
	r.mu.Lock()
	defer r.unlock()
	from := r.perSecond
	if perSecond == from {
		return
	}
	r.refill()
	r.perSecond = perSecond
	switch {
	case from == 0:
		r.tokens = r.burst()
	case r.tokens < 0:
		r.tokens = max(r.tokens, r.tokens/from*perSecond)
	default:
		r.tokens = min(r.tokens, r.burst())
	}
	for b := range r.brakes {
		b.setRated(perSecond > 0)
	}
	r.report(func() {
		r.log.Info("kafka: rate changed", "from", from, "to", perSecond)
		r.event(RateChanged{JobName: r.job, From: from, To: perSecond})
	})
	turns := r.serve()
	r.unlocked(func() { grant(turns) })
}

// burst is what the bucket holds. The caller holds the mutex, as for what follows.
func (r *rate) burst() float64 { return max(1, r.perSecond*burstSpan.Seconds()) }

// refill brings the bucket up to date.
func (r *rate) refill() {
	now := time.Now()
	if !r.at.IsZero() {
		r.tokens = min(r.burst(), r.tokens+now.Sub(r.at).Seconds()*r.perSecond)
	}
	r.at = now
}

// due reports whether a record may be handed out, but for rounding.
func (r *rate) due() bool { return r.perSecond == 0 || r.tokens > 1-1e-6 }

// arm sets the timer for the first ticket, or stops it if none waits.
func (r *rate) arm() {
	if len(r.queue) == 0 {
		if r.timer != nil && r.timer.Stop() {
			r.running.Done()
		}
		return
	}
	wait := time.Hour // a rate may be so low that its wait is none that a timer can have
	if s := (1 - r.tokens) / r.perSecond; s < wait.Seconds() {
		wait = time.Duration(math.Ceil(s * float64(time.Second)))
	}
	if r.timer == nil {
		r.running.Add(1)
		r.timer = time.AfterFunc(wait, r.tick)
	} else if !r.timer.Reset(wait) {
		r.running.Add(1)
	}
}

// tick serves the tickets that are due.
func (r *rate) tick() {
	defer r.running.Done()
	r.mu.Lock()
	r.refill()
	turns := r.serve()
	r.mu.Unlock()
	grant(turns)
}

// serve gives the partitions their turns while the bucket has something. It returns the
// tickets that have got one, for grant.
func (r *rate) serve() (turns []*rateTicket) {
	for len(r.queue) > 0 && r.due() {
		b := r.queue[0]
		t := b.asking[0]
		r.queue = r.queue[1:]
		if b.asking = b.asking[1:]; len(b.asking) > 0 {
			r.queue = append(r.queue, b)
		}
		r.tokens--
		t.free = r.perSecond == 0
		turns = append(turns, t)
	}
	r.arm()
	return turns
}

// grant lets lanes and crews take a record each. The caller holds no mutex.
func grant(turns []*rateTicket) {
	for _, t := range turns {
		if t.crew != nil {
			t.crew.granted(t)
		} else {
			t.admit <- struct{}{} // never blocks: it gets one turn per ask, and its lane takes that
		}
	}
}

// try takes n records out of the bucket if it has one and no ticket waits: the rest is owed.
func (r *rate) try(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(n)
}

func (r *rate) take(n int) bool {
	r.refill()
	if len(r.queue) > 0 || !r.due() {
		return false
	}
	r.tokens -= float64(n)
	return true
}

// charge takes n records out of the bucket, though it may not have them.
func (r *rate) charge(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refill()
	r.tokens -= float64(n)
}

// room is how many records could be taken now.
func (r *rate) room() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refill()
	if len(r.queue) > 0 || !r.due() {
		return 0
	}
	return int(min(r.tokens+1e-6, math.MaxInt32))
}

// ask takes one record out of the bucket, or else lets t wait for its turn.
func (r *rate) ask(t *rateTicket) (got bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.take(1) {
		return true
	}
	if len(t.brake.asking) == 0 {
		r.queue = append(r.queue, t.brake)
	}
	t.brake.asking = append(t.brake.asking, t)
	if len(r.queue) == 1 {
		r.arm()
	}
	return false
}

// withdraw takes t back, and reports whether it still waited.
func (r *rate) withdraw(t *rateTicket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := t.brake
	i := slices.Index(b.asking, t)
	if i < 0 {
		return false
	}
	if b.asking = slices.Delete(b.asking, i, i+1); len(b.asking) == 0 {
		at := slices.Index(r.queue, b)
		r.queue = slices.Delete(r.queue, at, at+1)
		if len(r.queue) == 0 {
			r.arm()
		}
	}
	return true
}

// refund puts back what was taken for records that are not handed out. The timer serves
// the tickets that can have it.
func (r *rate) refund(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refill()
	r.tokens = min(r.burst(), r.tokens+float64(n))
	r.arm()
}

// asked reports whether a record of b's partition waits for its turn.
func (r *rate) asked(b *brake) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(b.asking) > 0
}

// now returns the rate.
func (r *rate) now() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.perSecond
}

// close stops the timer, and waits for its function if that runs. All lanes have ended: no
// ticket may wait, and one that did would not hold up the end of the job.
func (r *rate) close() {
	r.mu.Lock()
	for _, b := range r.queue {
		b.asking = nil
	}
	r.queue = nil
	r.arm()
	r.mu.Unlock()
	r.running.Wait()
}
