package kafka

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A ConsumerStatus is what is known of a consumer at one moment.
type ConsumerStatus struct {
	JobName string
	Topics  []string // all that it reads; its retry topics are the last ones

	// RetryTopics are those of Topics in which records wait that have failed.
	RetryTopics []string

	Group    string
	ClientID string

	Switch bool  // what is desired
	State  State // what is

	// Reason is why the consumer is backing off, disabled, or stopping because of
	// a failure. It stays while the consumer starts again, until it runs; an error
	// that its driver meets meanwhile takes its place. A consumer whose group may
	// have removed it is starting, with the reason, until a broker has confirmed its
	// membership again.
	Reason error
	Since  time.Time

	// Errors is the number of failures in a row, of starts or of the record that
	// has most, and NextRetry when the next attempt at either is due, if one is. A
	// disabled consumer has a NextRetry only with ConsumerConfig.DisabledRetry.
	Errors    int
	NextRetry time.Time

	// DriverError is the latest error that the driver lived through, and
	// DriverErrorAt when. It is nil again when brokers have answered since and it
	// has not come again for a minute; and as soon as the group has been joined
	// again, except for the trouble of a single topic.
	DriverError   error
	DriverErrorAt time.Time

	// Held says why nothing is handed out for a while, if so.
	Held *HeldStatus

	// Paused says that an operator has paused the consumer as a whole. PausedPartitions are
	// the partitions that are paused by themselves, owned or not, in order. See
	// Manager.Pause.
	Paused           bool
	PausedPartitions []TopicPartition

	// MaxRate is how many records per second may be handed out; 0 is no bound. See
	// Manager.SetRate.
	MaxRate float64

	// PolicyError is the latest trouble with ConsumerConfig.Failure since the consumer was
	// registered: a record that should be a dead letter where none are configured, or a
	// Classify that panicked, ended its goroutine or returned what is no Failure. Such
	// records are kept. It stays when records fail without such trouble.
	PolicyError error

	// CommitError is why the latest commit failed, while something that has been
	// handled is not committed.
	CommitError error

	// DeadLetters and Skipped count the records that the consumer has copied to its
	// dead-letter topic, and those that it has skipped, since it was registered. A record
	// that comes again afterwards, because its claim had ended, counts each time.
	DeadLetters int64
	Skipped     int64

	// Retried counts the records that were copied to a retry topic since the consumer was
	// registered, PassedOver those of a retry topic that another group has sent there, and
	// Unmarked those of a retry topic whose headers do not say where they first lay, each
	// time that one is taken. Unmarked records are handled like records that have not
	// failed before.
	Retried    int64
	PassedOver int64
	Unmarked   int64

	// Forwards says that a dead-letter topic is configured, so that Resolve can forward.
	Forwards bool

	// TopicErrors are the troubles of single topics, and of partitions that are not
	// owned here, such as a topic that does not exist, in order of topic and
	// partition. They end when the topic is read.
	TopicErrors []TopicError

	// Partitions are those that are owned, in order of topic and partition.
	Partitions []PartitionStatus

	// Stragglers are the partitions whose handler has outlived its claim, in order.
	Stragglers []TopicPartition
}

// A PartitionStatus is what is known of an owned partition at one moment.
// Offsets are -1 while they are not known.
type PartitionStatus struct {
	Topic     string
	Partition int32

	Position      int64 // the lowest offset that is not done
	Committed     int64 // the durable position
	HighWatermark int64 // the end of the partition as of the latest fetch
	Lag           int64 // HighWatermark - Position

	Buffered      int           // records delivered and not released
	BufferedBytes int           // what they cost
	Paused        bool          // it is not fetched for a while
	PausedBy      []PauseReason // why
	RateLimited   bool          // a record waits because of ConsumerStatus.MaxRate

	// InFlight is the number of records that the handler is at, or that wait to be
	// tried again.
	InFlight int
	// StandsSince is since when Position has been where it is although records are there,
	// as far as that was seen: it may be somewhat late. Zero if there are none. For a record
	// that has not failed it begins again at the end of a pause, a hold or a wait for the
	// rate or for a place.
	StandsSince time.Time
	// Oldest is the timestamp of the first buffered record that is not done, in
	// flight or not, or in a retry topic when that record is due; zero if there is none.
	Oldest time.Time

	// Delay is how long records wait in this retry topic, and Due when the next one is
	// due, if it waits for that. Both are zero for any other topic. Lag counts records
	// that wait to be due.
	Delay time.Duration
	Due   time.Time

	// What follows is known with OrderByKey and OrderNone, and else zero.
	//
	// Undone is the number of buffered records that are not done. Of these, Waiting
	// stand behind an earlier one of their key, and BackingOff have failed and wait to
	// be tried again or to be forwarded, or were taken and wait for the end of a pause or a
	// hold. Workers is the number
	// of handlers that run. DoneAbove is the number of records that are done and lie above
	// Position: one that does not get done makes it grow. Where there are a million, or
	// more runs of them than a commit can name, the partition is paused.
	Undone, Waiting, BackingOff, Workers, DoneAbove int

	// FetchError is why nothing more of the partition can be read, such as a
	// damaged batch, and FetchErrorAt when that was reported last. It is nil again
	// when fetching has come by.
	FetchError   error
	FetchErrorAt time.Time

	Failing   int64     // the offset of the first record that fails; see Manager.Resolve
	Errors    int       // failures in a row of that record
	LastError error     // the latest of them
	NextRetry time.Time // zero while an attempt is under way

	// ForwardError is why the latest copy of that record to its dead-letter topic or its
	// retry topic failed, while it has none. NextRetry is when the next one is sent.
	ForwardError error

	// StuckSince is when the handler was found not to return: it goes on although its
	// HandlerTimeout has passed twice. Zero if it is not.
	StuckSince time.Time
}

// A TopicError is the trouble of one topic, or of one partition of it.
type TopicError struct {
	Topic     string
	Partition int32 // -1 is the whole topic
	Err       error
	At        time.Time // when it was reported last
}

// Consumers returns the status of every consumer, in order of name.
func (m *Manager) Consumers() []ConsumerStatus {
	if m.ready() != nil {
		return nil
	}
	var all []ConsumerStatus
	for _, j := range m.allJobs() {
		all = append(all, j.snapshot())
	}
	return all
}

// Consumer returns the status of one consumer.
func (m *Manager) Consumer(jobName string) (ConsumerStatus, error) {
	j, err := m.job(jobName)
	if err != nil {
		return ConsumerStatus{}, err
	}
	return j.snapshot(), nil
}

func (j *job) snapshot() ConsumerStatus {
	j.mu.Lock()
	st, w, s := j.status, j.wish, j.session
	j.mu.Unlock()
	cs := ConsumerStatus{
		JobName:     j.name(),
		Topics:      slices.Clone(j.dcfg.Topics),
		RetryTopics: slices.Clone(j.dcfg.OldestTopics),
		Group:       j.cfg.ConsumerGroup,
		ClientID:    j.cfg.ClientID,
		Switch:      w.on,
		State:       st.state,
		Reason:      st.reason,
		Since:       st.since,
		Errors:      st.failures,
		NextRetry:   st.nextRetry,

		Held:        j.hold.status(),
		PolicyError: j.policy.trouble(),
		DeadLetters: j.deadLetters.Load(),
		Skipped:     j.skipped.Load(),
		Retried:     j.retried.Load(),
		PassedOver:  j.passedOver.Load(),
		Unmarked:    j.unmarked.Load(),
		Forwards:    j.policy.forwards(),
	}
	cs.Paused, cs.PausedPartitions = j.pauses.status()
	cs.MaxRate = j.rate.now()
	cs.DriverErrorAt, cs.DriverError = j.driverError(st)
	if s == nil {
		cs.Stragglers = topicPartitions(j.workers.stragglers(nil))
		return cs
	}
	if s.member.healthy() {
		cs.Errors = 0
	}
	owned := s.claims.live()
	cs.Stragglers = topicPartitions(j.workers.stragglers(owned))
	for _, p := range owned {
		ps := p.snapshot()
		ps.StandsSince = j.watch.stands(p)
		cs.Partitions = append(cs.Partitions, ps)
		if ps.Errors > cs.Errors {
			cs.Errors, cs.NextRetry = ps.Errors, ps.NextRetry
		}
		if st.commitErr != nil && p.intake.unsaved() {
			cs.CommitError = st.commitErr
		}
	}
	sortPartitions(cs.Partitions)
	cs.TopicErrors = s.claims.topicErrors()
	return cs
}

func (c *claims) topicErrors() []TopicError {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.troubles))
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b TopicError) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

func (p *partition) snapshot() PartitionStatus {
	ps := PartitionStatus{
		Topic:     p.claim.Topic,
		Partition: p.claim.Partition,
		Lag:       -1,
		Failing:   -1,
	}
	p.intake.fill(&ps)
	p.fillLanes(&ps)
	ps.RateLimited = p.env.rate.asked(p.brake)
	ps.HighWatermark = highWatermark(p.env.driver, p.claim)
	if ps.HighWatermark >= 0 && ps.Position >= 0 {
		ps.Lag = max(0, ps.HighWatermark-ps.Position)
	}
	return ps
}

// fillLanes sets what a status says of lanes: of the first record that fails, and of the
// handler that was found stuck first.
func (p *partition) fillLanes(ps *PartitionStatus) {
	first := int64(-1)
	p.each(func(l *lane) {
		if offset, fails := l.failing.first(); fails && (first < 0 || offset < first) {
			first = offset
			l.failing.fill(ps)
		}
		if since := l.timeout.since(); ps.StuckSince.IsZero() || !since.IsZero() && since.Before(ps.StuckSince) {
			ps.StuckSince = since
		}
	})
	if p.crew != nil {
		p.crew.fill(ps)
	}
}

// A ProducerStatus is what is known of a producer at one moment.
type ProducerStatus struct {
	ID       string // its ProducerConfig.Name, or what took its place
	ClientID string

	// Unacknowledged is the number of messages between their send and its
	// outcome, and UnacknowledgedBytes the size of their keys and values.
	Unacknowledged      int64
	UnacknowledgedBytes int64
}

// Producers returns the status of every producer that is open, in order of ID.
func (m *Manager) Producers() []ProducerStatus {
	if m.ready() != nil {
		return nil
	}
	var all []ProducerStatus
	for _, p := range m.allProducers() {
		all = append(all, p.snapshot())
	}
	return all
}

func (p *Producer) snapshot() ProducerStatus {
	s := ProducerStatus{ID: p.id, ClientID: p.cfg.ClientID}
	s.Unacknowledged, s.UnacknowledgedBytes = p.pending.load()
	return s
}

func sortPartitions(ps []PartitionStatus) {
	slices.SortFunc(ps, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
