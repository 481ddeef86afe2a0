package sarama

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// waitEnd waits until the high watermark of a claim is end.
func waitEnd(t *testing.T, m *running, c *driver.Claim, end int64) {
	t.Helper()
	for began := time.Now(); m.HighWatermark(c) != end; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patienceTest {
			t.Fatalf("the high watermark stays %d, want %d", m.HighWatermark(c), end)
		}
	}
}

// TestFault_D1_HighWatermarkOfAPausedClaim: it follows the log, also while a claim of
// the same topic on another broker gets no answer.
func TestFault_D1_HighWatermarkOfAPausedClaim(t *testing.T) {
	if askEnds+endAge+requestTimeout > 30*time.Second {
		t.Errorf("an end may be %v old", askEnds+endAge+requestTimeout)
	}
	cluster := fake(t, kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	brokers := cluster.ListenAddrs()
	for p := range int32(2) {
		if err := cluster.MoveTopicPartition("t", p, p); err != nil {
			t.Fatal(err)
		}
		seed(t, brokers, "t", p, numbered(0, 10)...)
	}
	r := newRecorder()
	var watch sync.WaitGroup
	t.Cleanup(watch.Wait)
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 20)
	paused := r.claim(0)
	m.Pause(r.claim(0), r.claim(1))
	time.Sleep(3 * holdTime) // until Sarama does not fetch it any more
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
	watch.Go(func() { m.watchEnds(20*time.Millisecond, 50*time.Millisecond) })
	waitEnd(t, m, paused, 200)
	seed(t, brokers, "t", 0, numbered(200, 300)...)
	waitEnd(t, m, paused, 300)
}

// TestFault_D1_HighWatermarkBehindAnOpenTransaction: the records of an open
// transaction count, though they cannot be read yet.
func TestFault_D1_HighWatermarkBehindAnOpenTransaction(t *testing.T) {
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range 5000 {
		records = append(records, &kgo.Record{Value: fmt.Append(nil, i)})
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	waitEnd(t, m, r.claim(0), 5010)
	if n := len(r.values()); n != 10 {
		t.Errorf("%d records of an open transaction were delivered", n-10)
	}
	if err := cl.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
