package wiretest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// openGroup opens the view of a group from outside, and closes it at the end.
func (s Suite) openGroup(t *testing.T, cfg driver.ConsumerConfig) driver.Group {
	t.Helper()
	g, err := s.Driver.(driver.GroupReader).OpenGroup(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, g.Close(context.Background())) })
	return g
}

// GroupBesideASilentLeader reads a group of which one partition is led by a broker that
// does not answer: the other one is read, and the silence has an error of its own.
func (s Suite) GroupBesideASilentLeader(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	brokers := cluster.ListenAddrs()
	for p := range int32(2) {
		require.NoError(t, cluster.MoveTopicPartition("t", p, p))
		require.NoError(t, outside.Of(brokers...).Send(testkit.Within(t, patience), "t", p, numbered("v", 10)...))
	}
	g := s.openGroup(t, s.Config(brokers))
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			for _, p := range topic.Partitions {
				if p.Partition == 1 {
					return nil, nil, true // without an answer
				}
			}
		}
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	all, err := g.Read(ctx)
	assert.Less(t, time.Since(began), 3*time.Second)
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, driver.GroupPartition{Topic: "t", Partition: 0, Committed: -1, Begin: 0, End: 10}, all[0])
	require.ErrorIs(t, all[1].Err, context.DeadlineExceeded)
	all[1].Err = nil
	assert.Equal(t, driver.GroupPartition{Topic: "t", Partition: 1, Committed: -1, Begin: -1, End: -1}, all[1])
}

// GroupWhoseCoordinatorIsAway reads and commits for a group whose coordinator moves,
// and then loads, before it answers.
func (s Suite) GroupWhoseCoordinatorIsAway(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	brokers := cluster.ListenAddrs()
	require.NoError(t, outside.Of(brokers...).Send(testkit.Within(t, patience), "t", 0, numbered("v", 10)...))
	g := s.openGroup(t, s.Config(brokers))
	var fetches, commits atomic.Int32
	refusal := func(n int32) (int16, bool) {
		switch n {
		case 1:
			return kerr.NotCoordinator.Code, true
		case 2, 3:
			return kerr.CoordinatorLoadInProgress.Code, true
		}
		return 0, false
	}
	cluster.ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		code, refused := refusal(fetches.Add(1))
		req := r.(*kmsg.OffsetFetchRequest)
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		resp.ErrorCode = code
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, code
			resp.Groups = append(resp.Groups, rg)
		}
		return resp, nil, refused
	})
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		code, refused := refusal(commits.Add(1))
		req := r.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, refused
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, g.Commit(ctx, []driver.GroupMark{{Topic: "t", Offset: 4, Metadata: "m"}}))
	all, err := g.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, []driver.GroupPartition{{Topic: "t", Committed: 4, Metadata: "m", Begin: 0, End: 10}}, all)
	assert.Equal(t, []int32{4, 4}, []int32{fetches.Load(), commits.Load()}, "requests for positions and commits")
}
