package franz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

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
	claims      *claims
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
		b.todo = append(b.todo, commitMark{Mark: m, claim: c.claims.own(m.Claim)})
	}
	for retry := firstCommitRetry; b.screen(); retry = min(2*retry, lastCommitRetry) {
		if ctx.Err() != nil {
			b.giveUp(ctx.Err())
			break
		}
		sent := slices.Clone(b.todo)
		a, err := alone(ctx, c.coordinator, func(ctx context.Context) (commitAttempt, error) {
			return c.try(ctx, sent)
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
	verdicts []error // nil where the mark is durable
}

// errNotSent is the verdict on a mark that screen has to look at.
var errNotSent = errors.New("not sent")

// try sends marks, which it may change, in one request. It reads the member's identity, and
// only then which claims have ended. The other order would let this happen: a claim is seen
// alive, is revoked, and the member joins again; under the new generation the mark passes
// the broker's check and rewinds the next owner.
func (c *committer) try(ctx context.Context, marks []commitMark) (commitAttempt, error) {
	by, ok := c.membership.member()
	a := commitAttempt{by: by, verdicts: make([]error, len(marks))}
	req, n := c.coordinator.commitRequest(by), 0
	for i, m := range marks {
		a.verdicts[i] = errNotSent
		m.Metadata = c.metadata.Of(m.Mark)
		marks[i] = m
		// Under another member ID the claim is about to end: see session.onAssigned.
		if ok && m.claim.member == by.id && !m.claim.hasEnded() && !m.claim.progress.Passed(m.Offset, m.Metadata) {
			m.claim.progress.Sending(m.Offset)
			addOffset(req, m.claim.where, m.Offset, m.claim.epochAt(m.Offset), m.Metadata)
			a.verdicts[i] = nil
			n++
		}
	}
	if n == 0 {
		return a, nil
	}
	verdicts, seen, err := c.send(ctx, req)
	if err != nil {
		return a, err
	}
	for i, m := range marks {
		if a.verdicts[i] == nil {
			a.verdicts[i] = c.verdict(m, verdicts, seen)
		}
	}
	return a, nil
}

// verdict returns what became of m: nil if it is durable. It is called with the lane.
func (c *committer) verdict(m commitMark, verdicts map[partition]error, seen survey) error {
	if !c.topics.owns(m.claim.where.Topic, m.claim.era, seen) {
		return recreated(m.claim.where.Topic)
	}
	err := answered(verdicts, m.claim.where)
	switch {
	case err == nil:
		m.claim.setCommitted(m.Offset, m.Metadata)
	case isCode(err, kerr.OffsetMetadataTooLarge):
		c.refuseMetadata(m.claim.where, m.Metadata, err)
	}
	return err
}

// refuseMetadata notes that the metadata that was sent for p is too large. It is called with the
// lane.
func (c *committer) refuseMetadata(p partition, sent string, err error) {
	if report := c.metadata.Refuse(p, sent, err); report != nil {
		c.core.ReportAside(wrap(report)) // other commits wait for this one
	}
}

// send sends a commit, and then asks the coordinator for the topics: only after it has
// acknowledged the commit its view of them shows for which topic it took the positions.
func (c *committer) send(ctx context.Context, req *kmsg.OffsetCommitRequest) (map[partition]error, survey, error) {
	verdicts, err := c.coordinator.commit(ctx, req)
	if err != nil {
		return nil, survey{}, err
	}
	seen, err := c.coordinator.survey(ctx)
	if err != nil {
		return nil, survey{}, err
	}
	c.topics.learn(seen)
	return verdicts, seen, nil
}

// answered returns what an answer holds for one partition.
func answered(verdicts map[partition]error, p partition) error {
	if err, ok := verdicts[p]; ok {
		return err
	}
	return errIncomplete
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
		case verdict == nil:
		case verdict == errNotSent:
			b.todo = append(b.todo, m)
		default:
			m.last = wrap(verdict)
			if worthRetrying(m.last) {
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
			return nil, fmt.Errorf("commit start of %s/%d: %w", driver.Printable(p.Topic, 0), p.ID, err)
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
	return alone(ctx, c.coordinator, func(ctx context.Context) (map[partition]error, error) {
		m, positions, err := of()
		if err != nil || len(positions) == 0 {
			return nil, err
		}
		req := c.coordinator.commitRequest(m)
		for _, at := range positions {
			addOffset(req, at.partition, at.offset, -1, at.metadata)
		}
		answers, seen, err := c.send(ctx, req)
		if err != nil {
			return nil, err
		}
		verdicts := map[partition]error{}
		for _, at := range positions {
			err := answered(answers, at.partition)
			switch {
			case !c.topics.owns(at.Topic, asOf[at.Topic], seen):
				err = recreated(at.Topic)
			case isCode(err, kerr.OffsetMetadataTooLarge):
				c.refuseMetadata(at.partition, at.metadata, err)
			}
			verdicts[at.partition] = err
		}
		return verdicts, nil
	})
}

// worthRetrying reports whether another attempt under the same claim can succeed after err.
// A member that was removed waits: its claim ends as soon as kgo knows.
func worthRetrying(err error) bool {
	return gone(err) || !isPermanent(err)
}
