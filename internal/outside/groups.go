package outside

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Committed returns the offset that a group has committed for a partition, or -1.
func (c Client) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	p, err := c.committed(ctx, group, topic, partition)
	return p.Offset, err
}

// CommittedMetadata returns what a group has committed beside that offset.
func (c Client) CommittedMetadata(ctx context.Context, group, topic string, partition int32) (string, error) {
	p, err := c.committed(ctx, group, topic, partition)
	if err != nil || p.Metadata == nil {
		return "", err
	}
	return *p.Metadata, nil
}

func (c Client) committed(ctx context.Context, group, topic string, partition int32) (at kmsg.OffsetFetchResponseTopicPartition, err error) {
	at.Offset = -1
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return at, err
	}
	// For a group that it does not know Kafka answers that nothing is committed,
	// and kfake that there is no such group.
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return at, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			return p, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return at, nil
}

// SetCommitted commits an offset and metadata for a group without members.
func (c Client) SetCommitted(ctx context.Context, group, topic string, partition int32, offset int64, metadata string) error {
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = partition, offset, &metadata
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	req.Topics = append(req.Topics, t)
	resp, err := send(ctx, c, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// EndSessions has a group forget its members, whatever protocol they have.
func (c Client) EndSessions(ctx context.Context, group string) error {
	if ended, err := c.endEpochs(ctx, group); ended {
		return err
	}
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

// endEpochs is EndSessions for the ConsumerProtocol. It reports whether there were members.
func (c Client) endEpochs(ctx context.Context, group string) (ended bool, err error) {
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Groups = []string{group}
	described, err := send(ctx, c, describe)
	if err != nil {
		return false, err // the brokers may not have the protocol
	}
	for _, m := range described.Groups[0].Members {
		leave := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		leave.Group, leave.MemberID, leave.MemberEpoch = group, m.MemberID, -1
		left, err := send(ctx, c, leave)
		if err == nil {
			err = kerr.ErrorForCode(left.ErrorCode)
		}
		if err != nil {
			return true, err
		}
	}
	return len(described.Groups[0].Members) > 0, nil
}
