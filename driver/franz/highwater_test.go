package franz

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// waitEnd waits until the high watermark of a claim is end.
func waitEnd(t *testing.T, m *running, c *driver.Claim, end int64) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.Equal(t, end, m.HighWatermark(c), "high watermark")
	}, patienceTest, 5*time.Millisecond)
}

// TestFault_D1_HighWatermarkOfAPausedClaim: the high watermark follows the log, also
// while a claim of the same topic on another broker gets no answer.
func TestFault_D1_HighWatermarkOfAPausedClaim(t *testing.T) {
	t.Parallel()
	assert.LessOrEqual(t, askEnds+endAge+requestTimeout, 30*time.Second, "age of an end")
	cluster := fake(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	brokers := cluster.ListenAddrs()
	for p := range int32(2) {
		require.NoError(t, cluster.MoveTopicPartition("t", p, p))
		seed(t, brokers, "t", p, numbered(0, 10)...)
	}
	r := newRecorder()
	var watch sync.WaitGroup
	t.Cleanup(watch.Wait)
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 20)
	paused := r.claim(0)
	m.Pause(r.claim(0), r.claim(1))
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			for _, p := range topic.Partitions {
				if p.Partition == 1 {
					cluster.SleepControl(func() { <-silent })
				}
			}
		}
		return nil, nil, false
	})
	seed(t, brokers, "t", 0, numbered(10, 200)...)
	asker := newEndAsker(m.claims, m.leaders, m.core)
	watch.Go(func() { asker.run(m.watching, 20*time.Millisecond, 50*time.Millisecond) })
	waitEnd(t, m, paused, 200)
	seed(t, brokers, "t", 0, numbered(200, 300)...)
	waitEnd(t, m, paused, 300)
}

// TestFault_D1_HighWatermarkBehindAnOpenTransaction: the records of an open
// transaction count, though they cannot be read yet.
func TestFault_D1_HighWatermarkBehindAnOpenTransaction(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	require.NoError(t, err)
	defer cl.Close()
	require.NoError(t, cl.BeginTransaction())
	var records []*kgo.Record
	for i := range 5000 {
		records = append(records, &kgo.Record{Value: fmt.Append(nil, i)})
	}
	require.NoError(t, cl.ProduceSync(t.Context(), records...).FirstErr())
	waitEnd(t, m, r.claim(0), 5010)
	assert.Len(t, r.values(), 10, "records of an open transaction were delivered")
	require.NoError(t, cl.EndTransaction(context.Background(), kgo.TryAbort))
}
