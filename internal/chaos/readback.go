//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// A stored record is one that lies in the log.
type stored struct {
	partition  int32
	offset     int64
	key, value string
}

// readBack returns all records of a topic that a reader of what is committed
// can read, in order of partition and offset.
func readBack(ctx context.Context, c *kafkacluster.Cluster, topic string) ([]stored, error) {
	var records []stored
	err := readAll(ctx, c, topic, func(r *kgo.Record) {
		records = append(records, stored{r.Partition, r.Offset, string(r.Key), string(r.Value)})
	})
	slices.SortFunc(records, func(a, b stored) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	return records, err
}

// An applied commit is one that the cluster has made durable.
type applied struct {
	at        time.Time // by the broker's clock, in milliseconds, rounded down
	partition int32
	offset    int64
}

// readCommits returns every commit of a group for a topic, in the order in which
// they were applied. It reads the brokers' own log of them: to ask for the
// committed offset now and then would miss most, and a broker that was cut off
// would answer with what it remembers.
func readCommits(ctx context.Context, c *kafkacluster.Cluster, group, topic string) (commits []applied, err error) {
	err = readAll(ctx, c, "__consumer_offsets", func(r *kgo.Record) {
		key, value := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
		if key.ReadFrom(r.Key) != nil || key.Version > 1 || key.Group != group || key.Topic != topic {
			return // of another kind, or group
		}
		if r.Value == nil || value.ReadFrom(r.Value) != nil {
			return // a tombstone
		}
		commits = append(commits, applied{time.UnixMilli(value.CommitTimestamp), key.Partition, value.Offset})
	})
	return commits, err
}

// readAll calls f for every record of a topic, in order within each partition,
// up to where its partitions end now.
func readAll(ctx context.Context, c *kafkacluster.Cluster, topic string, f func(*kgo.Record)) error {
	ends, err := c.EndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	from := map[int32]kgo.Offset{}
	for p, end := range ends {
		if end > 0 {
			from[p] = kgo.NewOffset().AtStart()
		}
	}
	if len(from) == 0 {
		return nil
	}
	cl, err := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(from) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() && r.Offset < ends[r.Partition] {
				f(r)
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(from, r.Partition)
			}
		})
	}
	return nil
}
