package kafkacluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Client returns a client that reaches the brokers directly, past any proxy and
// any security. It has nothing in common with the drivers under test, so its
// word counts as evidence. The caller must close it.
func (c *Cluster) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	addrs := strings.Split(c.external, ",")
	if !c.External() {
		addrs = nil
		for _, b := range c.brokers {
			addrs = append(addrs, b.listen["ADMIN"])
		}
	}
	return newClient(addrs, opts...)
}

func newClient(addrs []string, opts ...kgo.Opt) (*kgo.Client, error) {
	// From version 10 on, a response to OffsetFetch no longer has topic names.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 9)
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addrs...),
		kgo.MaxVersions(versions),
		kgo.DialTimeout(2 * time.Second),
		kgo.RequestTimeoutOverhead(3 * time.Second), // a paused broker never answers
		kgo.DisableClientMetrics(),
	}, opts...)...)
}

// request calls ask with a client, again until its answer is final: a broker that
// has just become leader or coordinator says so by an error. An unknown topic is
// final, as CreateTopic returns when all brokers know it.
func request[T any](ctx context.Context, c *Cluster, what string, ask func(context.Context, kmsg.Requestor) (T, error)) (answer T, err error) {
	cl, err := c.Client()
	if err != nil {
		return answer, fmt.Errorf("kafkacluster: %s: %w", what, err)
	}
	defer cl.Close()
	err = poll(ctx, what, func(ctx context.Context) (string, error) {
		answer, err = ask(ctx, cl)
		if kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err.Error(), nil
		}
		if err != nil {
			return "", fmt.Errorf("kafkacluster: %s: %w", what, err)
		}
		return "", nil
	})
	return answer, err
}

// Ready returns when the cluster is whole: every broker answers and names all
// brokers, and every partition has a leader and all its replicas in sync. It
// returns an error at the end of ctx, and at once when a broker does not run.
func (c *Cluster) Ready(ctx context.Context) error {
	return poll(ctx, "cluster to be ready", func(ctx context.Context) (string, error) {
		for _, b := range c.brokers {
			if err := b.ended(); err != nil {
				return "", err
			}
		}
		for _, b := range c.brokers {
			meta, err := b.metadata(ctx)
			if err != nil {
				return err.Error(), nil
			}
			if missing := missing(meta, len(c.brokers)); missing != "" {
				return fmt.Sprintf("broker %d says: %s", b.id, missing), nil
			}
			if err := b.listens(ctx); err != nil {
				return err.Error(), nil
			}
		}
		return "", nil
	})
}

// missing says what a cluster of n brokers lacks to be whole.
func missing(meta *kmsg.MetadataResponse, n int) string {
	if len(meta.Brokers) < n {
		return fmt.Sprintf("%d of %d brokers", len(meta.Brokers), n)
	}
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
				return fmt.Sprintf("%s/%d: leader %d, in sync %v of %v", *t.Topic, p.Partition, p.Leader, p.ISR, p.Replicas)
			}
		}
	}
	return ""
}

// serves returns when b counts itself among the live brokers.
func (b *Broker) serves(ctx context.Context) error {
	return poll(ctx, "broker to serve", func(ctx context.Context) (string, error) {
		if err := b.ended(); err != nil {
			return "", err
		}
		meta, err := b.metadata(ctx)
		if err != nil {
			return err.Error(), nil
		}
		if !slices.ContainsFunc(meta.Brokers, b.is) {
			return "it does not count itself among the brokers", nil
		}
		if err := b.listens(ctx); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
}

func (b *Broker) is(named kmsg.MetadataResponseBroker) bool { return int(named.NodeID) == b.id }

// listens returns nil when b serves every listener, as far as that shows without
// credentials. A broker opens its listeners one after the other, in any order:
// it may answer on ADMIN, count as alive, and refuse the clients of the test, or
// end because the port of a later listener is taken.
func (b *Broker) listens(ctx context.Context) error {
	for name, addr := range b.listen {
		var err error
		switch name {
		case "BROKER", "PLAINTEXT":
			_, err = metadata(ctx, addr)
		default:
			err = accepts(ctx, addr)
		}
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
	}
	return nil
}

func accepts(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// metadata asks this very broker about all topics.
func (b *Broker) metadata(ctx context.Context) (*kmsg.MetadataResponse, error) {
	return metadata(ctx, b.listen["ADMIN"])
}

func metadata(ctx context.Context, addr string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	cl, err := newClient([]string{addr}, kgo.RequestRetries(0))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	resp, err := cl.SeedBrokers()[0].Request(ctx, kmsg.NewPtrMetadataRequest())
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.MetadataResponse), nil
}

// CreateTopic creates a topic with as many replicas as there are brokers, and
// returns when every running broker knows a leader for all its partitions.
// Configs may be nil.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int, configs map[string]string) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic = name
	topic.NumPartitions = int32(partitions)
	topic.ReplicationFactor = -1
	for key, value := range configs {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name = key
		config.Value = &value
		topic.Configs = append(topic.Configs, config)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	what := fmt.Sprintf("create topic %q", name)
	_, err := request(ctx, c, what, func(ctx context.Context, r kmsg.Requestor) (any, error) {
		resp, err := req.RequestWith(ctx, r)
		if err != nil {
			return nil, err
		}
		return nil, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	})
	if err != nil {
		return err
	}
	return poll(ctx, what, func(ctx context.Context) (string, error) {
		for _, b := range c.brokers {
			if b.PID() == 0 {
				continue
			}
			meta, err := b.metadata(ctx)
			if err != nil {
				return err.Error(), nil
			}
			if n := led(meta, name); n < partitions {
				return fmt.Sprintf("broker %d knows %d of %d leaders", b.id, n, partitions), nil
			}
		}
		return "", nil
	})
}

// led returns how many partitions of a topic have a leader.
func led(meta *kmsg.MetadataResponse, topic string) (n int) {
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			if *t.Topic == topic && p.Leader >= 0 {
				n++
			}
		}
	}
	return n
}

// Leader returns the broker that leads a partition, when there is one.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int32) (*Broker, error) {
	what := fmt.Sprintf("leader of %s/%d", topic, partition)
	return request(ctx, c, what, func(ctx context.Context, r kmsg.Requestor) (*Broker, error) {
		partitions, err := partitionsOf(ctx, r, topic)
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			switch {
			case p.Partition != partition:
			case p.Leader < 0:
				return nil, kerr.LeaderNotAvailable
			default:
				return c.Broker(int(p.Leader)), nil
			}
		}
		return nil, kerr.UnknownTopicOrPartition
	})
}

func partitionsOf(ctx context.Context, r kmsg.Requestor, topic string) ([]kmsg.MetadataResponseTopicPartition, error) {
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Topics[0].Partitions, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// Coordinator returns the broker that coordinates a consumer group.
func (c *Cluster) Coordinator(ctx context.Context, group string) (*Broker, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = group
	req.CoordinatorKeys = []string{group}
	what := fmt.Sprintf("coordinator of group %q", group)
	return request(ctx, c, what, func(ctx context.Context, r kmsg.Requestor) (*Broker, error) {
		resp, err := req.RequestWith(ctx, r)
		if err != nil {
			return nil, err
		}
		found := resp.Coordinators[0]
		if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
			return nil, err
		}
		return c.Broker(int(found.NodeID)), nil
	})
}

// CommittedOffsets returns what a consumer group has committed, by topic and
// partition. Partitions without a commit are absent.
func (c *Cluster) CommittedOffsets(ctx context.Context, group string) (map[string]map[int32]int64, error) {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups = append(req.Groups, g)
	what := fmt.Sprintf("committed offsets of group %q", group)
	return request(ctx, c, what, func(ctx context.Context, r kmsg.Requestor) (map[string]map[int32]int64, error) {
		resp, err := req.RequestWith(ctx, r)
		if err != nil {
			return nil, err
		}
		if err := kerr.ErrorForCode(resp.Groups[0].ErrorCode); err != nil {
			return nil, err
		}
		offsets := map[string]map[int32]int64{}
		for _, t := range resp.Groups[0].Topics {
			offsets[t.Topic] = map[int32]int64{}
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
				}
				if p.Offset >= 0 {
					offsets[t.Topic][p.Partition] = p.Offset
				}
			}
		}
		return offsets, nil
	})
}

// EndOffsets returns the high watermark of every partition of a topic: the
// offset that its next record will have.
func (c *Cluster) EndOffsets(ctx context.Context, topic string) (map[int32]int64, error) {
	what := fmt.Sprintf("end offsets of %q", topic)
	return request(ctx, c, what, func(ctx context.Context, r kmsg.Requestor) (map[int32]int64, error) {
		return endOffsets(ctx, r, topic)
	})
}

func endOffsets(ctx context.Context, r kmsg.Requestor, topic string) (map[int32]int64, error) {
	partitions, err := partitionsOf(ctx, r, topic)
	if err != nil {
		return nil, err
	}
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, known := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition = known.Partition
		p.Timestamp = -1 // the end
		t.Partitions = append(t.Partitions, p)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, r)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("partition %d: %w", p.Partition, err)
			}
			offsets[p.Partition] = p.Offset
		}
	}
	return offsets, nil
}

// poll calls try until it has nothing left to wait for or fails. Another
// process has no way to tell when that is.
func poll(ctx context.Context, what string, try func(context.Context) (waitFor string, err error)) error {
	for {
		waitFor, err := try(ctx)
		if err != nil || waitFor == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafkacluster: wait for %s (%s): %w", what, waitFor, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
