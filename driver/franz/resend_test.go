package franz

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// pointer is a partitioner that chooses the partition to which it points.
type pointer struct{ atomic.Int64 }

func (p *pointer) ForTopic(string) kgo.TopicPartitioner    { return p }
func (p *pointer) RequiresConsistency(*kgo.Record) bool    { return false }
func (p *pointer) Partition(*kgo.Record, int) (choice int) { return int(p.Load()) }

// TestMessagesStayWithTheirPartition: messages that ask for no partition were given one. A batch
// before them is refused, so they are sent again. Meanwhile the partitioner chooses another
// partition, where a later message is.
func TestMessagesStayWithTheirPartition(t *testing.T) {
	h, cluster := fakeHarness(t)
	require.NoError(t, h.CreateTopic(t.Context(), "two", 2))
	var to pointer
	cfg := producerConfig(h.brokers)
	cfg.Idempotent = false // one batch in flight
	p := openWith(t, cfg, kgo.RecordPartitioner(&to))
	message := func(value string) *driver.Message {
		return &driver.Message{Topic: "two", Partition: -1, Value: []byte(value)}
	}
	require.NoError(t, send(t, p, message("before")))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "two", Err: kerr.TopicAuthorizationFailed, Count: 1})
	began, appended := slowLog(cluster)
	refused := hand(t, p, message("refused"))
	<-began
	var behind []*driver.Message
	for i := range 4 {
		behind = append(behind, message(fmt.Sprint("behind ", i)))
	}
	answers := hand(t, p, behind...)
	to.Store(1)
	appended()
	require.NoError(t, p.Flush(within(t, patienceTest)))
	assert.ErrorIs(t, refused.of(0)[0], kerr.TopicAuthorizationFailed)
	for i, m := range behind {
		assert.Equal(t, []error{nil}, answers.of(i))
		assert.Equal(t, int32(0), m.Partition, "the partition of a message that was sent again")
	}
}
