package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// Every dead letter that matches arrives, and none twice unless a send has an unknown
// outcome or a run breaks off with answers or a commit outstanding. The counts add up.
// What lies below a committed position is sent or is not to be sent.
func TestRedriveUnderRandomFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) { runRedrives(t) })
	})
}

// The kinds of records in a dead-letter topic.
const (
	plainLetter = iota
	leftLetter  // Match leaves it
	wornLetter
	foreignLetter
	letterKinds
)

type redriveWorld struct {
	b     *memory.Broker
	kinds []int // by record
	calm  bool
	m     []*kafka.Manager
	sum   kafka.RedriveReport
}

func runRedrives(t *rapid.T) {
	partitions := rapid.IntRange(1, 3).Draw(t, "partitions")
	b := memory.NewBroker()
	require.NoError(t, b.CreateTopic("orders", 1))
	require.NoError(t, b.CreateTopic(ordersRetry, 2))
	require.NoError(t, b.CreateTopic(ordersDLQ, partitions))
	w := &redriveWorld{b: b, calm: rapid.Bool().Draw(t, "calm")}
	w.kinds = rapid.SliceOfN(rapid.SampledFrom([]int{plainLetter, plainLetter, plainLetter, leftLetter, wornLetter, foreignLetter}), 0, 260).Draw(t, "kinds")
	for i, kind := range w.kinds {
		hs := deadHeaders("orders", "orders", i)
		switch kind {
		case wornLetter:
			hs = append(hs, redrivenTimes(3))
		case foreignLetter:
			hs = deadHeaders("orders", "others", i)
		}
		require.NoError(t, b.Send(ordersDLQ, fmt.Append(nil, i%7), fmt.Append(nil, i), memory.Headers(hs...)))
		if rapid.IntRange(0, 20).Draw(t, "hole") == 0 {
			require.NoError(t, b.AppendControl(ordersDLQ, int32(i%partitions)))
		}
	}
	var d driver.Driver = b
	if !w.calm {
		seed := rapid.Uint64().Draw(t, "faults")
		d = fault.Wrap(b, fault.Any(
			fault.On(fault.Produce, fault.Chance(0.02, seed, fault.After(errors.New("no answer")))),
			fault.On(fault.Produce, fault.Chance(0.02, seed+1, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS")))),
			fault.On(fault.Mark, fault.Chance(0.1, seed+2, fault.After(errors.New("no answer")))),
			fault.On(fault.Commit, fault.Chance(0.1, seed+3, fault.Before(fault.Error("COORDINATOR_NOT_AVAILABLE")))),
			fault.On(fault.Run, fault.Chance(0.1, seed+4, fault.All(fault.Delay(2*time.Second), fault.After(errors.New("crashed"))))),
		))
	}
	for range 2 {
		m := kafka.New(d, kafka.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, m.RegisterConsumer(context.Background(), kafka.NewConsumer(retrying(10*time.Second), handleNothing)))
		w.m = append(w.m, m)
		defer m.Shutdown(context.Background())
	}
	cfg := kafka.RedriveConfig{JobName: "orders", FromStart: true, PassUnmatched: true, Match: func(m *kafka.Message) bool {
		i, _ := strconv.Atoi(string(m.Value))
		return w.kinds[i] != leftLetter
	}}
	dry := cfg
	dry.DryRun = true
	report, err := w.m[0].Redrive(context.Background(), dry)
	if w.calm {
		require.NoError(t, err)
		w.judge(t, report)
	}
	for n := 0; ; n++ {
		require.Less(t, n, 500, "it does not come to an end")
		cfg.Rate = rapid.SampledFrom([]float64{0, 0, 10, 100, 700}).Draw(t, "rate")
		cfg.Limit = rapid.SampledFrom([]int{0, 0, 1, 30}).Draw(t, "limit")
		if w.round(t, cfg, n) {
			break
		}
		w.check(t)
		cfg.FromStart = b.Committed(ordersRedrive, ordersDLQ, 0) < 0
	}
	w.check(t)
	if w.calm {
		w.judge(t, w.sum)
	}
	for i, n := range w.found(t) {
		require.True(t, n == 0 || w.kinds[i] == plainLetter, "record %d is sent", i)
	}
	for i, kind := range w.kinds {
		n := w.found(t)[i]
		require.True(t, kind != plainLetter || n > 0, "record %d is lost", i)
		require.True(t, !w.calm || n <= 1, "record %d is there %d times", i, n)
	}
}

// round makes one run, or two at once in two managers, and says whether it has come to
// the end.
func (w *redriveWorld) round(t *rapid.T, cfg kafka.RedriveConfig, n int) (ended bool) {
	ctx := context.Background()
	if rapid.IntRange(0, 2).Draw(t, "cut short") == 0 && n < 100 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rapid.SampledFrom([]time.Duration{time.Millisecond, 500 * time.Millisecond, 10 * time.Second}).Draw(t, "after"))
		defer cancel()
	}
	type result struct {
		report kafka.RedriveReport
		err    error
	}
	results := make(chan result)
	runs := 1
	if !cfg.FromStart && rapid.IntRange(0, 3).Draw(t, "two") == 0 {
		runs = 2
	}
	for _, m := range w.m[:runs] {
		go func() {
			report, err := m.Redrive(ctx, cfg)
			results <- result{report, err}
		}()
	}
	ended = cfg.Limit == 0
	for range runs {
		r := <-results
		require.Equal(t, r.report.Read, r.report.Sent+r.report.Unmatched+r.report.Worn+r.report.Foreign, "%+v", r.report)
		require.False(t, r.report.Again)
		if cfg.Limit > 0 {
			require.LessOrEqual(t, r.report.Sent, cfg.Limit)
		}
		if w.calm && ctx.Err() == nil {
			require.NoError(t, r.err)
		}
		ended = ended && r.err == nil
		w.sum.Read += r.report.Read
		w.sum.Sent += r.report.Sent
		w.sum.Unmatched += r.report.Unmatched
		w.sum.Worn += r.report.Worn
		w.sum.Foreign += r.report.Foreign
	}
	return ended
}

// found returns how often each record is in the retry topic.
func (w *redriveWorld) found(t require.TestingT) []int {
	n := make([]int, len(w.kinds))
	for p := range int32(w.b.Partitions(ordersRetry)) {
		records, err := w.b.Records(ordersRetry, p, driver.ReadCommitted)
		require.NoError(t, err)
		for _, r := range records {
			i, err := strconv.Atoi(string(r.Value))
			require.NoError(t, err)
			n[i]++
		}
	}
	return n
}

// check holds that what lies below a committed position is sent, or is not to be sent.
func (w *redriveWorld) check(t require.TestingT) {
	found := w.found(t)
	for p := range int32(w.b.Partitions(ordersDLQ)) {
		records, err := w.b.Records(ordersDLQ, p, driver.ReadCommitted)
		require.NoError(t, err)
		committed := w.b.Committed(ordersRedrive, ordersDLQ, p)
		for _, r := range records {
			i, err := strconv.Atoi(string(r.Value))
			require.NoError(t, err)
			require.True(t, r.Offset >= committed || w.kinds[i] != plainLetter || found[i] > 0, "record %d is committed and not sent", i)
		}
	}
}

// judge holds that a report counts what lies in the topic.
func (w *redriveWorld) judge(t require.TestingT, report kafka.RedriveReport) {
	var n [letterKinds]int
	for _, kind := range w.kinds {
		n[kind]++
	}
	require.Equal(t, n, [letterKinds]int{report.Sent, report.Unmatched, report.Worn, report.Foreign})
	require.Equal(t, len(w.kinds), report.Read)
}
