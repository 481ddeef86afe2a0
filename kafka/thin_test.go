package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// E9: twenty consumers, and no broker for a minute. Each attempt fails with another
// text, as local ports differ, and the driver repeats itself beside it.
func TestFault_E9_RepeatedLinesAreThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		opened := make(map[string]int)
		d := &fakeDriver{}
		var loggers []*slog.Logger
		d.openErr = func(n int) error {
			return fmt.Errorf("dial tcp 127.0.0.1:%d->127.0.0.1:9092: connection refused", 40000+n)
		}
		d.configured = func(cfg driver.ConsumerConfig) {
			if opened[cfg.ClientID]++; opened[cfg.ClientID] == 1 {
				loggers = append(loggers, cfg.Logger)
			}
		}
		m := New(d, logTo(log))
		defer stop(t, m)
		const consumers = 20
		for i := range consumers {
			cfg := testConfig()
			cfg.JobName = fmt.Sprintf("job-%d", i)
			cfg.MaxConsecutiveErrors = Unlimited
			require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
			require.NoError(t, m.SetConsumerSwitch(cfg.JobName, true))
		}
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		synctest.Wait()
		for i := range 425 {
			for _, l := range loggers {
				l.Warn("metadata not to be had", "attempt", i, "error", fmt.Errorf("broker %d is away", i))
			}
			time.Sleep(140 * time.Millisecond)
		}
		synctest.Wait() // 59.5 s have passed
		require.Len(t, loggers, consumers)
		written := len(log.with("")) / consumers
		require.LessOrEqual(t, written, 5, "lines of each consumer in its first minute")
		require.Len(t, log.with("failed; it will be started again", "failures=1"), consumers, "the first one at once")
		pass(time.Second)
		require.Equal(t, 425*consumers, log.occurrences("metadata not to be had"), "all are counted")
		for _, line := range log.with("repeated=424") {
			require.Contains(t, line, "attempt=424", "the latest is written")
		}
		stop(t, m)
		require.Equal(t, d.openCount(), log.occurrences("failed; it will be started again"), "what was withheld is written at the end")
	})
}

// E9: every kind of line that can repeat is thinned out, and none hides another.
func TestFault_E9_EachKindOfLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, failing := &lines{}, errors.New("no answer")
		d := &fakeDriver{commit: func(context.Context, []driver.Mark) error { return failing }}
		cfg := testConfig()
		cfg.CommitInterval, cfg.Backoff.Min, cfg.Backoff.Max = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
		m := New(d, logTo(log))
		defer stop(t, m)
		startOn(t, m, &handlerFunc{cfg, func(_ context.Context, v []byte) error {
			if string(v) == "7" {
				return errHandler
			}
			return nil
		}})
		c := d.consumer(t)
		for p := range int32(2) {
			c.deliver(c.assign(p, 6), 6, 7)
		}
		moving := c.assign(2, 0)
		for range 400 {
			c.h.Error(errDial)
			c.h.Error(&driver.PartitionError{Topic: "orders", Partition: 0, Offset: 8, Err: errDial})
			c.lose(moving)
			moving = c.assign(2, 0)
			pass(100 * time.Millisecond)
		}
		for _, line := range [][]string{
			{"handler failed", "partition=0"}, {"handler failed", "partition=1"}, {"commit failed"},
			{"kafka: driver", "partition=0"}, {"kafka: driver", "error=\"no broker"}, {"partitions lost"}, {"partitions assigned", "orders/2"},
		} {
			require.Len(t, log.with(line...), 1, "%v in 40 s", line)
		}
		pass(time.Minute)
		require.Equal(t, 400, log.occurrences("partitions lost"))
		require.Greater(t, log.occurrences("handler failed", "partition=1"), 300)
		// Gaps differ, and each is written.
		for i := range int64(10) {
			c.h.Error(&driver.DataLossError{Topic: "orders", From: i, To: i + 1})
		}
		require.Len(t, log.with("level=ERROR", "no longer in the log"), 10)
	})
}

// After a quiet minute a line is the first one again; kinds are bounded.
func TestThinnerForgetsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		l, kinds := thin(slog.New(slog.NewTextHandler(log, nil)))
		for range 3 {
			l.Info("once in a while")
			time.Sleep(thinEvery)
		}
		require.Len(t, log.with("once in a while"), 3)
		require.Empty(t, log.with("repeated"))
		for i := range 10 * maxKinds {
			l.Info("many", "text", strings.Repeat("x", i))
		}
		require.LessOrEqual(t, len(kinds.lines), maxKinds+1)
		kinds.close()
		l.Info("closed")
		l.Info("closed")
		require.Len(t, log.with("closed"), 2)
	})
}

// A thinner keeps the rules of slog's handlers.
func TestThinnerIsAHandler(t *testing.T) {
	var log *lines
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		log = &lines{}
		l, kinds := thin(slog.New(slog.NewJSONHandler(log, nil)))
		t.Cleanup(kinds.close)
		return l.Handler()
	}, func(t *testing.T) map[string]any { return log.parsed(t)[0] })
}
