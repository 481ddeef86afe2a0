package wiretest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinBeside has a member join the group, by hand, that subscribes to topics. The
// function that it returns waits for what it is assigned, and leaves.
func JoinBeside(t *testing.T, cluster *kfake.Cluster, strategy string, topics ...string) func() error {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	member := kmsg.NewConsumerMemberMetadata()
	member.Version, member.Topics = 1, topics
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "g", 10000, 10000, "consumer"
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = strategy, member.AppendTo(nil)
	req.Protocols = append(req.Protocols, protocol)
	once := func() error {
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil {
			return err
		}
		if resp.ErrorCode == kerr.MemberIDRequired.Code {
			req.MemberID = resp.MemberID
			if resp, err = req.RequestWith(t.Context(), cl); err != nil {
				return err
			}
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return fmt.Errorf("join: %w", err)
		}
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = "g", resp.MemberID, resp.Generation
		sync.ProtocolType, sync.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr(strategy)
		synced, err := sync.RequestWith(t.Context(), cl)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(synced.ErrorCode); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		if strategy != "cooperative-sticky" && !bytes.Contains(synced.MemberAssignment, []byte("t")) {
			return fmt.Errorf("nothing assigned")
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		err := once()
		for errors.Is(err, kerr.RebalanceInProgress) { // a cooperative member has given something up
			err = once()
		}
		done <- err
	}()
	return func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("no assignment")
		}
	}
}
