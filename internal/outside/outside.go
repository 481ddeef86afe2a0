// Package outside looks at a cluster, and changes it, by a client that has
// nothing in common with the drivers under test. A test's harness that embeds
// its [Client] has the parts of package drivertest that a broker can play.
package outside

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
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
	versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)
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
	return c.CreateTopicWith(ctx, topic, partitions, nil)
}

// CreateTopicWith is CreateTopic with more of the topic's configuration.
func (c Client) CreateTopicWith(ctx context.Context, topic string, partitions int32, configs map[string]string) error {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, -1
	set := func(name, value string) {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = name, &value
		t.Configs = append(t.Configs, config)
	}
	set("retention.ms", "-1")
	for name, value := range configs {
		set(name, value)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return err
	}
	return c.untilLed(ctx, topic, resp.Topics[0].TopicID, partitions)
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
	known, err := with(c, func(cl *kgo.Client) (metadata, error) { return ask(ctx, cl, topic) })
	if err != nil {
		return err
	}
	return c.untilLed(ctx, topic, known.TopicID, total)
}

// untilLed returns when every broker names a leader for all partitions of the topic that
// has this ID, and each leader serves that topic. A broker that is behind names an older
// topic of the same name, and takes records for it. Brokers know of their leadership
// before they act on it, and what is sent in between without asking for an
// acknowledgement is lost.
func (c Client) untilLed(ctx context.Context, topic string, id [16]byte, partitions int32) error {
	return until(ctx, func() (bool, error) {
		return with(c, func(cl *kgo.Client) (bool, error) {
			var last metadata
			for _, b := range cl.SeedBrokers() {
				m, err := ask(ctx, b, topic)
				if err != nil || m.TopicID != id || m.led() < partitions {
					return false, err
				}
				last = m
			}
			for _, p := range last.Partitions {
				if ok, err := serves(ctx, cl.Broker(int(p.Leader)), id, p.Partition); !ok {
					return false, err
				}
			}
			return true, nil
		})
	})
}

// serves reports whether a broker reads the log of a partition of the topic that has this
// ID. A position outside the log is an answer about that log, too.
func serves(ctx context.Context, leader *kgo.Broker, id [16]byte, partition int32) (bool, error) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.PartitionMaxBytes = partition, 1
	t := kmsg.NewFetchRequestTopic()
	t.TopicID, t.Partitions = id, append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	req.SessionEpoch = -1 // no session
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, leader)
	if err != nil {
		return false, err
	}
	err = kerr.ErrorForCode(resp.ErrorCode)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return true, nil
	}
	if kerr.IsRetriable(err) {
		return false, nil
	}
	return err == nil, err
}

// metadata is what a broker knows of a topic.
type metadata kmsg.MetadataResponseTopic

// ask asks a broker for a topic.
func ask(ctx context.Context, broker kmsg.Requestor, topic string) (metadata, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, broker)
	if err != nil {
		return metadata{}, err
	}
	return metadata(resp.Topics[0]), nil
}

// led returns for how many partitions the broker knows a leader.
func (m metadata) led() (n int32) {
	for _, p := range m.Partitions {
		if p.Leader >= 0 && p.ErrorCode == 0 {
			n++
		}
	}
	return n
}

// until polls reached, for changes that a cluster does not announce.
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
