package sarama

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/driver"
)

func TestMain(m *testing.M) {
	// FetchRequest.encode marks a meter of each topic in go-metrics' global
	// registry whatever registry Sarama was given. The first meter of a process
	// starts a goroutine that never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestProduceAndConsume(t *testing.T) {
	cluster := fake(t)
	brokers := cluster.ListenAddrs()

	p, err := Driver{}.OpenProducer(t.Context(), producerConfig(brokers))
	if err != nil {
		t.Fatal(err)
	}
	answers := newAcks()
	messages := make([]*driver.Message, 100)
	for i := range messages {
		messages[i] = &driver.Message{
			Topic: "t", Partition: -1, Key: []byte("k"), Value: fmt.Append(nil, i),
			Headers: []driver.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}},
			Acker:   ack{answers, i},
		}
		if err := p.Produce(t.Context(), messages[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(within(t, patienceTest)); err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if got := answers.of(i); !slices.Equal(got, []error{nil}) {
			t.Fatalf("message %d was acknowledged with %v", i, got)
		}
		if m.Offset != int64(i) || m.Partition != 0 {
			t.Errorf("message %d lies at %d/%d", i, m.Partition, m.Offset)
		}
	}
	if err := p.Close(within(t, patienceTest)); err != nil {
		t.Fatal(err)
	}

	var headers []driver.Header
	r := newRecorder()
	r.onRecord = func(_ *driver.Claim, rec driver.Record) { headers = rec.Headers }
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 100)
	if got := r.values(); !slices.Equal(got, numbered(0, 100)) {
		t.Errorf("delivered %v", got)
	}
	if fmt.Sprint(headers) != "[{h [49]} {h []}]" {
		t.Errorf("headers arrived as %v", headers)
	}
	c := r.claim(0)
	if err := m.Commit(within(t, time.Second), []driver.Mark{{Claim: c, Offset: 40}}); err != nil {
		t.Fatal(err)
	}
	if hwm := m.HighWatermark(c); hwm != 100 {
		t.Errorf("high watermark = %d", hwm)
	}
	began := time.Now()
	if err := m.stop(t); err != nil {
		t.Fatalf("Run = %v", err)
	}
	t.Logf("closed after %v", time.Since(began))
	if len(r.revoked) != 1 || len(r.lost) != 0 {
		t.Errorf("revoked %d, lost %d", len(r.revoked), len(r.lost))
	}

	again := newRecorder()
	start(t, Driver{}, consumerConfig(brokers), again)
	again.waitRecords(t, 60)
	if got := again.values(); !slices.Equal(got, numbered(40, 100)) {
		t.Errorf("after the restart: delivered %v", got)
	}
	if c := again.claim(0); c.Start != 40 {
		t.Errorf("after the restart: Start = %d", c.Start)
	}
}

func TestCommitInsideRevoke(t *testing.T) {
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	var m *running
	r.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
		if err := m.Commit(ctx, []driver.Mark{{Claim: cs[0], Offset: 7}}); err != nil {
			t.Errorf("Commit = %v", err)
		}
	}
	m = start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	m.stop(t)
	if got := cluster.GroupInfo("g").Commits["t"][0].Offset; got != 7 {
		t.Errorf("committed %d, want 7", got)
	}
	if n := len(cluster.GroupInfo("g").Members); n != 0 {
		t.Errorf("%d members are left in the group", n)
	}
}
