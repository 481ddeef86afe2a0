package memory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// acks keeps the outcomes of messages by their values, and fails the test when
// one is acknowledged twice.
type acks struct {
	t   *testing.T
	mu  sync.Mutex
	got map[string]error
}

func newAcks(t *testing.T) *acks { return &acks{t: t, got: map[string]error{}} }

type ack struct {
	*acks
	value string
}

func (a ack) Ack(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.got[a.value]; ok {
		a.t.Errorf("%s: acknowledged twice", a.value)
	}
	a.got[a.value] = err
}

func (a *acks) message(value string) *driver.Message {
	return &driver.Message{Topic: "t", Partition: -1, Value: []byte(value), Acker: ack{a, value}}
}

func (a *acks) outcome(value string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch err, ok := a.got[value]; {
	case !ok:
		return "none"
	case err == nil:
		return "sent"
	case errors.Is(err, driver.ErrUnknownOutcome):
		return "unknown: " + code(err)
	default:
		return "failed: " + code(err)
	}
}

func openProducer(t *testing.T, b *memory.Broker, change ...func(*driver.ProducerConfig)) driver.Producer {
	t.Helper()
	cfg := producerConfig()
	for _, f := range change {
		f(&cfg)
	}
	p, err := b.OpenProducer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(canceled()) })
	return p
}

func TestProduceChoosesPartition(t *testing.T) {
	b := newBroker(t, 3)
	p := openProducer(t, b)
	a := newAcks(t)
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
		m := a.message(tt.value)
		m.Partition, m.Key = tt.partition, tt.key
		if err := p.Produce(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		equal(t, tt.value, []any{a.outcome(tt.value), m.Partition}, []any{"sent", tt.want})
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
		a := newAcks(t)
		m := a.message(tt.value)
		tt.change(m)
		equal(t, tt.value, p.Produce(t.Context(), m), error(nil))
		equal(t, tt.value, a.outcome(tt.value), tt.want)
	}
	_, end, err := b.Offsets("t", 0)
	equal(t, "log end", []any{end, err}, []any{1, nil})

	a := newAcks(t)
	if err := p.Produce(canceled(), a.message("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("produce with an ended context: %v", err)
	}
	p.Close(t.Context())
	equal(t, "after Close", p.Produce(t.Context(), a.message("closed")), driver.ErrClosed)
	equal(t, "acks of what was not accepted", len(a.got), 0)
}

func TestProduceWithoutResponse(t *testing.T) {
	b := newBroker(t, 1)
	p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.RequiredAcks = driver.NoResponse })
	a := newAcks(t)
	m := a.message("a")
	equal(t, "Produce", p.Produce(t.Context(), m), error(nil))
	equal(t, "message", []any{a.outcome("a"), m.Partition, m.Offset}, []any{"sent", 0, -1})
}

func TestAutoCreate(t *testing.T) {
	b := memory.NewBroker(memory.WithAutoCreate(3))
	p := openProducer(t, b)
	a := newAcks(t)
	equal(t, "Produce", p.Produce(t.Context(), a.message("a")), error(nil))
	equal(t, "outcome", a.outcome("a"), "sent")
	equal(t, "topics", fmt.Sprint(b.Topics(), b.Partitions("t")), "[t] 3")
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
		{"retries for ever", 1 << 40, time.Hour, "sent"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = tt.retries })
			a := newAcks(t)
			b.Stop()
			for i := range 5 {
				equal(t, "Produce", p.Produce(t.Context(), a.message(fmt.Sprint(i))), error(nil))
			}
			time.AfterFunc(tt.outage, b.Start)
			equal(t, tt.name+": Flush", p.Flush(t.Context()), error(nil))
			for i := range 5 {
				equal(t, tt.name, a.outcome(fmt.Sprint(i)), tt.want)
			}
			time.Sleep(tt.outage + time.Millisecond)
			p.Produce(t.Context(), a.message("after"))
			equal(t, tt.name+": after", a.outcome("after"), "sent")
			rs, err := b.Records("t", 0, driver.ReadCommitted)
			if err != nil {
				t.Fatal(err)
			}
			var values []string
			for _, r := range rs {
				values = append(values, string(r.Value))
			}
			want := "after"
			if tt.want == "sent" {
				want = "0 1 2 3 4 after"
			}
			equal(t, tt.name+": log", strings.Join(values, " "), want)
		})
	}
}

func TestProducerCloseInOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		forever := func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1 << 30 }
		p := openProducer(t, b, forever)
		a := newAcks(t)
		b.Stop()
		p.Produce(t.Context(), a.message("a"))
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		equal(t, "Flush", p.Flush(ctx), context.DeadlineExceeded)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		equal(t, "Close", p.Close(ctx), context.DeadlineExceeded)
		equal(t, "outcome", a.outcome("a"), "unknown: CONNECTION_FAILED")
		equal(t, "time", time.Since(begin), 2*time.Second)
		equal(t, "again", p.Close(t.Context()), context.DeadlineExceeded)
		b.Start()
		_, end, err := b.Offsets("t", 0)
		equal(t, "log end", []any{end, err}, []any{0, nil})
	})
}

// Close sends what waits before it returns.
func TestProducerCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
		a := newAcks(t)
		b.Stop()
		p.Produce(t.Context(), a.message("a"))
		time.AfterFunc(time.Second, b.Start)
		equal(t, "Close", p.Close(t.Context()), error(nil))
		equal(t, "outcome", a.outcome("a"), "sent")
	})
}

// Produce blocks when too much waits, until there is room, its context ends, or
// Close begins.
func TestProduceBlocksWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
		a := newAcks(t)
		b.Stop()
		n := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			err := p.Produce(ctx, a.message(fmt.Sprint(n)))
			cancel()
			if err != nil {
				equal(t, "error", err, context.DeadlineExceeded)
				break
			}
			n++
		}
		equal(t, "accepted", n, 10_000)
		room, closed := make(chan error, 1), make(chan error, 1)
		go func() { room <- p.Produce(t.Context(), a.message("room")) }()
		synctest.Wait()
		b.Start()
		equal(t, "room", <-room, error(nil))
		equal(t, "Flush", p.Flush(t.Context()), error(nil))
		equal(t, "acks", len(a.got), n+1)

		b.Stop()
		for i := range 10_000 {
			p.Produce(t.Context(), a.message(fmt.Sprint("again", i)))
		}
		go func() { closed <- p.Produce(t.Context(), a.message("closed")) }()
		synctest.Wait()
		equal(t, "Close", p.Close(canceled()), context.Canceled)
		equal(t, "blocked in Close", <-closed, driver.ErrClosed)
		equal(t, "acks", len(a.got), n+1+10_000)
	})
}

// Who comes when the broker is back, but before what waits has been sent, is sent
// after it.
func TestProduceWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p := openProducer(t, b)
		a := newAcks(t)
		for range 100 {
			b.Stop()
			first, second := a.message(fmt.Sprint(len(a.got))), a.message(fmt.Sprint(len(a.got), "b"))
			p.Produce(t.Context(), first)
			b.Start()
			p.Produce(t.Context(), second)
			synctest.Wait()
			if first.Offset > second.Offset {
				t.Fatalf("offsets %d and %d", first.Offset, second.Offset)
			}
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
		a := newAcks(t)
		produce := func(value string) {
			m := a.message("")
			m.Acker = again{p, a.message(value)}
			p.Produce(t.Context(), m)
		}
		produce("online")
		b.Stop()
		produce("waiting")
		b.Start()
		equal(t, "Flush", p.Flush(t.Context()), error(nil))
		equal(t, "Close", p.Close(t.Context()), error(nil))
		equal(t, "outcomes", []string{a.outcome("online"), a.outcome("waiting")}, []string{"sent", "sent"})
	})
}

// The order of one goroutine's messages holds while the broker comes and goes
// and others produce beside it.
func TestProduceKeepsOrder(t *testing.T) {
	b := newBroker(t, 1)
	p := openProducer(t, b, func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1000 })
	a := newAcks(t)
	const each = 2000
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range each {
				if err := p.Produce(context.Background(), a.message(fmt.Sprintf("%d-%d", g, i))); err != nil {
					t.Error(err)
				}
				if i%100 == g {
					b.Stop()
					b.Start()
				}
			}
		})
	}
	wg.Wait()
	equal(t, "Close", p.Close(t.Context()), error(nil))
	rs, err := b.Records("t", 0, driver.ReadCommitted)
	equal(t, "records", []any{len(rs), err}, []any{4 * each, nil})
	next := make([]int, 4)
	for _, r := range rs {
		var g, i int
		fmt.Sscanf(string(r.Value), "%d-%d", &g, &i)
		if i != next[g] {
			t.Fatalf("goroutine %d: message %d where %d was due", g, i, next[g])
		}
		next[g]++
	}
	equal(t, "acks", len(a.got), 4*each)
}

// A send is retried until its DeliveryTimeout ends, whatever MaxRetries says, and
// then has the latest refusal. It stops no message to another topic.
func TestDeliveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		cfg := producerConfig()
		cfg.MaxRetries, cfg.DeliveryTimeout = 0, 2*time.Minute
		p, err := b.OpenProducer(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(canceled())
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
			m.Acker = acked(func(err error) {
				mu.Lock()
				defer mu.Unlock()
				outcomes[value] = err
			})
			if err := p.Produce(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		send("missing", "a")
		send("t", "b")
		equal(t, "b is not kept waiting", answers(), map[string]error{"b": nil})
		time.Sleep(time.Minute)
		if err := b.CreateTopic("missing", 1); err != nil {
			t.Fatal(err)
		}
		equal(t, "the topic exists", answers(), map[string]error{"a": nil, "b": nil})

		b.Stop()
		send("t", "c")
		time.Sleep(2*time.Minute - 1)
		equal(t, "in time", len(answers()), 2)
		time.Sleep(time.Nanosecond)
		equal(t, "too late", code(answers()["c"]), "CONNECTION_FAILED")
		b.Start()
		send("never", "d")
		time.Sleep(2 * time.Minute)
		equal(t, "never", code(answers()["d"]), "UNKNOWN_TOPIC_OR_PARTITION")
	})
}

type acked func(err error)

func (f acked) Ack(err error) { f(err) }
