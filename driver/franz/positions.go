package franz

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
	committer   *committer
	topics      *topics
	core        *core.Calls

	owed     position.Owed         // pins that could not be made durable before a join
	restarts *incarnation.Restarts // partitions of topics that were created again
}

// A startAt is where a claim begins.
type startAt struct {
	at       int64  // or startUnknown
	metadata string // that is committed beside it
	end      int64  // of the log, if there is metadata; or -1
	epoch    int32  // of the leader, that is committed beside it, or -1
	parted   int64  // where the log was cut back below at, or -1
}

// startingAt returns a start that the driver itself has decided on.
func startingAt(offset int64) startAt { return startAt{at: offset, end: -1, epoch: -1, parted: -1} }

// committedAt returns a start that was committed.
func committedAt(p place) startAt {
	return startAt{at: p.Offset, metadata: p.metadata, end: -1, epoch: p.Epoch, parted: -1}
}

// A place is a committed position.
type place struct {
	kgo.EpochOffset
	metadata string
}

// startUnknown lets kgo look up the beginning of the log.
const startUnknown = -1

// starts decides where the claims of s begin, whose positions kgo has fetched; an offset
// below 0 is none. It makes every decision durable in the name of by. It leaves out the
// partitions for which that cannot be done now, mostly as they have no leader: no other
// waits for them for longer than ask is patient, and failed has the reasons.
func (o *positions) starts(ctx context.Context, ask *leaders, s *session, by member, fetched map[partition]place) (starts map[partition]startAt, failed map[partition]error, err error) {
	starts, failed = map[partition]startAt{}, map[partition]error{}
	found, none := map[partition]kgo.EpochOffset{}, []partition(nil)
	reborn := map[partition]int64{}
	for p, at := range fetched {
		from, pending := o.restarts.Pending(p)
		switch {
		case pending:
			reborn[p] = from
		case at.Offset >= 0:
			starts[p] = committedAt(at)
			if at.Epoch >= 0 {
				found[p] = at.EpochOffset
			}
		default:
			none = append(none, p)
		}
	}
	for p, parted := range ask.cutBack(ctx, found) {
		starts[p] = startAt{at: found[p].Offset, end: -1, epoch: found[p].Epoch, parted: parted}
	}
	o.findEnds(ctx, ask, starts)
	if err := o.restartAssigned(ctx, ask, s, by, reborn, fetched, starts, failed); err != nil {
		return nil, nil, err
	}
	if err := o.startFresh(ctx, ask, s, by, none, starts, failed); err != nil {
		return nil, nil, err
	}
	for p := range starts {
		o.owed.Settle(p)
	}
	return starts, failed, nil
}

// findEnds asks for the ends of those logs beside whose position metadata was found. A claim
// begins without it if its leader does not answer: then its metadata is ignored, and
// nothing is lost.
func (o *positions) findEnds(ctx context.Context, ask *leaders, starts map[partition]startAt) {
	var beside []partition
	for p, at := range starts {
		if at.metadata != "" {
			beside = append(beside, p)
		}
	}
	for p, end := range ask.highs(ctx, beside) {
		at := starts[p]
		at.end = end
		starts[p] = at
	}
}

// startFresh decides for partitions without a position.
func (o *positions) startFresh(ctx context.Context, ask *leaders, s *session, by member, none []partition, starts map[partition]startAt, failed map[partition]error) error {
	begins, silent := ask.some(ctx, none, logBegin)
	for _, p := range none {
		if o.cfg.Initial(p.Topic) != driver.OffsetOldest {
			continue
		}
		begin, ok := begins[p]
		delete(begins, p)
		delete(silent, p)
		if !ok {
			starts[p] = startingAt(startUnknown)
			continue
		}
		o.reportNoPosition(p, begin, begin)
		starts[p] = startingAt(begin)
	}
	maps.Copy(failed, silent)
	return o.startNewest(ctx, ask, s, by, begins, starts, failed)
}

// reportNoPosition reports that a claim starts where the configuration says, as the group
// has no position. The start in a topic that was created again has been reported already.
func (o *positions) reportNoPosition(p partition, at, begin int64) {
	if o.topics.known.Reborn(p.Topic) {
		return
	}
	err := &driver.NoPositionError{Topic: p.Topic, Partition: p.ID, Start: at, Begin: begin}
	o.core.Report(&driver.Error{Code: err.ErrorType(), Err: err})
}

// errSuperseded is why a start is not made durable: the member has a newer generation, or
// the session is over.
var errSuperseded = errors.New("the group has gone on")

// pin makes positions durable in the name of by, however often that must be tried. It
// returns those for which that was refused. An attempt that has waited for the coordinator
// must not be made in the name of a later generation: the partition may be another
// member's.
func (o *positions) pin(ctx context.Context, s *session, by member, positions map[partition]int64) (refused map[partition]error, err error) {
	if len(positions) == 0 {
		return nil, nil
	}
	for retry := firstCommitRetry; ; retry = min(2*retry, lastCommitRetry) {
		refused, err = o.committer.start(ctx, s.eras, func() (member, error) {
			if now, ok := s.member(); !ok || now != by || ctx.Err() != nil {
				return member{}, errSuperseded
			}
			return by, nil
		}, positions)
		switch {
		case err == nil:
			return refused, nil
		case ctx.Err() != nil, errors.Is(err, errSuperseded), otherMembers(err), errors.Is(err, errRecreated), isPermanent(wrap(err)):
			return nil, err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
}

// keep keeps the position of cl, which ends, for the case that its topic was created again.
func (o *positions) keep(cl *claim) {
	o.restarts.Hold(o.topics.known, cl.era, cl.where, cl.position())
}
