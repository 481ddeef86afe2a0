package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// The timestamps that stand for the beginning and the end of a log.
const (
	logEnd   = -1
	logBegin = -2
)

// leaders asks the leaders of partitions where their logs begin and end.
type leaders struct {
	client    *kgo.Client
	isolation int8          // of the consumer
	patience  time.Duration // of one question; 0 is as long as its context
}

// within returns l with another patience.
func (l *leaders) within(patience time.Duration) *leaders {
	bounded := *l
	bounded.patience = patience
	return &bounded
}

// bound returns ctx with the end of l's patience.
func (l *leaders) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.patience == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.patience)
}

const readUncommitted, readCommitted = 0, 1

func newLeaders(cfg driver.ConsumerConfig, client *kgo.Client) *leaders {
	l := &leaders{client: client, isolation: readUncommitted}
	if cfg.IsolationLevel == driver.ReadCommitted {
		l.isolation = readCommitted
	}
	return l
}

// all returns the beginnings or the ends of partitions. At ReadCommitted an end is where
// the first open transaction begins.
func (l *leaders) all(ctx context.Context, partitions []partition, which int64) (map[partition]int64, error) {
	offsets, failed := l.some(ctx, partitions, which)
	for p, err := range failed {
		return nil, fmt.Errorf("offset of %s/%d: %w", driver.Printable(p.Topic, 0), p.ID, err)
	}
	return offsets, nil
}

// some is all for callers that can go on with some of them: a partition without a leader,
// or with one that does not answer, is no verdict on the others.
func (l *leaders) some(ctx context.Context, partitions []partition, which int64) (offsets map[partition]int64, failed map[partition]error) {
	return l.ask(ctx, partitions, which, l.isolation)
}

// highs returns the ends of partitions, open transactions included, as far as leaders
// answer.
func (l *leaders) highs(ctx context.Context, partitions []partition) map[partition]int64 {
	offsets, _ := l.ask(ctx, partitions, logEnd, readUncommitted)
	return offsets
}

// ask asks for the ends that which stands for, or for the first offsets at or after that time.
// An offset of -1 stands for no record as late as that.
func (l *leaders) ask(ctx context.Context, partitions []partition, which int64, isolation int8) (offsets map[partition]int64, failed map[partition]error) {
	offsets, failed = map[partition]int64{}, map[partition]error{}
	if len(partitions) == 0 {
		return offsets, failed
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	for topic, ids := range byTopic(partitions...) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, id := range ids {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = id, which
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	ctx, cancel := l.bound(ctx)
	defer cancel()
	for _, shard := range l.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			for _, t := range shard.Req.(*kmsg.ListOffsetsRequest).Topics {
				for _, p := range t.Partitions {
					failed[partition{Topic: t.Topic, ID: p.Partition}] = shard.Err
				}
			}
			continue
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				at := partition{Topic: t.Topic, ID: p.Partition}
				err := kerr.ErrorForCode(p.ErrorCode)
				if err == nil {
					err = position.Answered(p.Offset, which)
				}
				if err != nil {
					failed[at] = err
				} else {
					offsets[at] = p.Offset
				}
			}
		}
	}
	for _, p := range partitions {
		if _, ok := offsets[p]; !ok && failed[p] == nil {
			failed[p] = errIncomplete
		}
	}
	return offsets, failed
}

// cutBack asks whether logs were cut back below positions that were committed with the
// epoch of a leader (KIP-320). It returns where such a log parts from the one in which the
// position was earned. It says nothing about a partition whose leader does not answer.
func (l *leaders) cutBack(ctx context.Context, positions map[partition]kgo.EpochOffset) map[partition]int64 {
	parted := map[partition]int64{}
	if len(positions) == 0 {
		return parted
	}
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	topics := map[string]int{}
	for at, position := range positions {
		i, ok := topics[at.Topic]
		if !ok {
			i = len(req.Topics)
			topics[at.Topic] = i
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = at.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = at.ID, position.Epoch, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	ctx, cancel := l.bound(ctx)
	defer cancel()
	for _, shard := range l.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			continue
		}
		for _, t := range shard.Resp.(*kmsg.OffsetForLeaderEpochResponse).Topics {
			for _, p := range t.Partitions {
				at := partition{Topic: t.Topic, ID: p.Partition}
				if p.ErrorCode == 0 && p.EndOffset >= 0 && p.EndOffset < positions[at].Offset {
					parted[at] = p.EndOffset
				}
			}
		}
	}
	return parted
}
