package kafka

import (
	"errors"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What a driver reports by Handler.Error is told apart here.

// Error notes what the driver lived through.
func (s *session) Error(err error) {
	gap, isGap := errors.AsType[*driver.DataLossError](err)
	start, isStart := errors.AsType[*driver.NoPositionError](err)
	trouble, isTrouble := errors.AsType[*driver.PartitionError](err)
	switch {
	case isGap:
		s.reportGap(gap)
	case isStart:
		s.reportStart(start)
	case isTrouble:
		s.noteTrouble(trouble)
		s.job.noteDriverError(err)
		s.heed(err)
		s.report(err, trouble.Topic, trouble.Partition)
	default:
		s.job.noteDriverError(err)
		s.heed(err)
		s.report(err, "", -1)
	}
}

func (s *session) report(err error, topic string, partition int32) {
	log := s.job.log
	if topic != "" {
		log = log.With("topic", driver.Printable(topic, 0), "partition", partition)
	}
	log.Warn("kafka: driver", "error", loggable(err))
	s.job.event(DriverError{JobName: s.job.name(), Topic: topic, Partition: partition, Err: err, At: time.Now()})
}

func (s *session) reportGap(gap *driver.DataLossError) {
	what := "kafka: records are skipped that are no longer in the log"
	if gap.Recreated {
		what = "kafka: the topic was deleted and created again; what was left of the old one is gone"
	}
	s.job.log.Error(what, "topic", driver.Printable(gap.Topic, 0), "partition", gap.Partition, "from", gap.From, "to", gap.To)
	s.job.event(DataLoss{
		JobName: s.job.name(), Topic: gap.Topic, Partition: gap.Partition,
		From: gap.From, To: gap.To, Recreated: gap.Recreated,
	})
}

// reportStart reports a start without a committed position. It is a warning if
// there are records before the start: if the group is not new to the partition, its
// positions have expired, and these may never have been handled.
func (s *session) reportStart(e *driver.NoPositionError) {
	level := slog.LevelInfo
	if e.Start > e.Begin {
		level = slog.LevelWarn
	}
	s.job.log.Log(s.ctx, level, "kafka: the group has no committed position",
		"topic", driver.Printable(e.Topic, 0), "partition", e.Partition, "start", e.Start, "begin", e.Begin)
	s.job.event(NoPosition{JobName: s.job.name(), Topic: e.Topic, Partition: e.Partition, Start: e.Start, Begin: e.Begin})
}

// maxTroubles bounds what is kept of topics and partitions that are not owned.
const maxTroubles = 1000

// noteTrouble keeps the trouble of one partition where the status shows it: with
// the partition if it is owned, else with the consumer.
func (s *session) noteTrouble(e *driver.PartitionError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := TopicPartition{e.Topic, e.Partition}
	for _, p := range s.parts {
		if keyOf(p.claim) == key {
			p.noteTrouble(e)
			return
		}
	}
	if _, known := s.troubles[key]; !known && len(s.troubles) >= maxTroubles {
		return
	}
	if s.troubles == nil {
		s.troubles = make(map[TopicPartition]TopicError)
	}
	s.troubles[key] = TopicError{Topic: e.Topic, Partition: e.Partition, Err: e, At: time.Now()}
	s.troubled.Store(true)
}

// endTrouble forgets what was reported of a topic and of one of its partitions,
// since that partition is assigned now, or brings records. The caller holds the
// mutex.
func (s *session) endTrouble(key TopicPartition) {
	delete(s.troubles, key)
	delete(s.troubles, TopicPartition{key.Topic, -1})
	s.troubled.Store(len(s.troubles) > 0)
}

// delivered notes that records of a partition have come: its topic can be read.
// Without any trouble that is one atomic load per batch.
func (s *session) delivered(c *driver.Claim) {
	if s.troubled.Load() {
		s.mu.Lock()
		s.endTrouble(keyOf(c))
		s.mu.Unlock()
	}
	s.job.noteContact()
}

// A fetchTrouble is why nothing more of an owned partition can be read.
type fetchTrouble struct {
	err    error
	at     time.Time
	offset int64 // of what cannot be read, or -1
}

func (p *partition) noteTrouble(e *driver.PartitionError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = fetchTrouble{e, time.Now(), e.Offset}
}

// pass forgets the trouble if fetching has come by it: what lies intact before a
// damaged batch may be delivered after the report. The caller holds the mutex.
func (t *fetchTrouble) pass(b driver.Batch) {
	next := b.Next
	if n := len(b.Records); n > 0 {
		next = max(next, b.Records[n-1].Offset+1)
	}
	if next > t.offset {
		*t = fetchTrouble{}
	}
}
