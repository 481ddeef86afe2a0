// Package outside looks at a cluster, and changes it, by a client that has
// nothing in common with the drivers under test. A test's harness that embeds
// its [Client] has the parts of package drivertest that a broker can play.
package outside

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
)

// A Client asks each question by a connection of its own, and leaves nothing
// behind. Its methods may be called by several goroutines at once.
type Client struct {
	// New opens a client for the cluster. Options that it is given come last.
	New func(...kgo.Opt) (*kgo.Client, error)
}

// Of returns a client for the cluster at addresses.
func Of(brokers ...string) Client {
	return Client{func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...)}, opts...)...)
	}}
}

// open opens a client that sends to the partition that a record names.
func (c Client) open(opts ...kgo.Opt) (*kgo.Client, error) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 9) // the last with names of topics
	return c.New(append([]kgo.Opt{kgo.MaxVersions(versions), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
}

// with calls ask with a client.
func with[T any](c Client, ask func(*kgo.Client) (T, error)) (answer T, err error) {
	cl, err := c.open()
	if err != nil {
		return answer, err
	}
	defer cl.Close()
	return ask(cl)
}

// A request is one of package kmsg.
type request[T any] interface {
	RequestWith(context.Context, kmsg.Requestor) (T, error)
}

// send sends req, and returns its answer.
func send[T any](ctx context.Context, c Client, req request[T]) (T, error) {
	return with(c, func(cl *kgo.Client) (T, error) { return req.RequestWith(ctx, cl) })
}

// CreateTopic creates a topic whose records are kept however old they are said to
// be, and returns when all its partitions are served.
func (c Client) CreateTopic(ctx context.Context, topic string, partitions int32) error {
	forever := kmsg.NewCreateTopicsRequestTopicConfig()
	forever.Name, forever.Value = "retention.ms", kmsg.StringPtr("-1")
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, -1
	t.Configs = append(t.Configs, forever)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return err
	}
	return c.untilLed(ctx, topic, partitions)
}

// AddPartitions grows a topic to so many partitions, and returns when all are
// served.
func (c Client) AddPartitions(ctx context.Context, topic string, total int32) error {
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, total
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return err
	}
	return c.untilLed(ctx, topic, total)
}

// untilLed returns when every broker names a leader for all partitions, and each
// leader serves. Brokers know of their leadership before they act on it, and what
// is sent in between without asking for an acknowledgement is lost.
func (c Client) untilLed(ctx context.Context, topic string, partitions int32) error {
	err := until(ctx, func() (bool, error) {
		return with(c, func(cl *kgo.Client) (bool, error) {
			for _, b := range cl.SeedBrokers() {
				if led, err := ledBy(ctx, b, topic); err != nil || led < partitions {
					return false, err
				}
			}
			return true, nil
		})
	})
	for p := range partitions {
		if err == nil {
			err = until(ctx, func() (bool, error) { return c.serves(ctx, topic, p) })
		}
	}
	return err
}

// serves reports whether a partition's leader says where its log ends.
func (c Client) serves(ctx context.Context, topic string, partition int32) (bool, error) {
	_, err := c.offset(ctx, topic, partition, latest)
	if kerr.IsRetriable(err) {
		return false, nil
	}
	return err == nil, err
}

// ledBy returns for how many partitions a broker knows a leader.
func ledBy(ctx context.Context, b *kgo.Broker, topic string) (led int32, err error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := b.Request(ctx, req)
	if err != nil {
		return 0, err
	}
	for _, p := range resp.(*kmsg.MetadataResponse).Topics[0].Partitions {
		if p.Leader >= 0 && p.ErrorCode == 0 {
			led++
		}
	}
	return led, nil
}

// until returns when what a cluster tells nobody has come about.
func until(ctx context.Context, reached func() (bool, error)) error {
	for {
		if ok, err := reached(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

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

// Committed returns what a group has committed for a partition, or -1.
func (c Client) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return 0, err
	}
	// For a group that it does not know Kafka answers that nothing is committed,
	// and kfake that there is no such group.
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return -1, nil
}

// EndSessions has a group forget its members.
func (c Client) EndSessions(ctx context.Context, group string) error {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{group}
	described, err := send(ctx, c, describe)
	if err != nil {
		return err
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range described.Groups[0].Members {
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID, lm.InstanceID = m.MemberID, m.InstanceID
		leave.Members = append(leave.Members, lm)
	}
	left, err := send(ctx, c, leave)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(left.ErrorCode)
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
