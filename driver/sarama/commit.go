package sarama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

const (
	firstCommitRetry = 20 * time.Millisecond
	lastCommitRetry  = 500 * time.Millisecond
)

// A committer makes positions durable.
type committer struct {
	coordinator *coordinator
	membership  *membership
	topics      *topics
	core        *core.Calls
	metadata    position.Metadata
}

// commit makes marks durable, as [driver.Consumer] asks.
func (c *committer) commit(ctx context.Context, marks []driver.Mark) error {
	b := &commitBatch{c: c}
	for _, m := range marks {
		b.todo = append(b.todo, commitMark{Mark: m, claim: c.membership.claims.own(m.Claim)})
	}
	for retry := firstCommitRetry; b.screen(); retry = min(2*retry, lastCommitRetry) {
		if ctx.Err() != nil {
			b.giveUp(ctx.Err())
			break
		}
		sent := slices.Clone(b.todo)
		a, err := exchange(ctx, c.coordinator, func(broker *ibm.Broker) (commitAttempt, error) {
			return c.try(broker, sent)
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

// A commitBatch holds the marks of one call of Commit that are to be committed, and those
// that failed.
type commitBatch struct {
	c      *committer
	todo   []commitMark
	failed []driver.MarkError
}

type commitMark struct {
	driver.Mark
	claim *claim // nil if it is not of this consumer
	last  error  // why the last attempt did not make it durable
}

// screen drops the marks that need no broker, and reports whether others are left.
func (b *commitBatch) screen() bool {
	b.todo = slices.DeleteFunc(b.todo, func(m commitMark) bool {
		if m.claim == nil || m.claim.hasEnded() {
			b.fail(m, driver.ErrClaimEnded)
			return true
		}
		return m.claim.progress.Passed(m.Offset, b.c.metadata.Of(m.Mark))
	})
	return len(b.todo) > 0
}

func (b *commitBatch) fail(m commitMark, err error) {
	b.failed = append(b.failed, driver.MarkError{Mark: m.Mark, Err: err})
}

// giveUp fails the remaining marks because the caller's context has ended.
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

// A commitAttempt is the answer to one request, by mark. It shares nothing with the call of
// Commit, which may have returned when the answer comes.
type commitAttempt struct {
	by       member
	verdicts []error // ErrNoError where the mark is durable
}

// errNotSent is the verdict on a mark that screen has to look at.
var errNotSent = errors.New("not sent")

// try sends marks, which it may change, in one request. It reads the member's identity, and
// only then which claims have ended. The other order would let this happen: a claim is seen
// alive, is revoked, and the member joins again; under the new generation the mark passes
// the broker's check and rewinds the next owner.
func (c *committer) try(broker *ibm.Broker, marks []commitMark) (commitAttempt, error) {
	by, ok := c.membership.member()
	a := commitAttempt{by: by, verdicts: make([]error, len(marks))}
	req, n := c.coordinator.commitRequest(by), 0
	for i, m := range marks {
		a.verdicts[i] = errNotSent
		m.Metadata = c.metadata.Of(m.Mark)
		marks[i] = m
		if ok && !m.claim.hasEnded() && !m.claim.progress.Passed(m.Offset, m.Metadata) {
			m.claim.progress.Sending(m.Offset)
			req.AddBlockWithLeaderEpoch(m.Claim.Topic, m.Claim.Partition, m.Offset, -1, 0, m.Metadata)
			a.verdicts[i] = nil
			n++
		}
	}
	if n == 0 {
		return a, nil
	}
	resp, seen, err := c.send(broker, req)
	if err != nil {
		return a, err
	}
	for i, m := range marks {
		if a.verdicts[i] == nil {
			a.verdicts[i] = c.verdict(m, resp, seen)
		}
	}
	return a, nil
}

// verdict returns what became of m: ErrNoError if it is durable. It is called by an
// exchange.
func (c *committer) verdict(m commitMark, resp *ibm.OffsetCommitResponse, seen survey) error {
	if !c.topics.owns(m.claim.where.Topic, m.claim.era, seen) {
		return recreated(m.claim.where.Topic)
	}
	k := c.verdictAt(resp, m.claim.where, m.Metadata)
	if k == ibm.ErrNoError {
		m.claim.progress.Commit(m.Offset, m.Metadata)
	}
	return k
}

// verdictAt returns what resp holds for one partition, and acts on what concerns others as well.
// It is called by an exchange.
func (c *committer) verdictAt(resp *ibm.OffsetCommitResponse, p partition, metadata string) error {
	k := answered(resp, p)
	switch k {
	case ibm.ErrOffsetMetadataTooLarge:
		if report := c.metadata.Refuse(p, metadata, k); report != nil {
			c.core.ReportAside(wrap(report)) // other commits wait for this one
		}
	case ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable:
		c.coordinator.stale = true
	}
	return k
}

// send sends a commit, and then asks the coordinator for the topics: only after it has
// acknowledged the commit its view of them shows for which topic it took the positions.
func (c *committer) send(broker *ibm.Broker, req *ibm.OffsetCommitRequest) (*ibm.OffsetCommitResponse, survey, error) {
	resp, err := broker.CommitOffset(req)
	if err != nil {
		return nil, survey{}, err
	}
	seen, err := askTopics(broker, c.coordinator.conf.Version, c.coordinator.cfg.Topics)
	if err != nil {
		return nil, survey{}, err
	}
	c.topics.learn(seen)
	return resp, seen, nil
}

// answered returns what resp holds for one partition.
func answered(resp *ibm.OffsetCommitResponse, p partition) error {
	if k, ok := resp.Errors[p.Topic][p.ID]; ok {
		return k
	}
	return ibm.ErrIncompleteResponse
}

// judge sorts the marks after an attempt: durable, to be tried again, or refused.
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
			m.last = b.c.coordinator.wrap(verdict)
			if b.c.membership.worthRetrying(a.by, m.last) {
				b.todo = append(b.todo, m)
			} else {
				b.fail(m, m.last)
			}
		}
	}
}

// start makes positions durable that are no marks, on behalf of by, which is called just before
// the request is sent: it may outlive the call. The positions belong to the topics as they were
// in asOf. It returns why some were refused; an error of the group is an error of all of them.
func (c *committer) start(ctx context.Context, asOf incarnation.Eras, by func() (member, error), positions map[partition]int64) (map[partition]error, error) {
	verdicts, err := c.put(ctx, asOf, func() (member, []stored, error) {
		var all []stored
		for p, offset := range positions {
			all = append(all, stored{partition: p, offset: offset})
		}
		m, err := by()
		return m, all, err
	})
	if err != nil {
		return nil, err
	}
	failed := map[partition]error{}
	for p := range positions {
		switch err := verdicts[p]; {
		case errors.Is(err, errRecreated):
			return nil, err
		case ofTheGroup(err):
			return nil, fmt.Errorf("commit start of %s/%d: %w", p.Topic, p.ID, err)
		case err != nil:
			failed[p] = err
		}
	}
	return failed, nil
}

// A stored position is one that a commit holds.
type stored struct {
	partition
	offset   int64
	metadata string
}

// put sends the positions that of returns, on behalf of a member, and returns the verdict on
// each. It calls of just before it sends the request: that may outlive the call. The positions
// belong to the topics as they were in asOf.
func (c *committer) put(ctx context.Context, asOf incarnation.Eras, of func() (member, []stored, error)) (map[partition]error, error) {
	return exchange(ctx, c.coordinator, func(broker *ibm.Broker) (map[partition]error, error) {
		m, positions, err := of()
		if err != nil || len(positions) == 0 {
			return nil, err
		}
		req := c.coordinator.commitRequest(m)
		for _, at := range positions {
			req.AddBlockWithLeaderEpoch(at.Topic, at.ID, at.offset, -1, 0, at.metadata)
		}
		resp, seen, err := c.send(broker, req)
		if err != nil {
			return nil, err
		}
		verdicts := map[partition]error{}
		for _, at := range positions {
			switch k := c.verdictAt(resp, at.partition, at.metadata); {
			case !c.topics.owns(at.Topic, asOf[at.Topic], seen):
				verdicts[at.partition] = recreated(at.Topic)
			case k != ibm.ErrNoError:
				verdicts[at.partition] = k
			}
		}
		return verdicts, nil
	})
}
