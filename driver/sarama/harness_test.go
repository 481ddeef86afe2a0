package sarama

import (
	"context"

	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// A harness looks at a cluster past its gate, by a client that has nothing in
// common with the driver.
type harness struct {
	gate      *gate
	brokers   []string
	newClient func(...kgo.Opt) (*kgo.Client, error)
	settings  drivertest.Settings

	// real, if not nil, creates topics, and waits until all its brokers know them.
	real *kafkacluster.Cluster
}

var _ interface {
	drivertest.Harness
	drivertest.Tuner
	drivertest.SessionEnder
	drivertest.Cutter
	drivertest.Staller
	drivertest.Truncater
	drivertest.PartitionAdder
	drivertest.HoleMaker
	drivertest.Transactor
	drivertest.ConnectionCounter
} = (*harness)(nil)

// fakeHarness is a harness over kfake.
func fakeHarness(t testing.TB, opts ...kfake.Opt) (*harness, *kfake.Cluster) {
	t.Helper()
	g := newGate()
	var mu sync.Mutex
	back := map[string]string{}
	cluster := fake(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := listenGated(g, network, address)
		if err == nil {
			mu.Lock()
			back[l.Addr().String()] = l.back.Addr().String()
			mu.Unlock()
		}
		return l, err
	}))...)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		addr = back[addr]
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	h := &harness{gate: g, brokers: cluster.ListenAddrs()}
	h.newClient = func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(h.brokers...), kgo.Dialer(dial)}, opts...)...)
	}
	return h, cluster
}

// realHarness is a harness over a real Kafka, whose clients come by proxies.
func realHarness(t testing.TB, brokers int) (*harness, *kafkacluster.Cluster) {
	t.Helper()
	g := newGate()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Brokers: brokers, Advertise: func(_ int, listener, addr string) string {
		if listener != "PLAINTEXT" {
			return addr
		}
		return proxy(t, g, addr)
	}})
	h := &harness{gate: g, brokers: strings.Split(cluster.Bootstrap(), ","), newClient: cluster.Client, real: cluster}
	return h, cluster
}

// request sends one request by a client of its own, so that nothing is left.
func request[T any](h *harness, ask func(*kgo.Client) (T, error)) (T, error) {
	var none T
	cl, err := h.newClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return none, err
	}
	defer cl.Close()
	return ask(cl)
}

func (h *harness) Driver() driver.Driver         { return Driver{} }
func (h *harness) Brokers() []string             { return h.brokers }
func (h *harness) Settings() drivertest.Settings { return h.settings }

func (h *harness) Cut(context.Context) (func(), error)   { return h.gate.cut(), nil }
func (h *harness) Stall(context.Context) (func(), error) { return h.gate.stall(), nil }

func (h *harness) Connections(context.Context) (int, error) {
	n, _ := h.gate.count()
	return n, nil
}

func (h *harness) CreateTopic(ctx context.Context, topic string, partitions int32) error {
	if h.real != nil {
		return h.real.CreateTopic(ctx, topic, int(partitions), nil)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, -1
	req.Topics = append(req.Topics, t)
	resp, err := request(h, func(cl *kgo.Client) (*kmsg.CreateTopicsResponse, error) { return req.RequestWith(ctx, cl) })
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return err
	}
	return h.untilLed(ctx, topic, partitions)
}

// untilLed returns when every broker names a leader for all partitions.
func (h *harness) untilLed(ctx context.Context, topic string, partitions int32) error {
	for {
		led, err := request(h, func(cl *kgo.Client) (int32, error) {
			least := partitions
			for _, b := range cl.SeedBrokers() {
				led, err := ledBy(ctx, b, topic)
				if err != nil {
					return 0, err
				}
				least = min(least, led)
			}
			return least, nil
		})
		if err != nil || led >= partitions {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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

func kgoRecord(topic string, partition int32, r driver.Record) *kgo.Record {
	k := &kgo.Record{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

func (h *harness) Send(ctx context.Context, topic string, partition int32, records ...driver.Record) error {
	var out []*kgo.Record
	for _, r := range records {
		out = append(out, kgoRecord(topic, partition, r))
	}
	_, err := request(h, func(cl *kgo.Client) (any, error) { return nil, cl.ProduceSync(ctx, out...).FirstErr() })
	return err
}

func (h *harness) Read(ctx context.Context, topic string, partition int32) ([]driver.Record, error) {
	end, err := h.end(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	cl, err := h.newClient(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var records []driver.Record
	for next := int64(0); next < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, driverRecord(r))
			}
		})
		if fetches.Empty() { // what is left was aborted
			return records, nil
		}
	}
	return records, nil
}

func driverRecord(r *kgo.Record) driver.Record {
	d := driver.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		d.Headers = append(d.Headers, driver.Header{Key: h.Key, Value: h.Value})
	}
	return d
}

// end returns where a consumer that reads what is committed will get to, and 0
// for an empty partition.
func (h *harness) end(ctx context.Context, topic string, partition int32) (int64, error) {
	offset := func(timestamp int64) (int64, error) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.IsolationLevel = 1
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = partition, timestamp
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := request(h, func(cl *kgo.Client) (*kmsg.ListOffsetsResponse, error) { return req.RequestWith(ctx, cl) })
		if err != nil {
			return 0, err
		}
		got := resp.Topics[0].Partitions[0]
		return got.Offset, kerr.ErrorForCode(got.ErrorCode)
	}
	begin, err := offset(-2)
	if err != nil {
		return 0, err
	}
	end, err := offset(-1)
	if begin == end {
		return 0, err
	}
	return end, err
}

func (h *harness) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, t)
	resp, err := request(h, func(cl *kgo.Client) (*kmsg.OffsetFetchResponse, error) { return req.RequestWith(ctx, cl) })
	if err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return -1, nil
}

func (h *harness) EndSessions(ctx context.Context, group string) error {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{group}
	described, err := request(h, func(cl *kgo.Client) (*kmsg.DescribeGroupsResponse, error) { return describe.RequestWith(ctx, cl) })
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
	left, err := request(h, func(cl *kgo.Client) (*kmsg.LeaveGroupResponse, error) { return leave.RequestWith(ctx, cl) })
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(left.ErrorCode)
}

func (h *harness) Truncate(ctx context.Context, topic string, partition int32, before int64) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, before
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := request(h, func(cl *kgo.Client) (*kmsg.DeleteRecordsResponse, error) { return req.RequestWith(ctx, cl) })
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func (h *harness) AddPartitions(ctx context.Context, topic string, total int32) error {
	req := kmsg.NewPtrCreatePartitionsRequest()
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, total
	req.Topics = append(req.Topics, t)
	resp, err := request(h, func(cl *kgo.Client) (*kmsg.CreatePartitionsResponse, error) { return req.RequestWith(ctx, cl) })
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return err
	}
	return h.untilLed(ctx, topic, total)
}

// MakeHole aborts a transaction of n-1 records; its marker is the last offset.
func (h *harness) MakeHole(ctx context.Context, topic string, partition int32, n int) error {
	records := make([]driver.Record, max(n-1, 1))
	for i := range records {
		records[i].Value = []byte("aborted")
	}
	before, err := h.end(ctx, topic, partition)
	if err != nil {
		return err
	}
	end, err := h.Begin(ctx, topic, partition, records...)
	if err != nil {
		return err
	}
	if err := end(ctx, false); err != nil {
		return err
	}
	for { // the marker is written after the transaction has ended
		now, err := h.end(ctx, topic, partition)
		if err != nil || now >= before+int64(n) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *harness) Begin(ctx context.Context, topic string, partition int32, records ...driver.Record) (func(context.Context, bool) error, error) {
	cl, err := h.newClient(kgo.TransactionalID(fmt.Sprintf("%s-%d", topic, time.Now().UnixNano())),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	if err := cl.BeginTransaction(); err != nil {
		return nil, err
	}
	for _, r := range records {
		if err := cl.ProduceSync(ctx, kgoRecord(topic, partition, r)).FirstErr(); err != nil {
			cl.Close()
			return nil, err
		}
	}
	return func(ctx context.Context, commit bool) error {
		defer cl.Close()
		return cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	}, nil
}
