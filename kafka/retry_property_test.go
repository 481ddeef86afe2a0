package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A retryWorld is a consumer with retry topics whose handler fails records as often as a
// plan says, and the rules that it must keep.
type retryWorld struct {
	b     *memory.Broker
	cfg   kafka.ConsumerConfig
	tiers map[string]time.Duration // by topic
	plan  []int                    // by record: how often its handler fails it; -1 is always
	batch bool
	d     driver.Driver
	m     []*kafka.Manager // those that live
	calm  bool             // nothing happens that may make a second copy

	mu      sync.Mutex
	calls   map[int]int
	handled map[int]int
	broken  []string
}

// handle fails the record as the plan says, and checks what every call must keep.
func (w *retryWorld) handle(_ context.Context, m *kafka.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := strconv.Atoi(string(m.Value))
	if err != nil {
		panic(err)
	}
	if delay, retry := w.tiers[m.Topic]; retry {
		if early := time.Until(m.Timestamp.Add(delay)); early > 0 {
			w.broken = append(w.broken, fmt.Sprintf("record %d is handed out in %s %v too early", id, m.Topic, early))
		}
	}
	if s := m.Source(); s.Topic != "orders" || len(m.Headers) != 0 {
		w.broken = append(w.broken, fmt.Sprintf("record %d has the source %v and the headers %v", id, s, m.Headers))
	}
	w.calls[id]++
	if w.calm && m.Attempt != w.calls[id] {
		w.broken = append(w.broken, fmt.Sprintf("record %d is at attempt %d and has had %d calls", id, m.Attempt, w.calls[id]))
	}
	if fails := w.plan[id]; fails < 0 || w.calls[id] <= fails {
		return errBad
	}
	w.handled[id]++
	return nil
}

func (w *retryWorld) handleBatch(ctx context.Context, ms []*kafka.Message) error {
	var failed kafka.BatchError
	for _, m := range ms {
		if err := w.handle(ctx, m); err != nil {
			failed.Add(m, err)
		}
	}
	return failed.Err()
}

// join starts one more member.
func (w *retryWorld) join(t require.TestingT) {
	m := kafka.New(w.d, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	c := kafka.NewConsumer(w.cfg, w.handle)
	if w.batch {
		c = kafka.NewBatchConsumer(w.cfg, w.handleBatch)
	}
	require.NoError(t, m.RegisterConsumer(context.Background(), c))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	w.m = append(w.m, m)
}

// leave shuts a member down.
func (w *retryWorld) leave(t require.TestingT, i int) {
	require.NoError(t, w.m[i].Shutdown(context.Background()))
	w.m = append(w.m[:i], w.m[i+1:]...)
}

// found returns how many records of topics have each value.
func (w *retryWorld) found(t require.TestingT, topics ...string) map[int]int {
	n := map[int]int{}
	for _, topic := range topics {
		for p := range int32(w.b.Partitions(topic)) {
			records, err := w.b.Records(topic, p, driver.ReadCommitted)
			require.NoError(t, err)
			for _, r := range records {
				id, err := strconv.Atoi(string(r.Value))
				require.NoError(t, err)
				n[id]++
			}
		}
	}
	return n
}

// check holds that what lies below a committed position is handled, or has a copy in a
// topic that comes later. Where faults make two copies of a record, one of them is enough:
// a lost one of two does not show here.
func (w *retryWorld) check(t require.TestingT) {
	synctest.Wait()
	topics := []string{"orders"}
	for _, tier := range w.cfg.Failure.RetryTopics {
		topics = append(topics, "orders.orders.retry."+delayName(tier.Delay))
	}
	topics = append(topics, ordersDLQ)
	for i, topic := range topics[:len(topics)-1] {
		later := w.found(t, topics[i+1:]...)
		for p := range int32(w.b.Partitions(topic)) {
			records, err := w.b.Records(topic, p, driver.ReadCommitted)
			require.NoError(t, err)
			committed := w.b.Committed("orders", topic, p)
			for _, r := range records {
				id, _ := strconv.Atoi(string(r.Value))
				w.mu.Lock()
				done := w.handled[id] > 0 || later[id] > 0
				w.mu.Unlock()
				require.True(t, r.Offset >= committed || done, "record %d of %s is committed and neither handled nor copied", id, topic)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.broken)
}

func delayName(d time.Duration) string {
	switch {
	case d%time.Minute == 0:
		return fmt.Sprint(int(d.Minutes()), "m")
	case d%time.Second == 0:
		return fmt.Sprint(int(d.Seconds()), "s")
	}
	return fmt.Sprint(d.Milliseconds(), "ms")
}

// However often records fail, and while members change: every record is handled or is a
// dead letter, once if nothing makes a second copy. None is handed out before its time.
// What is committed is safe.
func TestRetryTopicsUnderRandomFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) { runRetries(t) })
	})
}

func runRetries(t *rapid.T) {
	b := memory.NewBroker()
	partitions := rapid.IntRange(1, 3).Draw(t, "partitions")
	require.NoError(t, b.CreateTopic("orders", partitions))
	require.NoError(t, b.CreateTopic(ordersDLQ, 2))
	w := &retryWorld{
		b: b, d: b, cfg: retrying(), tiers: map[string]time.Duration{},
		calls: map[int]int{}, handled: map[int]int{},
		batch: rapid.Bool().Draw(t, "batch"), calm: rapid.Bool().Draw(t, "calm"),
	}
	most := 0
	w.cfg.Failure.MaxAttempts = rapid.IntRange(1, 3).Draw(t, "attempts")
	w.cfg.Failure.DeadLetter.MaxInARow = kafka.Unlimited
	for _, d := range rapid.SliceOfNDistinct(rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, time.Minute}), 1, 3, rapid.ID).Draw(t, "tiers") {
		drain := rapid.IntRange(0, 4).Draw(t, "drain") == 0
		w.cfg.Failure.RetryTopics = append(w.cfg.Failure.RetryTopics, kafka.RetryTopic{Delay: d, Drain: drain})
		topic := "orders.orders.retry." + delayName(d)
		w.tiers[topic] = d
		require.NoError(t, b.CreateTopic(topic, rapid.IntRange(1, 3).Draw(t, "partitions of a tier")))
		if !drain {
			most++
		}
	}
	if !w.batch {
		w.cfg.Parallelism = rapid.IntRange(1, 5).Draw(t, "parallelism")
		w.cfg.MaxConcurrency = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "concurrency")
	}
	w.plan = rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 5, -1}), 1, 30).Draw(t, "plan")
	if !w.calm {
		seed := rapid.Uint64().Draw(t, "faults")
		w.d = fault.Wrap(b, fault.On(fault.Produce, fault.Any(
			fault.Chance(0.1, seed, fault.After(errors.New("no answer"))),
			fault.Chance(0.1, seed+1, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS"))))))
	}
	defer func() { // of what a broken rule has left
		for _, m := range w.m {
			_ = m.Shutdown(context.Background())
		}
	}()
	w.join(t)
	for id := range w.plan {
		require.NoError(t, b.Send("orders", fmt.Append(nil, id%5), fmt.Append(nil, id)))
		if rapid.IntRange(0, 3).Draw(t, "pause") == 0 {
			time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 20 * time.Second}).Draw(t, "for"))
			w.check(t)
		}
		w.pause(t)
		if !w.calm {
			w.disturb(t)
		}
	}
	for _, m := range w.m {
		require.NoError(t, m.Resume("orders"))
	}
	for range 20 {
		time.Sleep(time.Minute)
		w.check(t)
	}
	for len(w.m) > 0 {
		w.leave(t, 0)
	}
	w.judge(t, most+w.cfg.Failure.MaxAttempts)
}

// pause pauses a member or lets it go on, perhaps.
func (w *retryWorld) pause(t *rapid.T) {
	m := w.m[rapid.IntRange(0, len(w.m)-1).Draw(t, "member")]
	switch rapid.IntRange(0, 6).Draw(t, "operator") {
	case 0:
		require.NoError(t, m.Pause("orders"))
	case 1:
		require.NoError(t, m.Resume("orders"))
	}
}

// disturb lets members come and go, perhaps.
func (w *retryWorld) disturb(t *rapid.T) {
	switch rapid.IntRange(0, 12).Draw(t, "member") {
	case 0:
		w.join(t)
	case 1:
		w.leave(t, rapid.IntRange(0, len(w.m)-1).Draw(t, "which"))
		if len(w.m) == 0 {
			w.join(t)
		}
	case 2:
		require.NoError(t, w.m[0].SetConsumerSwitch("orders", false))
		require.NoError(t, w.m[0].SetConsumerSwitch("orders", true))
	}
}

// judge holds that each record is handled or a dead letter. most is how many calls one can
// have if nothing disturbs.
func (w *retryWorld) judge(t require.TestingT, most int) {
	w.check(t)
	dead := w.found(t, ordersDLQ)
	for id, fails := range w.plan {
		ends := w.handled[id] + dead[id]
		require.NotZero(t, ends, "record %d is lost", id)
		if fails < 0 {
			require.Zero(t, w.handled[id])
		}
		if !w.calm {
			continue
		}
		require.Equal(t, 1, ends, "record %d ends more than once", id)
		if fails < 0 || fails >= most {
			require.Equal(t, most, w.calls[id], "calls of record %d", id)
			require.Equal(t, 1, dead[id], "record %d", id)
		} else {
			require.Equal(t, fails+1, w.calls[id], "calls of record %d", id)
		}
	}
}
