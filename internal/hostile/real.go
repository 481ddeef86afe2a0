//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// stored writes a batch to partition 0 of a topic on a real Kafka, which accepts
// it, and harmless records to partition 2.
func stored(records func() []byte) func(*stage, *kafkacluster.Cluster) error {
	return func(s *stage, c *kafkacluster.Cluster) error {
		ctx, cancel := context.WithTimeout(context.Background(), setUpWithin)
		defer cancel()
		s.Hostile = c.Bootstrap()
		topic := fmt.Sprintf("t%d", time.Now().UnixNano())
		s.Topics = []string{topic}
		// The batches are dated in 1970: retention would remove them.
		settings := map[string]string{"max.message.bytes": "10000000", "retention.ms": "-1"}
		if err := c.CreateTopic(ctx, topic, 3, settings); err != nil {
			return err
		}
		if err := seed(s.Hostile, topic, 2, 100); err != nil {
			return err
		}
		cl, err := c.Client(kgo.MaxVersions(kversion.V3_9_0())) // later ones name a topic by its ID
		if err != nil {
			return err
		}
		defer cl.Close()
		return produce(ctx, cl, topic, records())
	}
}

// produce sends a batch as it is.
func produce(ctx context.Context, cl *kgo.Client, name string, b []byte) error {
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = 0, b
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = name, append(topic.Partitions, part)
	req := kmsg.NewProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 30_000, append(req.Topics, topic)
	meta := kmsg.NewPtrMetadataRequest()
	brokers, err := meta.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	resp, err := cl.Broker(int(brokers.Brokers[0].NodeID)).Request(ctx, &req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.ProduceResponse).Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("the broker refuses the batch: %w", err)
			}
		}
	}
	return nil
}
