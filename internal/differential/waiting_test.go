package differential

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// beatAfter is how long after its SyncGroup a member of kfake gets a heartbeat of keepWaiting.
const beatAfter = 200 * time.Millisecond

// keepWaiting sends one heartbeat in the name of each member that asks for its assignment.
// Kafka takes a member that waits for its assignment as alive
// (ClassicGroupMember.hasSatisfiedHeartbeat). Kfake counts its session timeout from the answer to
// its join, removes it and never answers its SyncGroup. This would happen: Run of a static member
// ends between the answer to its join as the leader and its SyncGroup; it does not leave the
// group; the sessions of all members then end at the same time, and if kfake removes the leader
// last, the others wait without an answer. With the heartbeat their sessions end later than the
// leader's, and kfake answers them as Kafka does, with REBALANCE_IN_PROGRESS.
func keepWaiting(t testing.TB, c *kfake.Cluster) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var beats sync.WaitGroup
	watch := c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.SyncGroup}, Observe: true, Count: -1,
		When: func(r kmsg.Request) bool {
			sync := r.(*kmsg.SyncGroupRequest)
			beat := kmsg.NewPtrHeartbeatRequest()
			beat.Group, beat.MemberID, beat.InstanceID, beat.Generation = sync.Group, sync.MemberID, sync.InstanceID, sync.Generation
			beats.Go(func() {
				select {
				case <-time.After(beatAfter):
					_, _ = beat.RequestWith(ctx, client) // the member may have gone
				case <-ctx.Done():
				}
			})
			return false
		},
	})
	t.Cleanup(func() {
		watch.Remove()
		cancel()
		beats.Wait()
		client.Close()
	})
}

// TestWaitingMemberIsAnswered: the leader of a group is silent, and a member waits for its
// assignment. It is answered when the session of the leader has ended.
func TestWaitingMemberIsAnswered(t *testing.T) {
	t.Parallel()
	c := fakeCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	var groups sync.WaitGroup
	for i := range 8 { // without keepWaiting chance decides in each
		members := [2]static{newStatic(t, c, i, "leader"), newStatic(t, c, i, "other")}
		groups.Go(func() {
			code, err := waitForLeader(ctx, members[0], members[1])
			assert.NoError(t, err)
			assert.Equal(t, kerr.RebalanceInProgress, kerr.ErrorForCode(code))
		})
	}
	groups.Wait()
}

// waitForLeader lets two members join a group, and returns what other is answered when it asks
// for its assignment.
func waitForLeader(ctx context.Context, leader, other static) (code int16, err error) {
	led, err := leader.join(ctx, "")
	if err != nil {
		return 0, err
	}
	var joined *kmsg.JoinGroupResponse
	var failed error
	var joining sync.WaitGroup
	joining.Go(func() { joined, failed = other.join(ctx, "") })
	for first := led.Generation; err == nil && led.Generation == first; { // until other has begun to join
		led, err = leader.join(ctx, led.MemberID)
	}
	joining.Wait()
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.InstanceID, req.MemberID, req.Generation = other.group, &other.instance, joined.MemberID, joined.Generation
	req.ProtocolType, req.Protocol = joined.ProtocolType, joined.Protocol
	resp, err := req.RequestWith(ctx, other.client)
	if err != nil {
		return 0, err
	}
	return resp.ErrorCode, nil
}

// A static is a static member with a client of its own: kfake answers the requests of a
// connection one after the other.
type static struct {
	client          *kgo.Client
	group, instance string
}

func newStatic(t testing.TB, c *kfake.Cluster, group int, instance string) static {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return static{client, fmt.Sprintf("waiting-%d", group), instance}
}

func (s static) join(ctx context.Context, memberID string) (*kmsg.JoinGroupResponse, error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.InstanceID, req.MemberID, req.ProtocolType = s.group, &s.instance, memberID, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 6000, 12000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "range"
	req.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, err
	}
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}
