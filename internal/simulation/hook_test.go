package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// A hook records with the judge what a process reports of itself.
type hook struct{ n *node }

// Attach lets checks look at the manager through the hook's eyes, too.
func (h hook) Attach(v kafka.View) (detach func()) {
	h.n.view = v
	return func() {}
}

// Start begins an operation. Its token is whether it has ended.
func (h hook) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	h.n.w.operations.add(op.Kind, 1)
	if op.Kind == kafka.OpSend && !strings.HasSuffix(op.Topic, deadSuffix) && !isRetry(op.Topic) { // a copy is what its record is
		op.SetHeader("hook", op.Kind.String())
		op.DeleteHeader("unwanted")
	}
	if op.Kind == kafka.OpProcess || op.Kind == kafka.OpProcessBatch {
		ctx = context.WithValue(ctx, claimKey{}, ctx)
	}
	return ctx, new(atomic.Bool)
}

// End must follow each Start, once.
func (h hook) End(token kafka.OpToken, op *kafka.Op) {
	if token.(*atomic.Bool).Swap(true) {
		h.n.w.breaks("operation-ended-twice")
	}
	h.n.w.operations.add(op.Kind, -1)
}

// An opCount counts operations by their kind.
type opCount [kafka.OpCommit + 1]atomic.Int64

func (c *opCount) add(k kafka.OpKind, n int64) { c[k].Add(n) }

// open names the kinds of which operations are open, and how many.
func (c *opCount) open() (kinds string) {
	for k := range c {
		if n := c[k].Load(); n != 0 {
			kinds += fmt.Sprintf(" %d of kind %s", n, kafka.OpKind(k))
		}
	}
	return kinds
}

func (h hook) Event(e kafka.Event) {
	tell := h.n.w.judge.Tell
	switch e := e.(type) {
	case kafka.StateChanged:
		if by, ok := stoppedBy(h.n.member(e.JobName), e.Reason); ok && e.To == kafka.StateDisabled {
			tell(by)
			h.n.w.stats.strike("stop")
		} else if e.To == kafka.StateDisabled {
			tell(judge.Disabled{Member: h.n.member(e.JobName), Permanent: errors.Is(e.Reason, kafka.ErrPermanent)})
		}
		if e.To == kafka.StateBackingOff && missingDead(e.Reason) {
			tell(judge.Waiting{Member: h.n.member(e.JobName)})
			h.n.w.stats.count("failure waits for the dead-letter topic")
		}
		tell(judge.StateChanged{Member: h.n.member(e.JobName), From: e.From.String(), To: e.To.String()})
		h.n.w.stats.count("state " + e.To.String())
	case kafka.PartitionsAssigned:
		h.n.w.pin(e.JobName, judged(e.Partitions))
		h.heeds(e)
		tell(judge.Assigned{Member: h.n.member(e.JobName), Partitions: judged(e.Partitions)})
		h.n.w.stats.count("assigned")
	case kafka.PartitionsRevoked:
		h.n.w.given(h.n.member(e.JobName), judged(e.Partitions), "revoked")
		tell(judge.Revoked{Member: h.n.member(e.JobName), Partitions: judged(e.Partitions), Stuck: judged(e.Stuck), Calm: h.n.w.calmly.Load(), Took: e.Took})
		h.n.w.stats.count("revoked")
		if len(e.Stuck) > 0 {
			h.n.w.stats.count("revoked, stuck")
		}
	case kafka.PartitionsLost:
		h.n.w.given(h.n.member(e.JobName), judged(e.Partitions), "lost")
		tell(judge.Lost{Member: h.n.member(e.JobName), Partitions: judged(e.Partitions)})
		h.n.w.stats.count("lost")
	case kafka.HandlerFailed:
		if isRetry(e.Topic) {
			h.n.w.recordDead()
		}
		tell(judge.HandlerFailed{
			Member: h.n.member(e.JobName), Partition: judge.Partition{Topic: e.Topic, Number: e.Partition}, Offset: e.Offset, Failures: e.Failures,
		})
	case kafka.DataLoss:
		h.n.w.stats.count("data loss")
		if e.Recreated || e.To < e.From {
			replaced := judge.Replaced{Member: h.n.member(e.JobName), Partition: judge.Partition{Topic: e.Topic, Number: e.Partition}, From: e.To}
			if e.Recreated {
				replaced.From = 0
			}
			tell(replaced)
		}
	case kafka.CommitFailed:
		h.n.w.stats.count("commit failed")
	default:
		h.operated(e)
	}
}

// judged returns partitions as the judge knows them.
func judged(partitions []kafka.TopicPartition) (ps []judge.Partition) {
	for _, p := range partitions {
		ps = append(ps, judge.Partition{Topic: p.Topic, Number: p.Partition})
	}
	return ps
}
