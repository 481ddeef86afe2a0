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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// seekTo moves the positions of claims to an offset.
func (m *member) seekTo(ctx context.Context, offset int64, claims ...*driver.Claim) error {
	var to []driver.Mark
	for _, c := range claims {
		to = append(to, driver.Mark{Claim: c, Offset: offset})
	}
	return m.Consumer.(driver.Seeker).Seek(ctx, to)
}

// claim waits for a claim of a partition of "t" that is none of others, and returns it.
func (m *member) claim(t *testing.T, p int32, others ...*driver.Claim) (found *driver.Claim) {
	t.Helper()
	m.wait(t, "a claim", func() bool {
		for c := range m.live {
			found = c
			for _, other := range others {
				if c == other {
					found = nil
				}
			}
			if found != nil && c.Partition == p {
				return true
			}
		}
		return false
	})
	return found
}

// got returns the offsets that were delivered under a claim.
func (m *member) got(c *driver.Claim) (offsets []int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		if r.claim == c {
			offsets = append(offsets, r.offset)
		}
	}
	return offsets
}

// failure returns the error of the only mark of a Seek.
func failure(t *testing.T, err error) error {
	t.Helper()
	var ce *driver.CommitError
	require.ErrorAs(t, err, &ce)
	require.Len(t, ce.Failed, 1)
	return ce.Failed[0].Err
}

// seeking starts a member that has ten records and a position of 10.
func (s Suite) seeking(t *testing.T, cluster *kfake.Cluster, protocol driver.GroupProtocol) (m *member, old *driver.Claim, direct outside.Client) {
	t.Helper()
	direct = outside.Of(cluster.ListenAddrs()...)
	ctx := testkit.Within(t, patience)
	require.NoError(t, direct.Send(ctx, "t", 0, numbered("v", 10)...))
	cfg := s.Config(cluster.ListenAddrs())
	if protocol == driver.ConsumerProtocol {
		cfg.GroupProtocol, cfg.BalanceStrategies, cfg.HeartbeatInterval = protocol, nil, 0
	}
	m = s.start(t, cfg, nil)
	old = m.waitRecords(t, 10)
	require.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: old, Offset: 10}}))
	return m, old, direct
}

func wantPosition(t *testing.T, direct outside.Client, want int64) {
	t.Helper()
	at, err := direct.Committed(testkit.Within(t, patience), "g", "t", 0)
	require.NoError(t, err)
	require.Equal(t, want, at, "position of the group")
}

// commits answers the commits that move a position back to 3. Each is answered as f says, which
// is called with the number of commits before it.
func commits(cluster *kfake.Cluster, f func(before int32) (answered bool, code int16)) {
	var before atomic.Int32
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.OffsetCommitRequest)
		if req.Topics[0].Partitions[0].Offset != 3 {
			return nil, nil, false
		}
		answered, code := f(before.Add(1) - 1)
		if !answered {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		if code < 0 { // without the partition
			return resp, nil, true
		}
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
		return resp, nil, true
	})
}

// SeekIsTriedAgain: a coordinator moves, loads, fails for a reason that may pass, and leaves the
// partition out of its answer, before it takes the position.
func (s Suite) SeekIsTriedAgain(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t)
	m, old, direct := s.seeking(t, cluster, driver.ClassicProtocol)
	codes := []int16{kerr.NotCoordinator.Code, kerr.CoordinatorLoadInProgress.Code, kerr.UnknownServerError.Code, -1}
	commits(cluster, func(before int32) (bool, int16) {
		if int(before) < len(codes) {
			return true, codes[before]
		}
		return false, 0
	})
	require.NoError(t, m.seekTo(testkit.Within(t, patience), 3, old))
	wantPosition(t, direct, 3)
	now := m.claim(t, 0, old)
	require.Equal(t, int64(3), now.Start)
	m.wait(t, "the records from 3 on", func() bool { return len(m.records) == 17 })
	require.Equal(t, []int64{3, 4, 5, 6, 7, 8, 9}, m.got(now))
}

// SeekThatIsRefused: a coordinator refuses a position permanently, for long, and because it does
// not know the member. The claim begins again where it was.
func (s Suite) SeekThatIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		code  int16
		check func(t *testing.T, err error)
	}{
		{"GROUP_AUTHORIZATION_FAILED", kerr.GroupAuthorizationFailed.Code, func(t *testing.T, err error) {
			assert.ErrorIs(t, err, driver.ErrPermanent)
		}},
		{"an incomplete answer", -1, func(t *testing.T, err error) {
			assert.NotErrorIs(t, err, driver.ErrClaimEnded)
			assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
		}},
		{"UNKNOWN_MEMBER_ID", kerr.UnknownMemberID.Code, func(t *testing.T, err error) {
			assert.ErrorIs(t, err, driver.ErrClaimEnded)
			assert.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(err))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t)
			m, old, direct := s.seeking(t, cluster, driver.ClassicProtocol)
			commits(cluster, func(int32) (bool, int16) { return true, c.code })
			c.check(t, failure(t, m.seekTo(testkit.Within(t, patience), 3, old)))
			now := m.claim(t, 0, old)
			require.Equal(t, int64(10), now.Start)
			wantPosition(t, direct, 10)
		})
	}
}

// SeekWithALateAnswer: a coordinator takes a position, and answers when the context of Seek has
// ended. The next claim begins there.
func (s Suite) SeekWithALateAnswer(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t)
	m, old, direct := s.seeking(t, cluster, driver.ClassicProtocol)
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() { time.Sleep(2 * time.Second) })
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := failure(t, m.seekTo(ctx, 3, old))
	assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	now := m.claim(t, 0, old)
	require.Equal(t, int64(3), now.Start)
	wantPosition(t, direct, 3)
}

// SeekWithALostAnswer: a coordinator gets a position, the connection breaks, and the context of
// Seek ends before the coordinator is back. The attempt must not count once the next claim has
// begun, so the group must not know its member any longer.
func (s Suite) SeekWithALostAnswer(t *testing.T, protocol driver.GroupProtocol) {
	t.Parallel()
	cluster := s.Fake(t)
	m, old, direct := s.seeking(t, cluster, protocol)
	var attempt atomic.Pointer[kmsg.OffsetCommitRequest]
	var arrived atomic.Bool // what was sent in the first attempt
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.OffsetCommitRequest)
		if req.Topics[0].Partitions[0].Offset != 3 || arrived.Load() {
			return nil, nil, false
		}
		attempt.Store(req)
		return nil, assert.AnError, true // the connection breaks
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := failure(t, m.seekTo(ctx, 3, old))
	assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	now := m.claim(t, 0, old)
	require.Equal(t, int64(10), now.Start)

	arrived.Store(true)
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V3_8_0())) // which names topics
	require.NoError(t, err)
	defer cl.Close()
	resp, err := attempt.Load().RequestWith(testkit.Within(t, patience), cl)
	require.NoError(t, err)
	assert.Equal(t, kerr.UnknownMemberID.Code, resp.Topics[0].Partitions[0].ErrorCode)
	wantPosition(t, direct, 10)
}

// BrokenOffsets: a leader answers look-ups of offsets with other partitions and with offsets that
// are none. Each is an error of its partition.
func (s Suite) BrokenOffsets(t *testing.T) {
	t.Parallel()
	cluster := s.Fake(t)
	direct := outside.Of(cluster.ListenAddrs()...)
	require.NoError(t, direct.Send(testkit.Within(t, patience), "t", 0, numbered("v", 10)...))
	g := s.openGroup(t, s.Config(cluster.ListenAddrs()))
	var current atomic.Int32
	cases := []struct {
		name   string
		asked  func(timestamp int64) bool // which question is answered wrongly
		change func(*kmsg.ListOffsetsResponseTopicPartition)
		want   driver.FoundOffsets
		code   string
	}{
		{"another partition", func(int64) bool { return true }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.Partition = 7 },
			driver.FoundOffsets{Begin: -1, End: -1, At: -1}, ""},
		{"a negative end", func(at int64) bool { return at == -1 }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.Offset = -1 },
			driver.FoundOffsets{Begin: -1, End: -1, At: -1}, "INVALID_RESPONSE"},
		{"a negative beginning", func(at int64) bool { return at == -2 }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.Offset = -3 },
			driver.FoundOffsets{Begin: -1, End: -1, At: -1}, "INVALID_RESPONSE"},
		{"a negative offset", func(at int64) bool { return at >= 0 }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.Offset = -2 },
			driver.FoundOffsets{Begin: 0, End: 10, At: -1}, "INVALID_RESPONSE"},
		{"no offset", func(at int64) bool { return at >= 0 }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.Offset = -1 },
			driver.FoundOffsets{Begin: 0, End: 10, At: 10}, ""},
		{"a refusal", func(at int64) bool { return at >= 0 }, func(p *kmsg.ListOffsetsResponseTopicPartition) { p.ErrorCode = kerr.TopicAuthorizationFailed.Code },
			driver.FoundOffsets{Begin: 0, End: 10, At: -1}, "TOPIC_AUTHORIZATION_FAILED"},
	}
	cluster.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		c := cases[current.Load()]
		return offsetsOf(r.(*kmsg.ListOffsetsRequest), c.asked, c.change), nil, true
	})
	for i, c := range cases {
		current.Store(int32(i))
		all, err := g.(driver.OffsetFinder).FindOffsets(testkit.Within(t, patience), map[string][]int32{"t": nil}, time.UnixMilli(1000))
		require.NoError(t, err, c.name)
		require.Len(t, all, 1, c.name)
		got := all[0]
		switch {
		case c.want.At >= 0:
			require.NoError(t, got.Err, c.name)
		case c.code == "": // each client has its own word for an answer that is incomplete
			require.Error(t, got.Err, c.name)
		default:
			require.Equal(t, c.code, testkit.Code(got.Err), c.name)
		}
		got.Err, c.want.Topic = nil, "t"
		if c.want.End < 0 { // a driver may keep the end of the log that is known
			got.Begin, got.End = -1, -1
		}
		require.Equal(t, c.want, got, c.name)
	}
}

// offsetsOf answers for a log of the offsets 0 to 9, whose record 4 is the first as late as any
// time. Answers to what is asked are changed.
func offsetsOf(req *kmsg.ListOffsetsRequest, asked func(int64) bool, change func(*kmsg.ListOffsetsResponseTopicPartition)) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, topic := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = topic.Topic
		for _, p := range topic.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			switch p.Timestamp {
			case -1:
				rp.Offset = 10
			case -2:
				rp.Offset = 0
			default:
				rp.Offset = 4
			}
			if asked(p.Timestamp) {
				change(&rp)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
