package memory_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// message returns a message whose key chooses the partition.
func message(a *testkit.Acks, value string) *driver.Message { return a.Message("t", value) }

func openProducer(t *testing.T, b *memory.Broker, change ...func(*driver.ProducerConfig)) driver.Producer {
	t.Helper()
	cfg := producerConfig()
	for _, f := range change {
		f(&cfg)
	}
	p, err := b.OpenProducer(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close(testkit.Ended()) })
	return p
}

func TestProduceChoosesPartition(t *testing.T) {
	b := newBroker(t, 3)
	p := openProducer(t, b)
	a := testkit.NewAcks(t)
	tests := []struct {
		value     string
		partition int32
		key       []byte
		want      int32
	}{
		{"first without key", -1, nil, 0},
		{"second without key", -1, nil, 1},
		{"abc", -1, []byte("abc"), 479470107 % 3},
		{"abc again", -1, []byte("abc"), 479470107 % 3},
		{"empty key", -1, []byte{}, 275646681 % 3},
		{"third without key", -1, nil, 2},
		{"fourth without key", -1, nil, 0},
		{"explicit", 2, []byte("abc"), 2},
	}
	for _, tt := range tests {
		m := message(a, tt.value)
		m.Partition, m.Key = tt.partition, tt.key
		require.NoError(t, p.Produce(t.Context(), m))
		require.Equal(t, "sent", a.Outcome(tt.value), tt.value)
		require.Equal(t, tt.want, m.Partition, tt.value)
	}
}

func TestProduceRefusals(t *testing.T) {
	b := newBroker(t, 1)
	p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxMessageBytes = 10 })
	tests := []struct {
		value, want string
		change      func(*driver.Message)
	}{
		{"0123456789", "sent", func(*driver.Message) {}},
		{"0123456789a", "failed: MESSAGE_TOO_LARGE", func(*driver.Message) {}},
		{"012345", "failed: MESSAGE_TOO_LARGE", func(m *driver.Message) { m.Key = []byte("key"); m.Headers = []driver.Header{{Key: "hh"}} }},
		{"topic", "failed: UNKNOWN_TOPIC_OR_PARTITION", func(m *driver.Message) { m.Topic = "nobody" }},
		{"illegal", "failed: INVALID_TOPIC_EXCEPTION", func(m *driver.Message) { m.Topic = "a/b" }},
		{"high", "failed: UNKNOWN_TOPIC_OR_PARTITION", func(m *driver.Message) { m.Partition = 1 }},
		{"low", "failed: UNKNOWN_TOPIC_OR_PARTITION", func(m *driver.Message) { m.Partition = -2 }},
	}
	for _, tt := range tests {
		a := testkit.NewAcks(t)
		m := message(a, tt.value)
		tt.change(m)
		require.NoError(t, p.Produce(t.Context(), m), tt.value)
		require.Equal(t, tt.want, a.Outcome(tt.value), tt.value)
	}
	_, end, err := b.Offsets("t", 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, end, "log end")

	a := testkit.NewAcks(t)
	assert.ErrorIs(t, p.Produce(testkit.Ended(), message(a, "late")), context.Canceled, "produce with an ended context")
	p.Close(t.Context())
	require.ErrorIs(t, p.Produce(t.Context(), message(a, "closed")), driver.ErrClosed, "after Close")
	require.Zero(t, a.Len(), "acks of what was not accepted")
}

func TestProduceWithoutResponse(t *testing.T) {
	b := newBroker(t, 1)
	p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.RequiredAcks = driver.NoResponse })
	a := testkit.NewAcks(t)
	m := message(a, "a")
	require.NoError(t, p.Produce(t.Context(), m), "Produce")
	require.Equal(t, "sent", a.Outcome("a"))
	require.Zero(t, m.Partition)
	require.EqualValues(t, -1, m.Offset)
}

func TestAutoCreate(t *testing.T) {
	b := memory.NewBroker(memory.WithAutoCreate(3))
	p := openProducer(t, b)
	a := testkit.NewAcks(t)
	require.NoError(t, p.Produce(t.Context(), message(a, "a")), "Produce")
	require.Equal(t, "sent", a.Outcome("a"), "outcome")
	require.Equal(t, "[t] 3", fmt.Sprint(b.Topics(), b.Partitions("t")), "topics")
}

// What is accepted in an outage is sent in order when it is over, if the
// retries last so long.
func TestProduceInOutage(t *testing.T) {
	tests := []struct {
		name    string
		retries int
		outage  time.Duration
		want    string
	}{
		{"short", 3, 200 * time.Millisecond, "sent"},
		{"long", 3, time.Second, "failed: CONNECTION_FAILED"},
		{"no retries", 0, time.Second, "failed: CONNECTION_FAILED"},
		{"retries forever", 1 << 40, time.Hour, "sent"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = tt.retries })
			a := testkit.NewAcks(t)
			b.Stop()
			for i := range 5 {
				require.NoError(t, p.Produce(t.Context(), message(a, fmt.Sprint(i))), "Produce")
			}
			time.AfterFunc(tt.outage, b.Start)
			require.NoError(t, p.Flush(t.Context()), tt.name+": Flush")
			for i := range 5 {
				require.Equal(t, tt.want, a.Outcome(fmt.Sprint(i)), tt.name)
			}
			time.Sleep(tt.outage + time.Millisecond)
			p.Produce(t.Context(), message(a, "after"))
			require.Equal(t, "sent", a.Outcome("after"), tt.name+": after")
			rs, err := b.Records("t", 0, driver.ReadCommitted)
			require.NoError(t, err)
			var values []string
			for _, r := range rs {
				values = append(values, string(r.Value))
			}
			want := "after"
			if tt.want == "sent" {
				want = "0 1 2 3 4 after"
			}
			require.Equal(t, want, strings.Join(values, " "), tt.name+": log")
		})
	}
}

func TestProducerCloseInOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		forever := func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1 << 30 }
		p := openProducer(t, b, forever)
		a := testkit.NewAcks(t)
		b.Stop()
		p.Produce(t.Context(), message(a, "a"))
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Flush(ctx), context.DeadlineExceeded, "Flush")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded, "Close")
		require.Equal(t, "unknown: CONNECTION_FAILED", a.Outcome("a"), "outcome")
		require.Equal(t, 2*time.Second, time.Since(begin), "time")
		require.ErrorIs(t, p.Close(t.Context()), context.DeadlineExceeded, "again")
		b.Start()
		_, end, err := b.Offsets("t", 0)
		require.NoError(t, err)
		require.EqualValues(t, 0, end, "log end")
	})
}

// Close sends what waits before it returns.
func TestProducerCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
		a := testkit.NewAcks(t)
		b.Stop()
		p.Produce(t.Context(), message(a, "a"))
		time.AfterFunc(time.Second, b.Start)
		require.NoError(t, p.Close(t.Context()), "Close")
		require.Equal(t, "sent", a.Outcome("a"), "outcome")
	})
}

// Produce blocks when too much waits, until there is room, its context ends, or
// Close begins.
func TestProduceBlocksWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
		a := testkit.NewAcks(t)
		b.Stop()
		n := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			err := p.Produce(ctx, message(a, fmt.Sprint(n)))
			cancel()
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded, "error")
				break
			}
			n++
		}
		require.Equal(t, 10_000, n, "accepted")
		room, closed := make(chan error, 1), make(chan error, 1)
		go func() { room <- p.Produce(t.Context(), message(a, "room")) }()
		synctest.Wait()
		b.Start()
		require.NoError(t, <-room, "room")
		require.NoError(t, p.Flush(t.Context()), "Flush")
		require.Equal(t, n+1, a.Len(), "acks")

		b.Stop()
		for i := range 10_000 {
			p.Produce(t.Context(), message(a, fmt.Sprint("again", i)))
		}
		go func() { closed <- p.Produce(t.Context(), message(a, "closed")) }()
		synctest.Wait()
		require.ErrorIs(t, p.Close(testkit.Ended()), context.Canceled, "Close")
		require.ErrorIs(t, <-closed, driver.ErrClosed, "blocked in Close")
		require.Equal(t, n+1+10_000, a.Len(), "acks")
	})
}

// A message that comes after the end of an outage, but before the waiting messages were
// sent, is sent after them.
func TestProduceWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b)
		a := testkit.NewAcks(t)
		for range 100 {
			b.Stop()
			first, second := message(a, fmt.Sprint(a.Len())), message(a, fmt.Sprint(a.Len(), "b"))
			p.Produce(t.Context(), first)
			b.Start()
			p.Produce(t.Context(), second)
			synctest.Wait()
			require.Less(t, first.Offset, second.Offset)
		}
	})
}

// An Ack may produce again.
type again struct {
	p driver.Producer
	m *driver.Message
}

func (a again) Ack(error) {
	if err := a.p.Produce(context.Background(), a.m); err != nil {
		panic(err)
	}
}

func TestProduceInsideAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b)
		a := testkit.NewAcks(t)
		produce := func(value string) {
			m := message(a, "")
			m.Acker = again{p, message(a, value)}
			p.Produce(t.Context(), m)
		}
		produce("online")
		b.Stop()
		produce("waiting")
		b.Start()
		require.NoError(t, p.Flush(t.Context()), "Flush")
		require.NoError(t, p.Close(t.Context()), "Close")
		require.Equal(t, []string{"sent", "sent"}, []string{a.Outcome("online"), a.Outcome("waiting")}, "outcomes")
	})
}

// The order of one goroutine's messages holds while the broker comes and goes
// and others produce beside it.
func TestProduceKeepsOrder(t *testing.T) {
	b := newBroker(t, 1)
	p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
	a := testkit.NewAcks(t)
	const each = 2000
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range each {
				assert.NoError(t, p.Produce(context.Background(), message(a, fmt.Sprintf("%d-%d", g, i))))
				if i%100 == g {
					b.Stop()
					b.Start()
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Close(t.Context()), "Close")
	rs, err := b.Records("t", 0, driver.ReadCommitted)
	require.NoError(t, err)
	require.Len(t, rs, 4*each)
	next := make([]int, 4)
	for _, r := range rs {
		var g, i int
		fmt.Sscanf(string(r.Value), "%d-%d", &g, &i)
		require.Equalf(t, next[g], i, "goroutine %d: message", g)
		next[g]++
	}
	require.Equal(t, 4*each, a.Len(), "acks")
}

// A send is retried until its DeliveryTimeout ends, whatever MaxRetries says, and
// then has the latest refusal. It stops no message to another topic.
func TestDeliveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		cfg := producerConfig()
		cfg.MaxRetries, cfg.DeliveryTimeout = 0, 2*time.Minute
		p, err := b.OpenProducer(t.Context(), cfg)
		require.NoError(t, err)
		defer p.Close(testkit.Ended())
		var mu sync.Mutex
		outcomes := map[string]error{}
		answers := func() map[string]error {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(outcomes)
		}
		send := func(topic, value string) {
			m := &driver.Message{Topic: topic, Partition: -1, Value: []byte(value)}
			m.Acker = testkit.AckFunc(func(err error) {
				mu.Lock()
				defer mu.Unlock()
				outcomes[value] = err
			})
			assert.NoError(t, p.Produce(t.Context(), m))
		}
		send("missing", "a")
		send("t", "b")
		require.Equal(t, map[string]error{"b": nil}, answers(), "b is not kept waiting")
		time.Sleep(time.Minute)
		require.NoError(t, b.CreateTopic("missing", 1))
		require.Equal(t, map[string]error{"a": nil, "b": nil}, answers(), "the topic exists")

		b.Stop()
		send("t", "c")
		time.Sleep(2*time.Minute - 1)
		require.Len(t, answers(), 2, "in time")
		time.Sleep(time.Nanosecond)
		require.Equal(t, "CONNECTION_FAILED", testkit.Code(answers()["c"]), "too late")
		b.Start()
		send("never", "d")
		time.Sleep(2 * time.Minute)
		require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(answers()["d"]), "never")
	})
}
