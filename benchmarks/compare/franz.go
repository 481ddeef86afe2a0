package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// rawFranz is twmb/franz-go as its examples use it: one loop that polls.
func rawFranz() client {
	return client{name: rawFranzGo, consume: consumeFranz, produce: produceFranz, commits: commitFranz}
}

func franzOptions(s subscription) []kgo.Opt {
	balancer := kgo.RoundRobinBalancer()
	if s.cooperative {
		balancer = kgo.CooperativeStickyBalancer()
	}
	return []kgo.Opt{
		kgo.SeedBrokers(s.brokers...), kgo.ConsumerGroup(s.group), kgo.ConsumeTopics(s.topic), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxPartitionBytes(1 << 20),
	}
}

func consumeFranz(s subscription, handle func(int32)) (func() error, error) {
	c, err := kgo.NewClient(franzOptions(s)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	poll := func(f kgo.Fetches) { f.EachRecord(func(r *kgo.Record) { handle(r.Partition) }) }
	if s.parallel {
		poll = franzWorkers(ctx, handle)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			poll(c.PollFetches(ctx))
		}
	}()
	return func() error {
		cancel()
		<-ended
		err := c.CommitUncommittedOffsets(context.Background())
		c.Close() // leaves the group
		return err
	}, nil
}

// franzWorkers handles each partition in a goroutine of its own, as franz-go's examples do,
// until ctx ends. A partition that has five fetches before it makes the loop wait.
func franzWorkers(ctx context.Context, handle func(int32)) func(kgo.Fetches) {
	workers := map[int32]chan []*kgo.Record{}
	return func(fetches kgo.Fetches) {
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			records, ok := workers[p.Partition]
			if !ok {
				records = make(chan []*kgo.Record, 5)
				workers[p.Partition] = records
				go handleFranz(ctx, records, handle)
			}
			select {
			case records <- p.Records:
			case <-ctx.Done():
			}
		})
	}
}

func handleFranz(ctx context.Context, fetched <-chan []*kgo.Record, handle func(int32)) {
	for {
		select {
		case records := <-fetched:
			for _, r := range records {
				if ctx.Err() != nil {
					return
				}
				handle(r.Partition)
			}
		case <-ctx.Done():
			return
		}
	}
}

func commitFranz(ctx context.Context, s subscription, took func(time.Duration)) error {
	c, err := kgo.NewClient(append(franzOptions(s), kgo.DisableAutoCommit())...)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, r := range fetches.Records() {
			awaitNextFetch()
			began := time.Now()
			if err := c.CommitRecords(ctx, r); err != nil && ctx.Err() == nil {
				return err
			}
			took(time.Since(began))
		}
	}
}

type franzProducer struct{ c *kgo.Client }

func produceFranz(brokers []string) (producer, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	return franzProducer{c}, err
}

func (p franzProducer) send(ctx context.Context, topic string, value []byte) error {
	return p.c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).FirstErr()
}

func (p franzProducer) sendAsync(ctx context.Context, topic string, value []byte, done func(error)) {
	p.c.Produce(ctx, &kgo.Record{Topic: topic, Value: value}, func(_ *kgo.Record, err error) { done(err) })
}

func (p franzProducer) close() error {
	err := p.c.Flush(context.Background())
	p.c.Close()
	return err
}
