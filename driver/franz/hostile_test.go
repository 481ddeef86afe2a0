package franz

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/response"
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
	peak := heapPeak(t)
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

// TestFault_H6_EveryVersionIsFollowed: no request of a client is newer than the answers that its connections
// can check, also with a newer kgo.
func TestFault_H6_EveryVersionIsFollowed(t *testing.T) {
	max := versions()
	for key := range int16(apiKeys) {
		newest, followed := response.Newest(key)
		asked, known := max.LookupMaxKeyVersion(key)
		if followed && known {
			assert.LessOrEqual(t, asked, newest, "version of API %d", key)
		}
	}
}
