package sarama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

const errRefused = syscall.ECONNREFUSED

// outlast sends messages during an outage of all brokers, and returns how many failed.
func outlast(t *testing.T, p *producer, topic string, away func() (back func()), d time.Duration) (failed int) {
	t.Helper()
	require.NoError(t, send(t, p, &driver.Message{Topic: topic, Partition: 0, Value: []byte("first")}))
	back := away()
	var returning sync.WaitGroup
	t.Cleanup(returning.Wait) // back may use t
	returning.Go(func() {
		time.Sleep(d)
		back()
	})
	began := time.Now()
	answers, n := newAcks(), 0
	for ; time.Since(began) < d+200*time.Millisecond; n++ {
		m := &driver.Message{Topic: topic, Partition: int32(n % 4), Value: fmt.Appendf(nil, "%06d", n), Acker: ack{answers, n}}
		require.NoError(t, p.Produce(within(t, time.Minute), m))
		time.Sleep(2 * time.Millisecond)
	}
	require.NoError(t, p.Flush(within(t, time.Minute)))
	for i := range n {
		require.Len(t, answers.of(i), 1)
		if answers.of(i)[0] != nil {
			failed++
		}
	}
	return failed
}

func wantInOrder(t *testing.T, h *harness, topic string, partitions int32) {
	t.Helper()
	for id := range partitions {
		records, err := h.Read(t.Context(), topic, id)
		require.NoError(t, err)
		var got []string
		for _, r := range records {
			if v := string(r.Value); v != "first" {
				got = append(got, v)
			}
		}
		require.True(t, slices.IsSorted(got), "partition %d: %v", id, got)
		require.Len(t, slices.Compact(got), len(records)-len(slices.DeleteFunc(valuesOf(records), func(v string) bool { return v != "first" })), "partition %d has duplicates", id)
	}
}

func valuesOf(records []driver.Record) (values []string) {
	for _, r := range records {
		values = append(values, string(r.Value))
	}
	return values
}

func TestFault_G5_DeliveryTimeoutOutlastsAnOutage(t *testing.T) {
	testkit.Slow(t, "waits for an outage to end")
	t.Parallel()
	for _, c := range []struct {
		name    string
		timeout time.Duration
		fails   bool
	}{{"two minutes", 2 * time.Minute, false}, {"none", 0, true}} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := fakeHarness(t, kfake.SeedTopics(4, "out"))
			cfg := producerConfig(h.brokers)
			cfg.MaxRetries, cfg.RetryBackoff, cfg.DeliveryTimeout = 3, 50*time.Millisecond, c.timeout
			p := openProducer(t, cfg)
			failed := outlast(t, p, "out", h.gate.Cut, 2*time.Second)
			assert.Equal(t, c.fails, failed > 0, "%d failed", failed)
			wantInOrder(t, h, "out", 4)
		})
	}
}

// TestFault_G5_DeliveryTimeoutOutlastsAnOutageReal freezes the only broker, and
// then kills it and starts it again.
func TestFault_G5_DeliveryTimeoutOutlastsAnOutageReal(t *testing.T) {
	t.Parallel()
	h, cluster := realHarness(t, 1)
	for name, away := range map[string]func() func(){
		"frozen": func() func() {
			require.NoError(t, cluster.Brokers()[0].Pause())
			return func() { assert.NoError(t, cluster.Brokers()[0].Continue()) }
		},
		"killed": func() func() {
			require.NoError(t, cluster.Brokers()[0].Kill())
			return func() { assert.NoError(t, cluster.Brokers()[0].Restart(context.Background())) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			topic := fmt.Sprintf("out-%d", time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, 4, nil))
			cfg := producerConfig(h.brokers)
			cfg.MaxRetries, cfg.RetryBackoff, cfg.DeliveryTimeout = 3, 100*time.Millisecond, 2*time.Minute
			p := openProducer(t, cfg)
			assert.Zero(t, outlast(t, p, topic, away, 4*time.Second), "messages failed")
			wantInOrder(t, h, topic, 4)
		})
	}
}

// awaits waits for the only acknowledgement of the first message.
func awaits(t *testing.T, answers *acks, atLeast, atMost time.Duration, began time.Time) error {
	t.Helper()
	require.Eventually(t, func() bool { return len(answers.of(0)) > 0 }, patienceTest, time.Millisecond)
	assert.GreaterOrEqual(t, time.Since(began), atLeast)
	assert.Less(t, time.Since(began), atMost)
	return answers.of(0)[0]
}

// TestFault_G5_EndOfDeliveryTimeout: the time is counted from acceptance, and the
// outcome is certain if no attempt is unanswered.
func TestFault_G5_EndOfDeliveryTimeout(t *testing.T) {
	const limit = 500 * time.Millisecond
	open := func(t *testing.T) (*harness, *kfake.Cluster, *producer) {
		h, cluster := fakeHarness(t)
		cfg := producerConfig(h.brokers)
		cfg.MaxRetries, cfg.RetryBackoff, cfg.DeliveryTimeout = 1, 20*time.Millisecond, limit
		p := openProducer(t, cfg)
		require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
		return h, cluster, p
	}
	t.Run("refused each time", func(t *testing.T) {
		_, cluster, p := open(t)
		fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
		began := time.Now()
		err := awaits(t, hand(t, p, sized("t", 3, 1)...), limit, 5*time.Second, began)
		var de *driver.Error
		require.ErrorAs(t, err, &de)
		assert.Equal(t, "NOT_ENOUGH_REPLICAS", de.Code)
		assert.Nil(t, de.Kind)
		fault.Remove()
		require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	})
	t.Run("never sent", func(t *testing.T) {
		h, _, p := open(t)
		heal := h.gate.Cut()
		began := time.Now()
		err := awaits(t, hand(t, p, &driver.Message{Topic: "unseen", Partition: 0, Value: []byte("v")}), limit, 5*time.Second, began)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
		heal()
		require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	})
	t.Run("unanswered", func(t *testing.T) {
		h, _, p := open(t)
		heal := h.gate.Stall()
		began := time.Now()
		first := hand(t, p, sized("t", 1, 1)...)
		require.Eventually(t, func() bool { return p.line.Produces(h.brokers[0]) == 2 }, patienceTest, time.Millisecond)
		behind := hand(t, p, sized("t", 5, 1)...)
		err := awaits(t, first, limit, 5*time.Second, began)
		assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
		assert.NotErrorIs(t, awaits(t, behind, limit, 5*time.Second, began), driver.ErrUnknownOutcome, "it waited behind the other")
		require.NoError(t, p.Flush(within(t, time.Second)), "Flush waits for acknowledgements only")
		heal()
		for range 100 { // the slots are used again, and the late answer changes nothing
			require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
		}
		assert.Len(t, first.of(0), 1)
	})
	t.Run("missing topic", func(t *testing.T) {
		_, _, p := open(t)
		began := time.Now()
		err := awaits(t, hand(t, p, &driver.Message{Topic: "missing", Partition: -1}), limit, 5*time.Second, began)
		var de *driver.Error
		require.ErrorAs(t, err, &de)
		assert.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", de.Code)
	})
	t.Run("permanent at once", func(t *testing.T) {
		_, cluster, p := open(t)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: 1})
		err := awaits(t, hand(t, p, sized("t", 1, 1)...), 0, limit, time.Now())
		assert.ErrorIs(t, err, driver.ErrPermanent)
	})
}

// TestFault_G5_Once lets answers come at about the end of the delivery timeout: each
// message is acknowledged once.
func TestFault_G5_Once(t *testing.T) {
	h, cluster := fakeHarness(t)
	cfg := producerConfig(h.brokers)
	cfg.RetryBackoff, cfg.DeliveryTimeout = time.Millisecond, 20*time.Millisecond
	p := openProducer(t, cfg)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { time.Sleep(15 * time.Millisecond) })
		return nil, nil, false
	})
	answers := newAcks()
	const n = 2000
	for i := range n {
		m := &driver.Message{Topic: "t", Partition: 0, Value: []byte(strings.Repeat("v", i%50)), Acker: ack{answers, i}}
		require.NoError(t, p.Produce(within(t, patienceTest), m))
		if i%10 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	require.NoError(t, p.Flush(within(t, patienceTest)))
	stored, unknown := 0, 0
	for i := range n {
		got := answers.of(i)
		require.Len(t, got, 1, "message %d", i)
		switch {
		case got[0] == nil:
			stored++
		case errors.Is(got[0], driver.ErrUnknownOutcome):
			unknown++
		}
	}
	records, err := h.Read(t.Context(), "t", 0)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(records), stored)
	assert.LessOrEqual(t, len(records), stored+unknown, "what is said not to be in the log is there")
	assert.NotZero(t, stored, "nothing was stored")
	assert.NotZero(t, n-stored, "nothing ran out of time")
}
