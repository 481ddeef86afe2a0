package franz

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// cutBack makes the leaders of cluster answer that the epoch of every record ended at an
// offset.
func cutBack(cluster *kfake.Cluster, at int64) {
	cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, topic := range req.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, p.LeaderEpoch, at
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// TestLogThatWasCutBackIsNoticed: the position of the group is within the log, but the log
// is another one from offset 3 on (KIP-320).
func TestLogThatWasCutBackIsNoticed(t *testing.T) {
	t.Parallel()
	for _, policy := range []driver.OutOfRange{driver.OutOfRangeStop, driver.OutOfRangeOldest, driver.OutOfRangeNewest} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t)
			seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.OutOfRange = policy
			r := newRecorder()
			m := start(t, Driver{}, cfg, r)
			r.waitRecords(t, 10)
			require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 5}}))
			m.stop(t)
			require.NotEqual(t, int32(-1), cluster.GroupInfo("g").Commits["t"][0].LeaderEpoch, "the epoch that is committed")

			cutBack(cluster, 3)
			again := newRecorder()
			m = start(t, Driver{}, cfg, again)
			if policy == driver.OutOfRangeStop {
				wantError(t, m.ranOut(t), "OFFSET_OUT_OF_RANGE", true)
				assert.Len(t, again.lost, 1)
				return
			}
			want := map[driver.OutOfRange]int64{driver.OutOfRangeOldest: 3, driver.OutOfRangeNewest: 10}[policy]
			again.wait(t, "a claim behind the gap", func() bool { return len(again.assigned) == 2 && len(again.live) == 1 })
			assert.Equal(t, want, again.claim(0).Start)
			again.mu.Lock()
			defer again.mu.Unlock()
			var gap *driver.DataLossError
			if assert.ErrorAs(t, errors.Join(again.errs...), &gap) {
				assert.Equal(t, driver.DataLossError{Topic: "t", From: 5, To: want, Begin: 0, End: 10}, *gap)
			}
		})
	}
}
