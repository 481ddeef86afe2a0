package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A committer is the part of a consumer that commits.
type committer struct {
	b      *Broker
	place  *membership
	claims *claimSet

	// plain commits carry no metadata: the broker has refused that of an earlier one.
	// refused is its answer until Run has reported it.
	plain   bool
	refused error
}

func (c *committer) commit(ctx context.Context, marks []driver.Mark) error {
	var failed []driver.MarkError
	for {
		a := c.attempt(ctx, marks)
		failed = append(failed, a.failed...)
		c.b.observer.flush()
		if len(a.again) == 0 {
			break
		}
		marks = a.again
		select {
		case <-a.changed:
		case <-ctx.Done():
		}
	}
	if len(failed) > 0 {
		return &driver.CommitError{Failed: failed}
	}
	return nil
}

// An attempt is the result of one try to commit marks.
type attempt struct {
	failed  []driver.MarkError
	again   []driver.Mark // to be tried again when changed is closed
	changed <-chan struct{}
}

func (a *attempt) fail(marks []driver.Mark, err error) {
	for _, m := range marks {
		a.failed = append(a.failed, driver.MarkError{Mark: m, Err: err})
	}
}

// attempt tries marks under the member's current identity. It reads the identity and the
// ends of claims under one hold of the mutex, so that no mark is sent under an assignment
// to which it does not belong.
func (c *committer) attempt(ctx context.Context, marks []driver.Mark) (a attempt) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	marks = c.current(marks, &a)
	if len(marks) == 0 {
		return a
	}
	c.place.keepUp()
	err := c.place.mayCommit()
	switch {
	case err == nil && ctx.Err() == nil:
		c.apply(marks, &a)
	case ctx.Err() != nil:
		a.fail(marks, timedOut(ctx, err))
	case c.worthRetrying(err):
		a.again, a.changed = marks, c.place.g.changed.wait()
	default:
		a.fail(marks, err)
	}
	return a
}

// current drops the marks whose claims have ended and those that are not ahead.
func (c *committer) current(marks []driver.Mark, a *attempt) []driver.Mark {
	return slices.DeleteFunc(slices.Clone(marks), func(m driver.Mark) bool {
		k := c.claims.find(m.Claim)
		if k == nil {
			a.fail([]driver.Mark{m}, driver.ErrClaimEnded)
		}
		return k == nil || m.Offset < k.committed.offset || c.placeOf(m) == k.committed
	})
}

// placeOf returns what is to be committed for m.
func (c *committer) placeOf(m driver.Mark) place {
	if c.plain {
		return place{offset: m.Offset}
	}
	return place{m.Offset, m.Metadata}
}

// worthRetrying reports whether a later attempt may succeed: when the broker is reachable
// again, when the generation has its assignment, or when the member has entered the
// generation of its join.
func (c *committer) worthRetrying(err error) bool {
	switch code(err) {
	case "CONNECTION_FAILED", "REBALANCE_IN_PROGRESS":
		return true
	case "ILLEGAL_GENERATION":
		return c.place.joining
	}
	return false
}

func (c *committer) apply(marks []driver.Mark, a *attempt) {
	for _, m := range marks {
		k := c.claims.find(m.Claim)
		if err := c.b.commitErr(k); err != nil {
			a.fail([]driver.Mark{m}, err)
			continue
		}
		c.store(k, m, Commit{})
	}
	c.place.g.progress.fire()
}

// store records m, without its metadata if the broker refuses that.
func (c *committer) store(k *claim, m driver.Mark, what Commit) {
	if err := metadataErr(k.partition(), c.placeOf(m).metadata); err != nil {
		c.plain, c.refused = true, err
		c.place.g.changed.fire()
	}
	k.committed = c.placeOf(m)
	c.place.commit(k.partition(), k.committed, what)
}

// takeRefused returns, once, the answer to metadata that was too large.
func (c *committer) takeRefused() error {
	err := c.refused
	c.refused = nil
	return err
}

// maxMetadataBytes is Kafka's offset.metadata.max.bytes.
const maxMetadataBytes = 4096

// metadataErr returns the broker's answer to metadata beside a position.
func metadataErr(tp TopicPartition, metadata string) error {
	if n := len(metadata); n > maxMetadataBytes {
		return fail("OFFSET_METADATA_TOO_LARGE", "%s/%d: %d bytes, more than offset.metadata.max.bytes %d", tp.Topic, tp.Partition, n, maxMetadataBytes)
	}
	return nil
}

// commitErr returns the broker's answer to a position in a claim's partition. A commit
// names the topic's ID.
func (b *Broker) commitErr(k *claim) error {
	switch t := b.topics[k.Topic]; {
	case t == nil:
		return errUnknownPartition(k.Topic, k.Partition)
	case k.orphaned():
		return fail("UNKNOWN_TOPIC_ID", "%s/%d: the topic was created again", k.Topic, k.Partition)
	case t.forbidden:
		return errForbidden(k.Topic)
	}
	return nil
}

// timedOut returns the error of a commit whose context ended, with the answer to its last
// attempt.
func timedOut(ctx context.Context, last error) error {
	err := ctx.Err()
	if last != nil {
		err = fmt.Errorf("%w, waiting for the end of %w", err, last)
	}
	return &driver.Error{Code: "REQUEST_TIMED_OUT", Err: err}
}
