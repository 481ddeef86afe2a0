package outside

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// Send writes records to a partition.
func (c Client) Send(ctx context.Context, topic string, partition int32, records ...driver.Record) error {
	_, err := with(c, func(cl *kgo.Client) (any, error) {
		return nil, cl.ProduceSync(ctx, sent(topic, partition, records)...).FirstErr()
	})
	return err
}

func sent(topic string, partition int32, records []driver.Record) []*kgo.Record {
	all := make([]*kgo.Record, len(records))
	for i, r := range records {
		all[i] = &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
		for _, h := range r.Headers {
			all[i].Headers = append(all[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	return all
}

// Read returns all records of a partition that a consumer of committed ones sees.
func (c Client) Read(ctx context.Context, topic string, partition int32) ([]driver.Record, error) {
	begin, end, err := c.bounds(ctx, topic, partition)
	if err != nil || begin == end {
		return nil, err
	}
	cl, err := c.open(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var records []driver.Record
	for next := begin; next < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, read(r))
			}
		})
		if fetches.Empty() { // what is left was aborted
			return records, nil
		}
	}
	return records, nil
}

func read(r *kgo.Record) driver.Record {
	d := driver.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		d.Headers = append(d.Headers, driver.Header{Key: h.Key, Value: h.Value})
	}
	return d
}

// Offsets of ListOffsets that stand for a place.
const (
	latest   = -1
	earliest = -2
)

// bounds returns where a partition begins, and where it ends for a consumer that
// reads what is committed.
func (c Client) bounds(ctx context.Context, topic string, partition int32) (begin, end int64, err error) {
	if begin, err = c.offset(ctx, topic, partition, earliest); err != nil {
		return 0, 0, err
	}
	end, err = c.offset(ctx, topic, partition, latest)
	return begin, end, err
}

func (c Client) offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, at
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 1
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return 0, err
	}
	got := resp.Topics[0].Partitions[0]
	return got.Offset, kerr.ErrorForCode(got.ErrorCode)
}

// Truncate deletes the records before an offset.
func (c Client) Truncate(ctx context.Context, topic string, partition int32, before int64) error {
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, before
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// MakeHole aborts a transaction of n-1 records; its marker is the last offset.
func (c Client) MakeHole(ctx context.Context, topic string, partition int32, n int) error {
	if n < 2 {
		return fmt.Errorf("a hole of %d offsets has no room for a record and a marker", n)
	}
	_, before, err := c.bounds(ctx, topic, partition)
	if err != nil {
		return err
	}
	end, err := c.Begin(ctx, topic, partition, make([]driver.Record, n-1)...)
	if err != nil {
		return err
	}
	if err := end(ctx, false); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) { // the marker is written after the transaction has ended
		_, now, err := c.bounds(ctx, topic, partition)
		return now >= before+int64(n), err
	})
}

// Begin writes records in a transaction, which end commits or aborts.
func (c Client) Begin(ctx context.Context, topic string, partition int32, records ...driver.Record) (end func(ctx context.Context, commit bool) error, err error) {
	cl, err := c.open(kgo.TransactionalID(fmt.Sprintf("%s-%d-%d", topic, partition, time.Now().UnixNano())))
	if err != nil {
		return nil, err
	}
	err = cl.BeginTransaction()
	if err == nil {
		err = cl.ProduceSync(ctx, sent(topic, partition, records)...).FirstErr()
	}
	if err != nil {
		cl.Close()
		return nil, err
	}
	return func(ctx context.Context, commit bool) error {
		defer cl.Close()
		return cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	}, nil
}
