package sarama

import (
	"errors"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// drainErrors reads Sarama's errors until the group is closed.
func (c *consumer) drainErrors() {
	for err := range c.group.Errors() {
		if fatal, closing := c.verdict(); closing || fatal != nil {
			continue // from connections that are being cut
		}
		where := partition{ID: -1}
		var at *ibm.ConsumerError
		if errors.As(err, &at) {
			where = partition{Topic: at.Topic, ID: at.Partition}
		}
		if !c.mender.undecoded(where, err) {
			c.handle(c.wrap(err), where)
		}
	}
}

// handle acts on an error that Sarama has reported for a partition.
func (c *consumer) handle(err error, where partition) {
	switch {
	case isCode(err, ibm.ErrOffsetOutOfRange):
		c.handleOutOfRange(err, where)
	case isCode(err, ibm.ErrTopicAuthorizationFailed) && where.Topic != "" && len(c.cfg.Topics) > 1:
		c.topics.deny(where.Topic, ibm.ErrTopicAuthorizationFailed, reportEvery)
		c.membership.end(err)
	case isPermanent(err):
		c.fail(err, where)
	default:
		c.core.Report(err)
		if errors.Is(err, ibm.ErrConsumerRetriesExhausted) {
			c.membership.end(err)
		}
	}
}

// handleOutOfRange acts on a position that is not in the log, as the configuration asks. With
// OutOfRangeStop a position ends Run only if it is certainly not there: a replica that is
// behind may have been asked. If that is not known, moveIntoLog decides before the next join.
func (c *consumer) handleOutOfRange(err error, where partition) {
	if c.isOld(where) || c.topics.isAnother(c.hard, where.Topic) { // the position is not of this topic
		return
	}
	if c.cfg.OutOfRange == driver.OutOfRangeStop {
		if outside := c.positions.outside(c.hard, where, err); outside != nil {
			c.fail(outside, where)
			return
		}
	}
	c.positions.stray(where, err)
	c.membership.end(err)
}

// isOld reports whether the position at p that is not in the log is of a topic that was
// created again since. Each partition has an error of its own: the first has the topic
// recognized, and by the new topic the others would be judged as if they were of it. The
// claim may not have begun yet, or may have ended.
func (c *consumer) isOld(p partition) bool {
	if cl := c.claims.at(p); cl != nil {
		return !c.topics.isCurrent(cl)
	}
	s := c.membership.current()
	if s == nil {
		s = c.membership.last().session
	}
	return s != nil && s.eras[p.Topic] != c.topics.known.Era(p.Topic)
}

// restart ends the claims of topics that were created again, and the session with them:
// Sarama cannot begin a single claim again. The claims of other topics are revoked.
func (c *consumer) restart(changed map[string]bool) {
	lost := c.claims.all(func(cl *claim) bool { return changed[cl.where.Topic] })
	c.positions.begin(changed, lost)
	for topic := range changed {
		cause := recreated(topic)
		for _, cl := range lost {
			if cl.where.Topic == topic {
				cl.setLost(cause)
			}
		}
		c.membership.end(cause)
	}
}
