package franz

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

// run joins for topics, and delivers what is fetched until the session is to end.
func (s *session) run(topics []string) {
	s.client.AddConsumeTopics(topics...)
	for !s.isOver() {
		s.step()
	}
}

func (s *session) step() {
	poll := s.turn.begin()
	defer s.turn.end()
	s.deliverHeld()
	s.deliver(s.client.PollFetches(poll))
}

// deliverHeld delivers what was kept for claims that are no longer paused.
func (s *session) deliverHeld() {
	s.withheld = slices.DeleteFunc(s.withheld, func(cl *claim) bool {
		batches, empty := cl.release()
		for _, b := range batches {
			if s.claims.at(cl.where) != cl {
				return true
			}
			s.give(cl, b)
		}
		return empty || s.claims.at(cl.where) != cl
	})
}

// give delivers b. After a panic it is unknown what the core has made of b. So the claim is
// lost, and another one reads b again. Other claims go on: kgo's positions have passed what
// the same poll has brought for them, so that must be delivered all the same.
func (s *session) give(cl *claim, b driver.Batch) {
	defer func() {
		if p := recover(); p != nil {
			err := core.Panic("Deliver", p)
			s.c.core.Report(err)
			s.reread(cl, err)
		}
	}()
	s.c.core.Handler.Deliver(cl.public, b)
}

// deliver hands over what a poll has brought. Errors come first: kgo reports a log that was
// cut back in the same poll that may bring records from behind the cut.
func (s *session) deliver(fetches kgo.Fetches) {
	each(fetches, func(p partition, fp *kgo.FetchPartition) {
		if cl := s.claims.at(p); cl != nil {
			cl.stop()
		}
		if fp.Err != nil && moved(fp.Err) {
			s.failed(p, fp.Err)
		}
	})
	each(fetches, s.deliverPartition)
}

func each(fetches kgo.Fetches, f func(partition, *kgo.FetchPartition)) {
	for i := range fetches {
		for j := range fetches[i].Topics {
			t := &fetches[i].Topics[j]
			for k := range t.Partitions {
				f(partition{Topic: t.Topic, ID: t.Partitions[k].Partition}, &t.Partitions[k])
			}
		}
	}
}

// deliverPartition delivers the records of one partition. An error comes after them: it is
// about what follows.
func (s *session) deliverPartition(p partition, fp *kgo.FetchPartition) {
	cl := s.claims.at(p)
	if cl != nil && len(fp.Records) > 0 {
		cl.noteEnd(fp.HighWatermark, time.Now())
		b, damage := cl.batch(fp.Records)
		s.hand(cl, b)
		s.readOn(cl)
		if damage != nil && s.claims.at(p) == cl {
			s.damaged(cl, damage)
		}
	} else if cl != nil && fp.Err == nil {
		cl.noteEnd(fp.HighWatermark, time.Now())
	}
	if fp.Err != nil && !moved(fp.Err) {
		s.failed(p, fp.Err)
	}
}

// hand delivers b, or keeps it as long as the claim is paused. The next step delivers what is
// kept for a claim that is not.
func (s *session) hand(cl *claim, b driver.Batch) {
	if len(b.Records) == 0 && b.Next == 0 {
		return
	}
	cl.moved.Store(time.Now().UnixNano())
	if cl.keep(b) {
		if !slices.Contains(s.withheld, cl) {
			s.withheld = append(s.withheld, cl)
		}
		return
	}
	s.give(cl, b)
}

// moved reports whether err shows that a position is not in the log, or no longer.
func moved(err error) bool {
	var loss *kgo.ErrDataLoss
	return isCode(err, kerr.OffsetOutOfRange) || errors.As(err, &loss)
}

// failed acts on an error that kgo has reported for a partition.
func (s *session) failed(p partition, err error) {
	var group *kgo.ErrGroupSession
	var loss *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	cl := s.claims.at(p)
	switch {
	case errors.As(err, &group), errors.Is(err, kgo.ErrClientClosed), errors.Is(err, context.Canceled):
		// reported by OnGroupManageError; the end of the session; a poll that was nudged
	case errors.As(err, &loss):
		if cl != nil {
			s.astray(cl, &stray{err: err, parted: loss.ResetTo})
		}
	case isCode(err, kerr.OffsetOutOfRange):
		if cl != nil {
			s.astray(cl, &stray{err: err, parted: -1})
		}
	case isCode(err, kerr.UnknownTopicID, kerr.UnknownTopicOrPartition, kerr.InconsistentTopicID):
		s.c.topics.doubt() // which reports it
	case cl == nil:
		s.unstarted(p, err)
	case errors.As(err, &large):
		s.damaged(cl, &recordbatch.Damage{Offset: large.Offset, Err: &driver.Error{Code: "RECORD_TOO_LARGE", Err: err}})
	case isCode(err, kerr.TopicAuthorizationFailed):
		s.denied(cl, err)
	case isKafka(err): // kgo asks again without a pause, and the broker answers at once
		s.standAt(cl, nil)
		s.reportAt(p, err)
	default: // kgo could not read what has come
		s.damaged(cl, &recordbatch.Damage{Offset: max(cl.next.Load(), 0), Err: recordbatch.Corrupt("%w", err)})
	}
}

// unstarted reports a partition that kgo has been assigned, and of which it could not read
// the position. Kgo leaves it alone from then on, so the session ends after a while.
func (s *session) unstarted(p partition, err error) {
	if p.Topic == "" {
		s.c.core.Report(wrap(err))
		return
	}
	if s.holdingOf(p) != nil {
		return // of a claim that has just ended
	}
	permanent := isPermanent(wrap(err))
	if p.ID < 0 { // of a whole topic: kgo looks again, and its claims go on
		s.c.topics.report(p.Topic, err)
		if !permanent || len(s.c.cfg.Topics) > 1 {
			return
		}
	} else {
		s.reportAt(p, err)
	}
	if !s.firstOf(p) {
		return
	}
	wait := positionWait
	if permanent {
		wait = reportEvery
	}
	s.jobs.Go(func() {
		select {
		case <-time.After(wait):
			s.end(errTopicsChanged)
		case <-s.running.Done():
		}
	})
}

// firstOf reports whether p is called unstarted for the first time.
func (s *session) firstOf(p partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle[p] {
		return false
	}
	if s.idle == nil {
		s.idle = map[partition]bool{}
	}
	s.idle[p] = true
	return true
}

// positionWait is how long a partition is left alone whose position cannot be read, for a
// reason that passes by itself.
const positionWait = 3 * lookEvery

// denied acts on a topic whose records a leader does not let this member read. A topic that
// is the only one ends Run.
func (s *session) denied(cl *claim, err error) {
	if len(s.c.cfg.Topics) == 1 {
		s.c.fail(wrap(err))
		return
	}
	s.c.topics.report(cl.where.Topic, err)
	s.standAt(cl, nil)
}

// isKafka reports whether a broker has answered err.
func isKafka(err error) bool { return len(kafkaErrors(err)) > 0 }
