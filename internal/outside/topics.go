package outside

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopic deletes a topic, and returns when no broker names it.
func (c Client) DeleteTopic(ctx context.Context, topic string) error {
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = &topic
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames, req.Topics, req.TimeoutMillis = []string{topic}, append(req.Topics, t), 10_000
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		return with(c, func(cl *kgo.Client) (bool, error) {
			for _, b := range cl.SeedBrokers() {
				if m, err := ask(ctx, b, topic); err != nil || m.led() > 0 {
					return false, err
				}
			}
			return true, nil
		})
	})
}

// RecreateTopic deletes a topic and creates it again.
func (c Client) RecreateTopic(ctx context.Context, topic string, partitions int32) error {
	if err := c.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	return c.CreateTopic(ctx, topic, partitions)
}

// SetTopicConfig changes one setting of a topic.
func (c Client) SetTopicConfig(ctx context.Context, topic, name, value string) error {
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = name, &value
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	resource.Configs = append(resource.Configs, config)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Resources[0].ErrorCode)
}
