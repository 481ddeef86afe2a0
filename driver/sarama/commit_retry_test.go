package sarama

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// TestCommitIsTriedAgain: a coordinator fails for a reason that may pass, or leaves the
// partition out of its answer.
func TestCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(*kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse)
	}{
		{"UNKNOWN_SERVER_ERROR", func(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) {
			for _, asked := range req.Topics {
				topic := kmsg.NewOffsetCommitResponseTopic()
				topic.Topic = asked.Topic
				for _, p := range asked.Partitions {
					one := kmsg.NewOffsetCommitResponseTopicPartition()
					one.Partition, one.ErrorCode = p.Partition, kerr.UnknownServerError.Code
					topic.Partitions = append(topic.Partitions, one)
				}
				resp.Topics = append(resp.Topics, topic)
			}
		}},
		{"an incomplete answer", func(*kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t)
			seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
			r := newRecorder()
			m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
			r.waitRecords(t, 10)
			var failed atomic.Int32
			cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
				if failed.Add(1) > 2 {
					return nil, nil, false
				}
				cluster.KeepControl()
				resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
				c.answer(req.(*kmsg.OffsetCommitRequest), resp)
				return resp, nil, true
			})
			require.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: r.claim(0), Offset: 5}}))
			assert.EqualValues(t, 3, failed.Load(), "attempts")
			at, err := outside.Of(cluster.ListenAddrs()...).Committed(t.Context(), "g", "t", 0)
			assert.NoError(t, err)
			assert.EqualValues(t, 5, at)
		})
	}
}
