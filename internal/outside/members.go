package outside

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Membership is what the coordinator of a group says of its members. It stays the same
// while there is no rebalance.
type Membership struct {
	State      string
	Generation int32
	Members    []string // their IDs, in order
}

// Membership returns the members of a group that has some. No request gives their
// generation, so it sends heartbeats in the name of the first, of which only one of the
// right generation is accepted. Such a heartbeat also makes its session begin again.
func (c Client) Membership(ctx context.Context, group string) (m Membership, err error) {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{group}
	described, err := send(ctx, c, describe)
	if err != nil {
		return m, err
	}
	g := described.Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
		return m, err
	}
	if len(g.Members) == 0 {
		return m, fmt.Errorf("group %q has no members", group)
	}
	m.State = g.State
	for _, member := range g.Members {
		m.Members = append(m.Members, member.MemberID)
	}
	slices.Sort(m.Members)
	const most = 1000
	for m.Generation = range int32(most) {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID, beat.Generation = group, m.Members[0], m.Generation
		answer, err := send(ctx, c, beat)
		if err != nil {
			return m, err
		}
		if err := kerr.ErrorForCode(answer.ErrorCode); !errors.Is(err, kerr.IllegalGeneration) {
			return m, err
		}
	}
	return m, fmt.Errorf("no generation of group %q below %d is accepted", group, most)
}
