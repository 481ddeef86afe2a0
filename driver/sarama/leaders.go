package sarama

import (
	"context"
	"fmt"
	"slices"
	"sync"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// leaders asks the leaders of partitions where their logs begin and end.
type leaders struct {
	client ibm.Client
	conf   *ibm.Config
	asking sync.WaitGroup // questions whose caller may have gone
}

// partitions returns all partitions of topics, as far as the client knows them.
func (l *leaders) partitions(topics []string) ([]partition, error) {
	var all []partition
	for _, topic := range topics {
		ids, err := l.client.Partitions(topic)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			all = append(all, partition{Topic: topic, ID: id})
		}
	}
	return all, nil
}

// all returns the beginnings or the ends of partitions. At ReadCommitted an end is where
// the first open transaction begins.
func (l *leaders) all(ctx context.Context, partitions []partition, which int64) (map[partition]int64, error) {
	offsets, failed, err := l.someWithin(ctx, partitions, which)
	if err != nil {
		return nil, err
	}
	for p, err := range failed {
		return nil, fmt.Errorf("offset of %s/%d: %w", p.Topic, p.ID, err)
	}
	return offsets, nil
}

// some is all for callers that can go on with some of them: a partition without a leader,
// or with one that does not answer, is no verdict on the others.
func (l *leaders) some(partitions []partition, which int64) (offsets map[partition]int64, failed map[partition]error) {
	byLeader := map[*ibm.Broker][]partition{}
	offsets, failed = map[partition]int64{}, map[partition]error{}
	for _, p := range partitions {
		leader, err := l.client.Leader(p.Topic, p.ID)
		if err != nil {
			failed[p] = err
			continue
		}
		byLeader[leader] = append(byLeader[leader], p)
	}
	for leader, led := range byLeader {
		l.ask(leader, led, which, offsets, failed)
	}
	return offsets, failed
}

// someWithin is some for callers that wait no longer than ctx lasts. Its error is that of ctx.
func (l *leaders) someWithin(ctx context.Context, partitions []partition, which int64) (offsets map[partition]int64, failed map[partition]error, err error) {
	type answer struct {
		offsets map[partition]int64
		failed  map[partition]error
	}
	answers := make(chan answer, 1)
	if err := l.within(ctx, func() {
		offsets, failed := l.some(partitions, which)
		answers <- answer{offsets, failed}
	}); err != nil {
		return nil, nil, err
	}
	a := <-answers
	return a.offsets, a.failed, nil
}

// within calls ask, and waits until that returns or ctx ends. What ask asks ends when a broker
// has answered or the connections are cut.
func (l *leaders) within(ctx context.Context, ask func()) error {
	done := make(chan struct{})
	l.asking.Go(func() {
		defer close(done)
		ask()
	})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask asks a leader for the ends that which stands for, or for the first offsets at or after that
// time. An offset of -1 stands for no record as late as that.
func (l *leaders) ask(leader *ibm.Broker, led []partition, which int64, offsets map[partition]int64, failed map[partition]error) {
	req := ibm.NewOffsetRequest(l.conf.Version)
	req.IsolationLevel = l.conf.Consumer.IsolationLevel
	for _, p := range led {
		req.AddBlock(p.Topic, p.ID, which, 1)
	}
	resp, err := leader.GetAvailableOffsets(req)
	if err != nil {
		leader.Close()
	}
	for _, p := range led {
		var block *ibm.OffsetResponseBlock
		if err == nil {
			block = resp.GetBlock(p.Topic, p.ID)
		}
		switch {
		case err != nil:
			failed[p] = err
		case block == nil:
			failed[p] = ibm.ErrIncompleteResponse
		case block.Err != ibm.ErrNoError:
			failed[p] = block.Err
		default:
			if why := position.Answered(block.Offset, which); why != nil {
				failed[p] = why
			} else {
				offsets[p] = block.Offset
			}
		}
	}
}

// existing returns those of partitions that their topics have, by the broker that leads
// them. A partition without a leader has failed.
func (l *leaders) existing(partitions []partition) (led map[*ibm.Broker][]partition, failed map[partition]error, err error) {
	led, failed = map[*ibm.Broker][]partition{}, map[partition]error{}
	for _, p := range partitions {
		ids, err := l.client.Partitions(p.Topic)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(ids, p.ID) {
			continue // the new topic has fewer
		}
		leader, err := l.client.Leader(p.Topic, p.ID)
		if err != nil {
			failed[p] = err
			continue
		}
		led[leader] = append(led[leader], p)
	}
	return led, failed, nil
}
