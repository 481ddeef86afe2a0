// Package outside looks at a cluster, and changes it, by a client that has
// nothing in common with the drivers under test. A test's harness that embeds
// its [Client] has the parts of package drivertest that a broker can play.
package outside

import (
	"context"
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
	return c.untilLed(ctx, topic, [16]byte{}, total)
}

// untilLed returns when every broker names a leader for all partitions, and each
// leader serves. Brokers know of their leadership before they act on it, and what
// is sent in between without asking for an acknowledgement is lost.
//
// A broker may name a topic that was deleted, and take records for it, after the
// controller has created its successor: only what has the ID counts, unless that is zero.
func (c Client) untilLed(ctx context.Context, topic string, id [16]byte, partitions int32) error {
	err := until(ctx, func() (bool, error) {
		return with(c, func(cl *kgo.Client) (bool, error) {
			for _, b := range cl.SeedBrokers() {
				if led, err := ledBy(ctx, b, topic, id); err != nil || led < partitions {
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
func ledBy(ctx context.Context, b *kgo.Broker, topic string, id [16]byte) (led int32, err error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := b.Request(ctx, req)
	if err != nil {
		return 0, err
	}
	answer := resp.(*kmsg.MetadataResponse).Topics[0]
	if id != [16]byte{} && answer.TopicID != id {
		return 0, nil
	}
	for _, p := range answer.Partitions {
		if p.Leader >= 0 && p.ErrorCode == 0 {
			led++
		}
	}
	return led, nil
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
