package sarama

import (
	"context"
	"errors"
	"sync"

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

// handleOutOfRange acts on a position that is not in the log. The brokers are asked about it
// first, and no other error waits for that.
func (c *consumer) handleOutOfRange(err error, where partition) {
	era := c.topics.known.Era(where.Topic)
	if c.isOld(where) || !c.judge.begin(where, c.membership.current()) {
		return
	}
	c.drained.Go(func() {
		rejoin := c.settleOutOfRange(err, where, era)
		c.judge.end(where, func(s *session) {
			if rejoin && s != nil {
				s.end(err)
			}
		})
	})
}

// settleOutOfRange acts on a position that is not in the log, as the configuration asks. With
// OutOfRangeStop a position ends Run only if it is certainly not there: a replica that is
// behind may have been asked. If that is not known, moveIntoLog decides before the next join:
// settleOutOfRange then returns true, and the session has to end.
func (c *consumer) settleOutOfRange(err error, where partition, era int) (rejoin bool) {
	if c.judge.enter(c.watching) != nil {
		return false
	}
	defer c.judge.leave()
	if c.topics.isAnother(c.watching, where.Topic) || c.topics.known.Era(where.Topic) != era {
		return false // the position is not of this topic
	}
	if c.cfg.OutOfRange == driver.OutOfRangeStop {
		if outside := c.positions.outside(c.watching, where, err); outside != nil {
			c.fail(outside, where)
			return false
		}
	}
	if c.watching.Err() != nil { // shutDown ends the session
		return false
	}
	c.positions.stray(where, err)
	return true
}

// judgedAtOnce is how many positions are compared with the log at the same time.
const judgedAtOnce = 8

// A judge keeps which positions are being compared with the log.
type judge struct {
	slots chan struct{}

	mu  sync.Mutex // guards all
	all map[partition]*question
}

// A question is a position that is being compared with the log.
type question struct {
	session *session // the latest one that has found it, or nil
	over    chan struct{}
}

func newJudge() *judge {
	return &judge{slots: make(chan struct{}, judgedAtOnce), all: map[partition]*question{}}
}

// enter waits until one more position may be compared with the log, or until ctx ends.
func (j *judge) enter(ctx context.Context) error {
	select {
	case j.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *judge) leave() { <-j.slots }

// begin notes that the position at p has to be judged, as s has found. It returns false if it
// is being judged already.
func (j *judge) begin(p partition, s *session) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if q := j.all[p]; q != nil {
		q.session = s
		return false
	}
	j.all[p] = &question{s, make(chan struct{})}
	return true
}

// end notes that the position at p has been judged. Its claim goes on when act has returned,
// which gets the latest session that has found the position.
func (j *judge) end(p partition, act func(*session)) {
	j.mu.Lock()
	q := j.all[p]
	delete(j.all, p)
	j.mu.Unlock()
	act(q.session)
	close(q.over)
}

// under returns a channel that is closed when the position at p has been judged, or nil if it
// is not being judged.
func (j *judge) under(p partition) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if q := j.all[p]; q != nil {
		return q.over
	}
	return nil
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
