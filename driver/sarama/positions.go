package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// positions decides where the claims of a consumer start, and makes that durable before
// they start.
type positions struct {
	cfg         driver.ConsumerConfig
	coordinator *coordinator
	leaders     *leaders
	ends        *endAsker
	committer   *committer
	membership  *membership
	topics      *topics
	core        *core.Calls
	refresh     func(topics ...string) error // reads the metadata of topics again

	owed     position.Owed         // pins that could not be made durable before a join
	restarts *incarnation.Restarts // partitions of topics that were created again

	mu     sync.Mutex // guards astray
	astray map[partition]astray
}

// A startAt is where a claim begins.
type startAt struct {
	at       int64  // or -1
	metadata string // that is committed beside it
	end      int64  // of the log, if there is metadata; or -1
	skip     int64  // records below it are not delivered: Sarama starts before them
}

// start returns where a claim of s starts.
func (o *positions) start(s *session, source ibm.ConsumerGroupClaim) (start startAt, err error) {
	p, at := partition{Topic: source.Topic(), ID: source.Partition()}, source.InitialOffset()
	restarted, err := o.restartClaim(s, p, at)
	if err != nil {
		return startAt{}, err
	}
	defer func() {
		if err == nil {
			o.owed.Settle(p)
		}
	}()
	switch {
	case at >= 0 && restarted:
		return startAt{at: at}, nil
	case at >= 0:
		found, err := o.beside(s, p, at)
		start = startAt{at: at, metadata: found.metadata, end: -1}
		if err == nil && found.metadata != "" {
			start.end = o.end(s.sess.Context(), p, found.end)
		}
		return start, err
	}
	begin, err := o.offset(s.sess.Context(), p, ibm.OffsetOldest)
	if err != nil {
		return startAt{}, err
	}
	if o.cfg.Initial(p.Topic) == driver.OffsetOldest {
		o.reportNoPosition(p, begin, begin)
		return startAt{at: -1}, nil
	}
	at, ok := s.pins[p]
	switch {
	case !ok, o.topics.known.Reborn(p.Topic):
		at = begin
	case at == position.EndUnknown:
		if at, err = o.offset(s.sess.Context(), p, ibm.OffsetNewest); err != nil {
			return startAt{}, err
		}
	}
	if err := o.pin(s, p, at); err != nil {
		return startAt{}, err
	}
	o.reportNoPosition(p, at, begin)
	return startAt{at: at, skip: at}, nil
}

// A place is a committed position.
type place struct {
	offset   int64
	metadata string
	end      <-chan int64 // gets the end of the log, if there is metadata; closed without, if its leader fails
}

// lookBeside asks once for what is committed beside the positions of all partitions of s.
// Sarama has asked for the positions, one partition after the other, and shows no metadata.
// Then lookBeside begins to ask for the ends of those logs that have metadata. What this does
// not bring is asked for when the claim starts.
func (o *positions) lookBeside(s *session) {
	assigned := s.assigned()
	if len(assigned) == 0 {
		return
	}
	all, err := o.coordinator.committed(s.sess.Context(), assigned)
	if err != nil {
		return
	}
	var noted []partition
	for p := range all.At {
		if all.Beside[p] != "" {
			noted = append(noted, p)
		}
	}
	ends, places := o.ends.find(noted), map[partition]place{}
	for p, at := range all.At {
		places[p] = place{at, all.Beside[p], ends[p]}
	}
	s.keepPlaces(places)
}

// beside returns what is committed beside the position at which the claim of p starts. It
// asks until the coordinator answers. An answer with another position says nothing about
// this one, nor does one that is refused.
func (o *positions) beside(s *session, p partition, at int64) (place, error) {
	if known, ok := s.takePlace(p); ok && known.offset == at {
		return known, nil
	}
	for reported := false; ; reported = true {
		all, err := o.coordinator.committed(s.sess.Context(), []partition{p})
		if err == nil {
			err = all.Failed[p]
		}
		if err = o.coordinator.wrap(err); err == nil {
			if all.At[p] != at {
				return place{}, nil
			}
			return place{offset: at, metadata: all.Beside[p]}, nil
		}
		if !reported && s.sess.Context().Err() == nil {
			o.core.Report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: err})
		}
		if isPermanent(err) {
			return place{}, nil
		}
		select {
		case <-time.After(metadataBackoff):
		case <-s.sess.Context().Done():
			return place{}, s.sess.Context().Err()
		}
	}
}

// end returns the end of the log of p, or -1 if its leader does not answer in time. The
// claim begins without it: then its metadata is ignored, and nothing is lost. If asked is not
// nil, the leader has been asked already.
func (o *positions) end(ctx context.Context, p partition, asked <-chan int64) int64 {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	if asked != nil {
		select {
		case end, ok := <-asked:
			if ok {
				return end
			}
		case <-ctx.Done():
			return -1
		}
	}
	end, err := o.offset(ctx, p, ibm.OffsetNewest)
	if err != nil {
		return -1
	}
	return end
}

// offset asks for the beginning or the end of one partition, until its leader answers or
// ctx ends: to end the claim would end the session, and all other claims with it.
func (o *positions) offset(ctx context.Context, p partition, which int64) (int64, error) {
	for reported := false; ; reported = true {
		offsets, failed, ended := o.leaders.someWithin(ctx, []partition{p}, which)
		if ended != nil {
			return 0, ended
		}
		err := o.coordinator.wrap(failed[p])
		if err == nil || isPermanent(err) {
			return offsets[p], err
		}
		if !reported {
			o.core.Report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: err})
		}
		_ = o.leaders.within(ctx, func() { _ = o.refresh(p.Topic) }) // the leader may be another
		select {
		case <-time.After(metadataBackoff):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// reportNoPosition reports that a claim starts where the configuration says, as the group
// has no position. The start in a topic that was created again has been reported already.
func (o *positions) reportNoPosition(p partition, start, begin int64) {
	if o.topics.known.Reborn(p.Topic) {
		return
	}
	err := &driver.NoPositionError{Topic: p.Topic, Partition: p.ID, Start: start, Begin: begin}
	o.core.Report(&driver.Error{Code: err.ErrorType(), Err: err})
}

// pin makes the start of a claim of s durable, however often that must be tried. An
// attempt that has waited for the coordinator until s was over must not be made in the
// name of the session after it: the partition may be another member's.
func (o *positions) pin(s *session, p partition, offset int64) error {
	ctx := s.sess.Context()
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		var by member
		refused, err := o.committer.start(ctx, s.eras, func() (member, error) {
			by, _ = o.membership.member()
			if by.session != s || ctx.Err() != nil {
				return member{}, driver.ErrClaimEnded
			}
			return by, nil
		}, map[partition]int64{p: offset})
		if why := refused[p]; why != nil {
			err = fmt.Errorf("commit start of %s/%d: %w", driver.Printable(p.Topic, 0), p.ID, why)
		}
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if err = o.coordinator.wrap(err); !o.membership.worthRetrying(by, err) {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
}

// otherMembers reports whether a coordinator has refused positions with err because the
// group has gone on without this member.
func otherMembers(err error) bool {
	return isCode(err, ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress)
}
