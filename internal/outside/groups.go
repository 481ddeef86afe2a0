package outside

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

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
