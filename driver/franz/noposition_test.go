package franz

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// TestFault_A4_StartWithoutPositionIsReported: the group's positions are gone, and
// records came meanwhile. The start is as configured, and is reported to the handler.
func TestFault_A4_StartWithoutPositionIsReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		initial driver.InitialOffset
		start   int64
	}{{driver.OffsetNewest, 10}, {driver.OffsetOldest, 3}} {
		t.Run(c.initial.String(), func(t *testing.T) {
			h, _ := fakeHarness(t)
			seed(t, h.brokers, "t", 0, numbered(0, 10)...)
			require.NoError(t, h.Truncate(t.Context(), "t", 0, 3))
			cfg := consumerConfig(h.brokers)
			cfg.InitialOffset = c.initial
			r := newRecorder()
			m := start(t, Driver{}, cfg, r)
			want := []driver.NoPositionError{{Topic: "t", Start: c.start, Begin: 3}}
			r.wait(t, "the report", func() bool { return slices.Equal(r.starts, want) })
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			require.NoError(t, h.Send(t.Context(), "t", 0, driver.Record{Value: []byte("more")}))
			r.wait(t, "a record", func() bool { return len(r.records) > 0 })
			require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 11}}))
			m.stop(t)

			again := newRecorder()
			start(t, Driver{}, cfg, again)
			again.wait(t, "the assignment", func() bool { return len(again.live) == 1 })
			assert.Empty(t, again.starts, "reported although the group has a position")
		})
	}
}

// TestIncompleteAnswerStartsNoClaim: a claim begins again within its session. The coordinator
// leaves the partition out of its first answer, or is another broker. That is no answer that
// the position is 0.
func TestIncompleteAnswerStartsNoClaim(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*kmsg.OffsetFetchResponse, kmsg.OffsetFetchRequestGroup){
		"incomplete": func(*kmsg.OffsetFetchResponse, kmsg.OffsetFetchRequestGroup) {},
		"not coordinator": func(resp *kmsg.OffsetFetchResponse, asked kmsg.OffsetFetchRequestGroup) {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.ErrorCode = kerr.NotCoordinator.Code
			topic := kmsg.NewOffsetFetchResponseGroupTopic()
			topic.Topic, topic.TopicID, topic.Partitions = "t", asked.Topics[0].TopicID, []kmsg.OffsetFetchResponseGroupTopicPartition{p}
			group := kmsg.NewOffsetFetchResponseGroup()
			group.Group, group.Topics = asked.Group, []kmsg.OffsetFetchResponseGroupTopic{topic}
			resp.Groups = append(resp.Groups, group)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t)
			seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
			direct := outside.Of(cluster.ListenAddrs()...)
			require.NoError(t, direct.SetCommitted(within(t, patienceTest), "g", "t", 0, 5, "text"))
			var ended, answered atomic.Bool // the first claim; with answer
			var found atomic.Int32          // requests for the coordinator after the answer
			cluster.ControlKey(kmsg.OffsetFetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if !ended.Load() || answered.Swap(true) {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
				answer(resp, req.(*kmsg.OffsetFetchRequest).Groups[0])
				found.Store(0)
				return resp, nil, true
			})
			cluster.ControlKey(kmsg.FindCoordinator.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				found.Add(1)
				return nil, nil, false
			})
			r := newRecorder()
			var once sync.Once
			r.onRecord = func(*driver.Claim, driver.Record) { once.Do(func() { ended.Store(true); panic("boom") }) }
			start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
			r.wait(t, "the next claim", func() bool { return len(r.assigned) == 2 })
			r.waitRecords(t, 5)
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, int64(5), r.assigned[1].Start)
			assert.Equal(t, "text", r.assigned[1].Metadata)
			assert.Equal(t, name == "not coordinator", found.Load() > 0, "the coordinator was looked up")
		})
	}
}
