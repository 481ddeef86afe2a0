package differential

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
)

// An outside looks at a cluster by a client that has nothing in common with the
// driver.
type outside struct {
	name      string
	brokers   []string
	newClient func(...kgo.Opt) (*kgo.Client, error)
	client    *kgo.Client
}

// newOutside returns the production driver over the cluster at brokers. With
// newClient nil, the outside is reached there as well.
func newOutside(t testing.TB, name string, brokers []string, newClient func(...kgo.Opt) (*kgo.Client, error)) *outside {
	t.Helper()
	o := &outside{name: name, brokers: brokers, newClient: newClient}
	if newClient == nil {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 9) // the last with names of topics
		o.newClient = func(opts ...kgo.Opt) (*kgo.Client, error) {
			return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.MaxVersions(versions)}, opts...)...)
		}
	}
	client, err := o.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	o.client = client
	return o
}

func (o *outside) String() string        { return o.name }
func (o *outside) Driver() driver.Driver { return production }
func (o *outside) Brokers() []string     { return o.brokers }

func (*outside) settleTime() time.Duration { return 30 * time.Second }

func (o *outside) CreateTopic(ctx context.Context, topic string, partitions int32) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	forever := kmsg.NewCreateTopicsRequestTopicConfig()
	forever.Name, forever.Value = "retention.ms", kmsg.StringPtr("-1") // some records are said to be of 1970
	t.Configs = append(t.Configs, forever)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, o.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return err
	}
	return o.untilLed(ctx, topic, partitions)
}

func (o *outside) AddPartitions(ctx context.Context, topic string, total int32) error {
	req := kmsg.NewPtrCreatePartitionsRequest()
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, total
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, o.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return err
	}
	return o.untilLed(ctx, topic, total)
}

// untilLed returns when the cluster names a leader for all partitions.
func (o *outside) untilLed(ctx context.Context, topic string, partitions int32) error {
	for {
		req := kmsg.NewPtrMetadataRequest()
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &topic
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, o.client)
		if err != nil {
			return err
		}
		var led int32
		for _, p := range resp.Topics[0].Partitions {
			if p.Leader >= 0 && p.ErrorCode == 0 {
				led++
			}
		}
		if led >= partitions {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause waits before the cluster is asked again for what it tells nobody.
func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *outside) Send(ctx context.Context, topic string, partition int32, records ...driver.Record) error {
	return o.client.ProduceSync(ctx, sent(topic, partition, records)...).FirstErr()
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

func (o *outside) Read(ctx context.Context, topic string, partition int32) ([]driver.Record, error) {
	begin, end, err := o.bounds(ctx, topic, partition)
	if err != nil || begin == end {
		return nil, err
	}
	cl, err := o.newClient(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords(),
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

// bounds returns where a partition begins, and where it ends for a consumer that
// reads what is committed.
func (o *outside) bounds(ctx context.Context, topic string, partition int32) (begin, end int64, err error) {
	if begin, err = o.offset(ctx, topic, partition, -2); err != nil {
		return 0, 0, err
	}
	end, err = o.offset(ctx, topic, partition, -1)
	return begin, end, err
}

func (o *outside) offset(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, at
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, o.client)
	if err != nil {
		return 0, err
	}
	got := resp.Topics[0].Partitions[0]
	return got.Offset, kerr.ErrorForCode(got.ErrorCode)
}

func (o *outside) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, o.client)
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

func (o *outside) EndSessions(ctx context.Context, group string) error {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{group}
	described, err := describe.RequestWith(ctx, o.client)
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
	left, err := leave.RequestWith(ctx, o.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(left.ErrorCode)
}

func (o *outside) Truncate(ctx context.Context, topic string, partition int32, before int64) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, before
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, o.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// MakeHole aborts a transaction of n-1 records; its marker is the last offset.
func (o *outside) MakeHole(ctx context.Context, topic string, partition int32, n int) error {
	if n < 2 {
		return fmt.Errorf("a hole of %d offsets", n)
	}
	_, before, err := o.bounds(ctx, topic, partition)
	if err != nil {
		return err
	}
	cl, err := o.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(fmt.Sprintf("%s-%d-%d", topic, partition, time.Now().UnixNano())))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	aborted := make([]driver.Record, n-1)
	if err := cl.ProduceSync(ctx, sent(topic, partition, aborted)...).FirstErr(); err != nil {
		return err
	}
	if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		return err
	}
	for { // the marker is written after the transaction has ended
		_, now, err := o.bounds(ctx, topic, partition)
		if err != nil || now >= before+int64(n) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}
