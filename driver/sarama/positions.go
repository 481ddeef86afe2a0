package sarama

import (
	"context"
	"errors"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// positions decides where the claims of a consumer start, and makes that durable before
// they start.
type positions struct {
	cfg         driver.ConsumerConfig
	coordinator *coordinator
	leaders     *leaders
	committer   *committer
	membership  *membership
	topics      *topics
	core        *core
	refresh     func(topics ...string) error // reads the metadata of topics again

	owed     position.Owed         // pins that could not be made durable before a join
	restarts *incarnation.Restarts // partitions of topics that were created again

	mu     sync.Mutex // guards astray
	astray map[partition]astray
}

// start returns where a claim of s starts, and below which offset its records are to be
// skipped because Sarama starts before that.
func (o *positions) start(s *session, source ibm.ConsumerGroupClaim) (start, skip int64, err error) {
	p, at := partition{Topic: source.Topic(), ID: source.Partition()}, source.InitialOffset()
	if err := o.restartClaim(s, p, at); err != nil {
		return 0, 0, err
	}
	defer func() {
		if err == nil {
			o.owed.Settle(p)
		}
	}()
	if at >= 0 {
		return at, 0, nil
	}
	begin, err := o.offset(s.sess.Context(), p, ibm.OffsetOldest)
	if err != nil {
		return 0, 0, err
	}
	if o.cfg.InitialOffset == driver.OffsetOldest {
		o.reportNoPosition(p, begin, begin)
		return -1, 0, nil
	}
	at, ok := s.pins[p]
	switch {
	case !ok, o.topics.known.Reborn(p.Topic):
		at = begin
	case at == position.EndUnknown:
		if at, err = o.offset(s.sess.Context(), p, ibm.OffsetNewest); err != nil {
			return 0, 0, err
		}
	}
	if err := o.pin(s, p, at); err != nil {
		return 0, 0, err
	}
	o.reportNoPosition(p, at, begin)
	return at, at, nil
}

// offset asks for the beginning or the end of one partition, until its leader answers or
// ctx ends: to end the claim would end the session, and all other claims with it.
func (o *positions) offset(ctx context.Context, p partition, which int64) (int64, error) {
	for reported := false; ; reported = true {
		offsets, failed := o.leaders.some([]partition{p}, which)
		err := o.coordinator.wrap(failed[p])
		if err == nil || isPermanent(err) {
			return offsets[p], err
		}
		if !reported {
			o.core.report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: err})
		}
		_ = o.refresh(p.Topic) // the leader may be another
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
	o.core.report(&driver.Error{Code: err.ErrorType(), Err: err})
}

// pin makes the start of a claim of s durable, however often that must be tried. An
// attempt that has waited for the coordinator until s was over must not be made in the
// name of the session after it: the partition may be another member's.
func (o *positions) pin(s *session, p partition, offset int64) error {
	ctx := s.sess.Context()
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		var by member
		err := o.committer.start(ctx, s.eras, func() (member, error) {
			by, _ = o.membership.member()
			if by.session != s || ctx.Err() != nil {
				return member{}, driver.ErrClaimEnded
			}
			return by, nil
		}, map[partition]int64{p: offset})
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
