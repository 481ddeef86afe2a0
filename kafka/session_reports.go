package kafka

import (
	"errors"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Here the reports of a driver by Handler.Error are sorted.

// Error notes what the driver lived through.
func (c *claims) Error(err error) {
	gap, isGap := errors.AsType[*driver.DataLossError](err)
	start, isStart := errors.AsType[*driver.NoPositionError](err)
	trouble, isTrouble := errors.AsType[*driver.PartitionError](err)
	switch {
	case isGap:
		c.reportGap(gap)
	case isStart:
		c.reportStart(start)
	case isTrouble:
		c.noteTrouble(trouble)
		c.job.noteDriverError(err)
		c.member.heed(err)
		c.report(err, trouble.Topic, trouble.Partition)
	default:
		c.job.noteDriverError(err)
		c.member.heed(err)
		c.report(err, "", -1)
	}
}

func (c *claims) report(err error, topic string, partition int32) {
	log := c.env.log
	if topic != "" {
		log = log.With("topic", driver.Printable(topic, 0), "partition", partition)
	}
	log.Warn("kafka: driver", "error", loggable(err))
	c.env.event(DriverError{JobName: c.env.job, Topic: topic, Partition: partition, Err: err, At: time.Now()})
}

func (c *claims) reportGap(gap *driver.DataLossError) {
	what := "kafka: records are skipped that are no longer in the log"
	if gap.Recreated {
		what = "kafka: the topic was deleted and created again; what was left of the old one is gone"
	}
	switch key := (TopicPartition{gap.Topic, gap.Partition}); {
	case gap.Recreated:
		c.env.ledger.forget(key, 0)
		c.env.arrivals.forget(key)
	case gap.To < gap.From: // truncated: the offsets are used again
		c.env.ledger.forget(key, gap.To)
		c.env.arrivals.forget(key)
	}
	c.env.log.Error(what, "topic", driver.Printable(gap.Topic, 0), "partition", gap.Partition, "from", gap.From, "to", gap.To)
	c.env.event(DataLoss{
		JobName: c.env.job, Topic: gap.Topic, Partition: gap.Partition,
		From: gap.From, To: gap.To, Recreated: gap.Recreated,
	})
}

// reportStart reports a start without a committed position. It is a warning if
// there are records before the start: if the group is not new to the partition, its
// positions have expired, and these may never have been handled.
func (c *claims) reportStart(e *driver.NoPositionError) {
	level := slog.LevelInfo
	if e.Start > e.Begin {
		level = slog.LevelWarn
	}
	c.env.log.Log(c.env.ctx, level, "kafka: the group has no committed position",
		"topic", driver.Printable(e.Topic, 0), "partition", e.Partition, "start", e.Start, "begin", e.Begin)
	c.env.event(NoPosition{JobName: c.env.job, Topic: e.Topic, Partition: e.Partition, Start: e.Start, Begin: e.Begin})
}

// maxTroubles bounds what is kept of topics and partitions that are not owned.
const maxTroubles = 1000

// noteTrouble keeps the trouble of one partition where the status shows it: with
// the partition if it is owned, else with the consumer.
func (c *claims) noteTrouble(e *driver.PartitionError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := TopicPartition{e.Topic, e.Partition}
	for _, p := range c.parts {
		if keyOf(p.claim) == key {
			p.intake.noteTrouble(e)
			return
		}
	}
	if _, known := c.troubles[key]; !known && len(c.troubles) >= maxTroubles {
		return
	}
	if c.troubles == nil {
		c.troubles = make(map[TopicPartition]TopicError)
	}
	c.troubles[key] = TopicError{Topic: e.Topic, Partition: e.Partition, Err: e, At: time.Now()}
	c.troubled.Store(true)
}

// endTrouble forgets what was reported of a topic and of one of its partitions,
// since that partition is assigned now, or brings records. The caller holds the
// mutex.
func (c *claims) endTrouble(key TopicPartition) {
	delete(c.troubles, key)
	delete(c.troubles, TopicPartition{key.Topic, -1})
	c.troubled.Store(len(c.troubles) > 0)
}

// delivered notes that records of a partition have come: its topic can be read.
// Without any trouble that is one atomic load per batch.
func (c *claims) delivered(cl *driver.Claim) {
	if c.troubled.Load() {
		c.mu.Lock()
		c.endTrouble(keyOf(cl))
		c.mu.Unlock()
	}
	c.job.noteContact()
}
