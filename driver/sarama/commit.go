package sarama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	firstCommitRetry = 20 * time.Millisecond
	lastCommitRetry  = 500 * time.Millisecond
)

// A committer sends requests to the group's coordinator, one at a time, on a connection
// of its own.
type committer struct {
	cfg    driver.ConsumerConfig
	conf   *ibm.Config
	client ibm.Client
	line   *dialer.Dialer // of client

	// lane holds one token. An exchange takes it before it reads who the member is, and
	// gives it back when the broker has answered, also if its caller has gone. So no
	// commit overtakes another.
	lane  chan struct{}
	stale bool // the coordinator has to be looked up; guarded by lane
}

func newCommitter(cfg driver.ConsumerConfig, conf *ibm.Config, client ibm.Client, line *dialer.Dialer) *committer {
	return &committer{cfg: cfg, conf: conf, client: client, line: line, lane: make(chan struct{}, 1), stale: true}
}

// close returns when no exchange is under way, and there will be none. The
// connections must be severed.
func (k *committer) close() { k.lane <- struct{}{} }

// exchange runs ask alone, given the coordinator, and waits for it or for ctx.
func exchange[T any](ctx context.Context, k *committer, ask func(*ibm.Broker) (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	var none T
	select {
	case k.lane <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	results := make(chan result, 1)
	go func() { // ends when the broker has answered or the line is cut
		defer func() { <-k.lane }()
		var r result
		coordinator, err := k.coordinator()
		if err != nil {
			results <- result{none, err}
			return
		}
		r.answer, r.err = ask(coordinator)
		switch {
		case r.err == nil, errors.Is(r.err, driver.ErrClaimEnded): // nothing was asked
		case len(kafkaErrors(r.err)) == 0: // not an answer: the connection is bad
			k.stale = true
			coordinator.Close()
		case isCode(r.err, ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable):
			k.stale = true
		}
		results <- r
	}()
	select {
	case r := <-results:
		return r.answer, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (k *committer) coordinator() (*ibm.Broker, error) {
	for attempt := 0; k.stale; attempt++ {
		err := k.client.RefreshCoordinator(k.cfg.Group)
		switch {
		case err == nil:
			k.stale = false
		case attempt == metadataRetries, isPermanent(soften(wrap(err), k.cfg.SASL)), k.line.IsSevered():
			return nil, err
		default:
			k.line.Wait(metadataBackoff)
		}
	}
	return k.client.Coordinator(k.cfg.Group)
}

func (k *committer) commitRequest(m member) *ibm.OffsetCommitRequest {
	req := ibm.NewOffsetCommitRequest(k.conf, k.cfg.Group)
	req.ConsumerGroupGeneration = m.generation
	req.ConsumerID = m.id
	if k.cfg.InstanceID != "" && m.session != nil {
		req.GroupInstanceId = &k.cfg.InstanceID
	}
	return req
}

// heartbeat sends a heartbeat of m. If m is still a member it calls confirm with the time
// at which that was sent, also if ctx has ended meanwhile.
func (k *committer) heartbeat(ctx context.Context, m member, confirm func(sent time.Time)) error {
	_, err := exchange(ctx, k, func(coordinator *ibm.Broker) (struct{}, error) {
		req := &ibm.HeartbeatRequest{
			Version: 4, GroupId: k.cfg.Group, MemberId: m.id, GenerationId: m.generation,
		}
		if k.cfg.InstanceID != "" {
			req.GroupInstanceId = &k.cfg.InstanceID
		}
		sent := time.Now()
		resp, err := coordinator.Heartbeat(req)
		if err != nil {
			return struct{}{}, err
		}
		if resp.Err == ibm.ErrNoError || resp.Err == ibm.ErrRebalanceInProgress {
			confirm(sent)
		}
		if resp.Err != ibm.ErrNoError {
			return struct{}{}, resp.Err
		}
		return struct{}{}, nil
	})
	return err
}

// Commit implements [driver.Consumer].
func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	b := &commitBatch{c: c}
	for _, m := range marks {
		b.todo = append(b.todo, commitMark{Mark: m, claim: c.claims.own(m.Claim)})
	}
	for retry := firstCommitRetry; b.screen(); retry = min(2*retry, lastCommitRetry) {
		if ctx.Err() != nil {
			b.giveUp(ctx.Err())
			break
		}
		sent := slices.Clone(b.todo)
		a, err := exchange(ctx, c.committer, func(coordinator *ibm.Broker) (commitAttempt, error) {
			return c.tryCommit(coordinator, sent)
		})
		if ctx.Err() != nil && err != nil {
			continue
		}
		b.judge(a, err)
		if len(b.todo) > 0 {
			select {
			case <-time.After(retry):
			case <-ctx.Done():
			}
		}
	}
	return b.answer()
}

// A commitBatch is what one call of Commit has still to do, and what failed.
type commitBatch struct {
	c      *consumer
	todo   []commitMark
	failed []driver.MarkError
}

type commitMark struct {
	driver.Mark
	claim *claim // nil if it is none of the consumer's
	last  error  // why the last attempt did not make it durable
}

// screen drops the marks that need no broker, and reports whether others are
// left.
func (b *commitBatch) screen() bool {
	b.todo = slices.DeleteFunc(b.todo, func(m commitMark) bool {
		if m.claim == nil || m.claim.hasEnded() {
			b.fail(m, driver.ErrClaimEnded)
			return true
		}
		return m.claim.passed(m.Offset)
	})
	return len(b.todo) > 0
}

func (b *commitBatch) fail(m commitMark, err error) {
	b.failed = append(b.failed, driver.MarkError{Mark: m.Mark, Err: err})
}

// giveUp fails what is left because the caller's context has ended.
func (b *commitBatch) giveUp(ctxErr error) {
	for _, m := range b.todo {
		b.fail(m, &driver.Error{Code: "REQUEST_TIMED_OUT", Err: errors.Join(ctxErr, m.last)})
	}
	b.todo = nil
}

func (b *commitBatch) answer() error {
	if len(b.failed) == 0 {
		return nil
	}
	return &driver.CommitError{Failed: b.failed}
}

// A commitAttempt is the answer to one request, by mark. Its maker shares
// nothing with the call of Commit, which may have gone when it comes.
type commitAttempt struct {
	by       member
	verdicts []error // ErrNoError where the mark is durable
}

// errNotSent is the verdict on a mark that screen has to look at.
var errNotSent = errors.New("not sent")

// tryCommit sends marks in one request. It looks who the member is, and only
// then which claims have ended. The other order would let this happen: a claim
// is seen alive, is revoked, and the member joins anew; under the new
// generation the mark passes the broker's check and rewinds the next owner.
func (c *consumer) tryCommit(coordinator *ibm.Broker, marks []commitMark) (commitAttempt, error) {
	by, ok := c.membership.member()
	a := commitAttempt{by: by, verdicts: make([]error, len(marks))}
	req, n := c.committer.commitRequest(by), 0
	for i, m := range marks {
		a.verdicts[i] = errNotSent
		if ok && !m.claim.hasEnded() && !m.claim.passed(m.Offset) {
			req.AddBlockWithLeaderEpoch(m.Claim.Topic, m.Claim.Partition, m.Offset, -1, 0, "")
			a.verdicts[i] = nil
			n++
		}
	}
	if n == 0 {
		return a, nil
	}
	resp, err := coordinator.CommitOffset(req)
	if err != nil {
		return a, err
	}
	seen, err := c.seenAfter(coordinator)
	if err != nil {
		return a, err
	}
	for i, m := range marks {
		if a.verdicts[i] != nil {
			continue
		}
		topic := m.claim.where.topic
		if !c.incarnations.holds(topic, m.claim.era, seen.topics[topic].id) {
			a.verdicts[i] = recreated(topic)
			c.doubt()
			continue
		}
		k := committed(resp, m.claim.where)
		if k == ibm.ErrNoError {
			m.claim.setCommitted(m.Offset)
		}
		if k == ibm.ErrNotCoordinatorForConsumer || k == ibm.ErrConsumerCoordinatorNotAvailable {
			c.committer.stale = true
		}
		a.verdicts[i] = k
	}
	return a, nil
}

// seenAfter asks the coordinator, which has just acknowledged a commit, for the
// topics: only then it shows which it was made for.
func (c *consumer) seenAfter(coordinator *ibm.Broker) (survey, error) {
	seen, err := askTopics(coordinator, c.conf.Version, c.cfg.Topics)
	if err == nil {
		c.incarnations.learn(seen)
	}
	return seen, err
}

// committed returns what resp says of one partition.
func committed(resp *ibm.OffsetCommitResponse, p partition) ibm.KError {
	if k, ok := resp.Errors[p.topic][p.id]; ok {
		return k
	}
	return ibm.ErrUnknown
}

// judge sorts the marks by what an attempt has brought: durable, to be tried
// again, or refused.
func (b *commitBatch) judge(a commitAttempt, err error) {
	todo := b.todo
	b.todo = nil
	for i, m := range todo {
		verdict := err
		if err == nil {
			verdict = a.verdicts[i]
		}
		switch {
		case verdict == ibm.ErrNoError:
		case verdict == errNotSent:
			b.todo = append(b.todo, m)
		default:
			m.last = b.c.wrap(verdict)
			if b.c.worthRetrying(a.by, m.last) {
				b.todo = append(b.todo, m)
			} else {
				b.fail(m, m.last)
			}
		}
	}
}

// worthRetrying reports whether another attempt can succeed after by was
// answered with err. If by owns nothing any more, the core is told.
func (c *consumer) worthRetrying(by member, err error) bool {
	switch {
	case isCode(err, ibm.ErrUnknownMemberId, ibm.ErrFencedInstancedId, ibm.ErrIllegalGeneration):
		if now, ok := c.membership.member(); !ok || now != by {
			return true // refused for what it has left behind
		}
		if c.membership.cooperative && isCode(err, ibm.ErrIllegalGeneration) {
			return true // between the join and its answer: the claims stay
		}
		c.membership.lose(by.session, err)
		return false
	case isPermanent(err), isCode(err, ibm.ErrUnknown):
		return false
	}
	return true
}

// commitPositions makes positions durable on behalf of by, which is asked just
// before the request is sent: it may outlive the call. It is not for claims,
// which Commit serves. The positions belong to the topics as they were in asOf. It is
// for callers that need all of them; see somePositions.
func (c *consumer) commitPositions(ctx context.Context, asOf eras, by func() (member, error), positions map[partition]int64) error {
	failed, err := c.somePositions(ctx, asOf, by, positions)
	for p, failure := range failed {
		return fmt.Errorf("commit start of %s/%d: %w", p.topic, p.id, failure)
	}
	return err
}

// somePositions is commitPositions for callers that can do with some: it returns why a
// partition was refused. What the coordinator says of the group is an error of all.
func (c *consumer) somePositions(ctx context.Context, asOf eras, by func() (member, error), positions map[partition]int64) (map[partition]error, error) {
	return exchange(ctx, c.committer, func(coordinator *ibm.Broker) (map[partition]error, error) {
		m, err := by()
		if err != nil {
			return nil, err
		}
		req := c.committer.commitRequest(m)
		for p, offset := range positions {
			req.AddBlockWithLeaderEpoch(p.topic, p.id, offset, -1, 0, "")
		}
		resp, err := coordinator.CommitOffset(req)
		if err != nil {
			return nil, err
		}
		seen, err := c.seenAfter(coordinator)
		if err != nil {
			return nil, err
		}
		failed := map[partition]error{}
		for p := range positions {
			k := committed(resp, p)
			switch {
			case !c.incarnations.holds(p.topic, asOf[p.topic], seen.topics[p.topic].id):
				c.doubt()
				return nil, recreated(p.topic)
			case ofTheGroup(k):
				return nil, fmt.Errorf("commit start of %s/%d: %w", p.topic, p.id, k)
			case k != ibm.ErrNoError:
				failed[p] = k
			}
		}
		return failed, nil
	})
}

// ofTheGroup reports whether a code that comes with one partition is about the group,
// its coordinator or the member, and so about all partitions.
func ofTheGroup(k ibm.KError) bool {
	return isCode(k, ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable, ibm.ErrOffsetsLoadInProgress,
		ibm.ErrGroupAuthorizationFailed, ibm.ErrInvalidGroupId, ibm.ErrGroupIDNotFound,
		ibm.ErrUnknownMemberId, ibm.ErrIllegalGeneration, ibm.ErrRebalanceInProgress, ibm.ErrFencedInstancedId)
}

// A positions is what the coordinator says of the group's positions.
type positions struct {
	found  map[partition]int64 // what has none is left out
	failed map[partition]error // why that of a partition is not known
}

// committedOffsets returns the group's positions. What the coordinator says of one
// partition is no verdict on the others.
func (c *consumer) committedOffsets(ctx context.Context, partitions []partition) (positions, error) {
	return exchange(ctx, c.committer, func(coordinator *ibm.Broker) (positions, error) {
		wanted := map[string][]int32{}
		for _, p := range partitions {
			wanted[p.topic] = append(wanted[p.topic], p.id)
		}
		resp, err := coordinator.FetchOffset(ibm.NewOffsetFetchRequest(c.conf.Version, c.cfg.Group, wanted))
		at := positions{map[partition]int64{}, map[partition]error{}}
		if err != nil {
			return at, err
		}
		if resp.GroupError() == ibm.ErrGroupIDNotFound {
			return at, nil
		}
		for _, p := range partitions {
			block := resp.GetBlock(p.topic, p.id)
			switch {
			case block == nil && resp.GroupError() != ibm.ErrNoError:
				return at, resp.GroupError()
			case block == nil:
				at.failed[p] = ibm.ErrIncompleteResponse
			case ofTheGroup(block.Err):
				return at, block.Err
			case block.Err != ibm.ErrNoError:
				at.failed[p] = block.Err
			case block.Offset >= 0:
				at.found[p] = block.Offset
			}
		}
		return at, nil
	})
}
