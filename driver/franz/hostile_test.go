package franz

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/response"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/hostile/wire"
)

// TestFault_H6_FetchAnswerOfManyTopics: an answer to a fetch that claims 99.6 million topics
// costs no memory, is reported with its own reason, and does not end the consumer.
func TestFault_H6_FetchAnswerOfManyTopics(t *testing.T) {
	var hostile atomic.Bool
	p := meddled(t, func(x *wire.Exchange) {
		a, ok := x.Answer.(*kmsg.FetchResponse)
		if !ok || !hostile.Load() {
			return
		}
		a.Topics = nil
		require.True(t, a.IsFlexible())
		frame := x.Frame(a.AppendTo(nil))
		frame = binary.AppendUvarint(frame[:len(frame)-2], 99_600_000+1)
		x.Raw = append(frame, make([]byte, 96<<20)...)
		binary.BigEndian.PutUint32(x.Raw, uint32(len(x.Raw)-4))
	})
	m := start(t, Driver{}, consumerConfig([]string{p.Addr()}), newRecorder())
	m.wait(t, "assignment", func() bool { return len(m.recorder.assigned) > 0 })
	peak := wiretest.HeapPeak(t)
	hostile.Store(true)
	m.wait(t, "report", func() bool {
		return slices.ContainsFunc(m.errs, func(err error) bool {
			var de *driver.Error
			return errors.As(err, &de) && de.Code == "INVALID_RESPONSE"
		})
	})
	hostile.Store(false)
	assert.Less(t, peak(), 1<<30, "growth of the heap, the server's included")
	seed(t, []string{p.Addr()}, "t", 0, numbered(0, 1)...)
	m.waitRecords(t, 1)
}

// TestFault_H6_EveryVersionIsFollowed: the connections check the answers to all requests that
// the driver's clients send, also with a newer kgo. They do not check those of APIVersions, which
// may have an older version than the request, and are short.
func TestFault_H6_EveryVersionIsFollowed(t *testing.T) {
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
	var mu sync.Mutex
	asked := map[int16]bool{}
	cluster.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		asked[r.Key()] = true
		return nil, nil, false
	})
	for _, handled := range []int64{5, 7} { // the second consumer finds a position
		m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), newRecorder())
		m.waitRecords(t, 3)
		require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: m.claim(0), Offset: handled}}))
		require.NoError(t, m.stop(t))
	}
	p, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig(cluster.ListenAddrs()))
	require.NoError(t, err)
	acked := newAcks()
	require.NoError(t, p.Produce(t.Context(), &driver.Message{Topic: "t", Value: []byte("v"), Acker: ack{acked, 1}}))
	require.NoError(t, p.Close(within(t, patienceTest)))

	followed, most := maps.Collect(response.Newest()), versions()
	mu.Lock()
	defer mu.Unlock()
	assert.True(t, asked[response.LeaderEpoch] && asked[response.Produce], "all was asked")
	for key := range asked {
		newest, ok := followed[key]
		if key == response.APIVersions {
			continue
		}
		if assert.True(t, ok, "answers of %s are followed", kmsg.NameForKey(key)) {
			version, _ := most.LookupMaxKeyVersion(key)
			assert.LessOrEqual(t, version, newest, "version of %s", kmsg.NameForKey(key))
		}
	}
}
