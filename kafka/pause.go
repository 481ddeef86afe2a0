package kafka

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Pause stops handing out the records of a consumer, or of some of its partitions, in this
// process. From the moment it returns none is handed out but one that is on its way: per
// partition the call of the handler that has just begun, and with Parallelism each call
// that has. The consumer stays in its group, and its partitions are not fetched: what the
// driver still delivers waits in their queues. Records that have been handled are committed
// as ever. A record that waits to be forwarded or skipped because its handler has failed it
// still is.
//
// Without partitions the whole consumer is paused, whatever it owns now or later. A pause of
// the consumer stands beside those of its partitions. A pause lasts until Resume: also when
// its partition leaves and comes back, and when the consumer is switched off and on or
// starts again. It belongs to this process, and a restart of the process forgets it.
//
// Each partition of the consumer's topics can be named, owned here or not, and a number that
// the topic does not have yet. Pause returns an error, and pauses nothing, for a topic that is
// not the consumer's or a number below zero; and one that wraps ErrUnknownConsumer for an
// unknown name. To pause what is paused does nothing.
//
// Pause may be called by several goroutines at once, also inside handlers and hooks, and in
// every state of the consumer and the manager. It waits for no handler and no broker. It
// calls the hooks and the driver before it returns, unless another call of Pause or Resume is
// at that, which then does it for both.
func (m *Manager) Pause(jobName string, ps ...TopicPartition) error {
	return m.setPaused(jobName, true, ps)
}

// Resume ends what Pause has begun. With partitions it ends their own pauses, and not one of
// the whole consumer; without partitions it ends all pauses of the consumer. It ends no
// hold, which EndHold does, and no pause of fetching because a queue is full. To resume what
// is not paused does nothing. It may be called where Pause may, and has the same errors.
func (m *Manager) Resume(jobName string, ps ...TopicPartition) error {
	return m.setPaused(jobName, false, ps)
}

func (m *Manager) setPaused(jobName string, paused bool, ps []TopicPartition) error {
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if err := j.reads(p); err != nil {
			return fmt.Errorf("kafka: %s consumer %q: %w", pausingVerb(paused), j.name(), err)
		}
	}
	j.pauses.change(paused, ps)
	return nil
}

func pausingVerb(paused bool) string {
	if paused {
		return "pause"
	}
	return "resume"
}

// reads refuses a partition that the job cannot own.
func (j *job) reads(p TopicPartition) error {
	switch {
	case !slices.Contains(j.dcfg.Topics, p.Topic):
		return fmt.Errorf("it does not read topic %s", quote(p.Topic))
	case p.Partition < 0:
		return fmt.Errorf("partition %d of topic %s is negative", p.Partition, quote(p.Topic))
	}
	return nil
}

// A PauseReason is why a partition is not fetched. There can be several at once. The zero value
// is none.
type PauseReason int

// The reasons for a pause.
const (
	PausedByOperator PauseReason = iota + 1 // Pause; records that were fetched before are not handed out either
	PausedByQueue                           // the partition's queue is above MaxBufferedMessages or MaxBufferedBytes
	PausedByTotal                           // the consumer's queues are above MaxTotalBufferedBytes
	PausedByDone                            // too many records are done above one that is not

	pauseReasonCount
)

// String returns the reason's name, such as "operator", or "" for any other value.
func (r PauseReason) String() string {
	names := [...]string{"operator", "queue", "total", "done"}
	if r >= PausedByOperator && r < pauseReasonCount {
		return names[r-PausedByOperator]
	}
	return ""
}

// MarshalText returns the reason's name, as String does; any other value is an error.
func (r PauseReason) MarshalText() ([]byte, error) {
	return marshalName("PauseReason", r, PausedByOperator, pauseReasonCount)
}

// UnmarshalText takes a reason's name; any other text is an error.
func (r *PauseReason) UnmarshalText(text []byte) error {
	return unmarshalName("PauseReason", r, PausedByOperator, pauseReasonCount, text)
}

// Pauses are what an operator has paused of a consumer. The job keeps them, so that they
// hold for claims and sessions to come. Each change marks the partitions that live before
// it returns; a new one is marked before its first record arrives.
type pauses struct {
	job   string
	log   *slog.Logger
	event func(Event)

	reports
	all   bool // the consumer is paused
	some  map[TopicPartition]bool
	parts map[*partition]bool // those whose goroutine has not ended
}

func newPauses(job string, log *slog.Logger, event func(Event)) *pauses {
	return &pauses{
		job: job, log: log, event: event,
		some: make(map[TopicPartition]bool), parts: make(map[*partition]bool),
	}
}

// enlist makes p follow the operator's pauses.
func (s *pauses) enlist(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[p] = true
	if s.holds(p) {
		p.setPaused(true)
	}
}

// drop forgets p.
func (s *pauses) drop(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, p)
}

// holds reports whether p should be paused. The caller holds the mutex.
func (s *pauses) holds(p *partition) bool { return s.all || s.some[keyOf(p.claim)] }

// change begins or ends pauses: of ps, or of the whole consumer if there are none.
func (s *pauses) change(paused bool, ps []TopicPartition) {
	s.mu.Lock()
	defer s.unlock()
	ps, news := s.note(paused, ps)
	if !news {
		return
	}
	var follow []*partition
	for p := range s.parts {
		if holds := s.holds(p); holds != p.brake.paused() {
			p.setPaused(holds)
			follow = append(follow, p)
		}
	}
	s.reportChange(paused, ps)
	s.unlocked(func() {
		for _, p := range follow {
			p.followPause()
		}
	})
}

// note notes what is paused. It reports whether that is news, and of which partitions if
// some are named. The caller holds the mutex.
func (s *pauses) note(paused bool, ps []TopicPartition) (changed []TopicPartition, news bool) {
	switch {
	case len(ps) == 0 && paused:
		news, s.all = !s.all, true
		return nil, news
	case len(ps) == 0:
		news, s.all = s.all || len(s.some) > 0, false
		clear(s.some)
		return nil, news
	}
	for _, p := range ps {
		if s.some[p] == paused {
			continue
		}
		changed = append(changed, p)
		if paused {
			s.some[p] = true
		} else {
			delete(s.some, p)
		}
	}
	return changed, len(changed) > 0
}

// reportChange reports a change. The caller holds the mutex.
func (s *pauses) reportChange(paused bool, ps []TopicPartition) {
	did := "resumed"
	if paused {
		did = "paused"
	}
	s.report(func() {
		if len(ps) == 0 {
			s.log.Info("kafka: consumer " + did)
		} else {
			s.log.Info("kafka: partitions "+did, "partitions", listedNames(ps))
		}
		s.event(PauseChanged{JobName: s.job, Paused: paused, Partitions: ps})
	})
}

// listedNames is listed for names.
func listedNames(ps []TopicPartition) string {
	var list []string
	for _, p := range ps[:min(len(ps), maxListed)] {
		list = append(list, p.String())
	}
	if more := len(ps) - maxListed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, " ")
}

// status returns whether the consumer is paused as a whole, and which partitions are by
// themselves, in order.
func (s *pauses) status() (all bool, some []TopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.some {
		some = append(some, p)
	}
	slices.SortFunc(some, TopicPartition.compare)
	return s.all, some
}

// setPaused lets no record be handed out from now on, or lifts that. The caller calls
// followPause next, without a mutex, unless nothing has been delivered yet.
func (p *partition) setPaused(paused bool) {
	p.brake.setPaused(paused)
	in := p.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	if paused {
		in.flow.set(pauseOperator)
		if p.crew != nil {
			p.crew.unaskRate()
		}
	} else {
		in.flow.lift(pauseOperator)
	}
}

// followPause pauses or resumes the claim, and lets the lanes of a crew begin again. The
// only lane of a partition waits at the gate.
func (p *partition) followPause() {
	if p.brake.halted() {
		return // the claim ends, or has ended
	}
	in := p.intake
	in.mu.Lock()
	unmet := in.flow.unmet()
	var seats *seat
	if p.crew != nil {
		seats = p.crew.staff()
	}
	in.mu.Unlock()
	if p.crew != nil {
		p.crew.begin(seats)
	}
	in.settle(unmet, false)
}
