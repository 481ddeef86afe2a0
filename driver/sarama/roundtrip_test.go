package sarama

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

func TestProduceAndConsume(t *testing.T) {
	cluster := fake(t)
	brokers := cluster.ListenAddrs()

	p, err := Driver{}.OpenProducer(t.Context(), producerConfig(brokers))
	require.NoError(t, err)
	answers := newAcks()
	messages := make([]*driver.Message, 100)
	for i := range messages {
		messages[i] = &driver.Message{
			Topic: "t", Partition: -1, Key: []byte("k"), Value: fmt.Append(nil, i),
			Headers: []driver.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}},
			Acker:   ack{answers, i},
		}
		require.NoError(t, p.Produce(t.Context(), messages[i]))
	}
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i, m := range messages {
		require.Equal(t, []error{nil}, answers.of(i), "acknowledgements of message %d", i)
		assert.EqualValues(t, i, m.Offset, "offset of message %d", i)
		assert.Zero(t, m.Partition, "partition of message %d", i)
	}
	require.NoError(t, p.Close(within(t, patienceTest)))

	var headers []driver.Header
	r := newRecorder()
	r.onRecord = func(_ *driver.Claim, rec driver.Record) { headers = rec.Headers }
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 100)
	assert.Equal(t, numbered(0, 100), r.values())
	assert.Equal(t, []driver.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}}, headers)
	c := r.claim(0)
	require.NoError(t, m.Commit(within(t, time.Second), []driver.Mark{{Claim: c, Offset: 40}}))
	assert.Equal(t, int64(100), m.HighWatermark(c))
	began := time.Now()
	require.NoError(t, m.stop(t), "Run")
	t.Logf("closed after %v", time.Since(began))
	assert.Len(t, r.revoked, 1)
	assert.Empty(t, r.lost)

	again := newRecorder()
	start(t, Driver{}, consumerConfig(brokers), again)
	again.waitRecords(t, 60)
	assert.Equal(t, numbered(40, 100), again.values(), "after the restart")
	assert.Equal(t, int64(40), again.claim(0).Start, "after the restart")
}

func TestCommitInsideRevoke(t *testing.T) {
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	var m *running
	r.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
		assert.NoError(t, m.Commit(ctx, []driver.Mark{{Claim: cs[0], Offset: 7}}))
	}
	m = start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	m.stop(t)
	assert.Equal(t, int64(7), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
	assert.Empty(t, cluster.GroupInfo("g").Members, "members that are left in the group")
}
