package fault_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func open(t *testing.T, b *memory.Broker, i fault.Injector) (driver.Producer, *testkit.Acks) {
	t.Helper()
	p, err := fault.Wrap(b, i).OpenProducer(t.Context(), producerConfig)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close(testkit.Ended()) })
	return p, testkit.NewAcks(t)
}

// message returns a message to partition 0.
func message(a *testkit.Acks, value string) *driver.Message {
	m := a.Message("t", value)
	m.Partition = 0
	return m
}

// outcome is the outcome of a message without the error's code.
func outcome(a *testkit.Acks, value string) string {
	kind, _, _ := strings.Cut(a.Outcome(value), ":")
	return kind
}

func TestProduce(t *testing.T) {
	on := func(op fault.Op, i fault.Injector) fault.Injector { return fault.Nth(2, fault.On(op, i)) }
	tests := []struct {
		fault    fault.Injector
		produce  error
		outcome  string // when Produce has returned
		in       int    // records in the log
		took     time.Duration
		flush    error
		closed   error
		finally  string // when Close has returned
		duration time.Duration
	}{
		{fault: on(fault.Produce, fault.Before(boom)), outcome: "failed", finally: "failed"},
		{fault: on(fault.Produce, fault.Before(unknownError)), outcome: "unknown", finally: "unknown"},
		{fault: on(fault.Produce, fault.After(boom)), outcome: "unknown", in: 1, finally: "unknown"},
		{fault: on(fault.Produce, fault.After(fault.Permanent("NO"))), outcome: "unknown", in: 1, finally: "unknown"},
		{fault: on(fault.Produce, fault.Never()), produce: context.DeadlineExceeded, outcome: "none",
			took: time.Minute, finally: "none", duration: time.Minute},
		{fault: on(fault.Produce, fault.Delay(time.Second)), outcome: "sent", in: 1, took: time.Second,
			finally: "sent", duration: time.Second},
		{fault: on(fault.Ack, fault.Before(boom)), outcome: "unknown", in: 1, finally: "unknown"},
		{fault: on(fault.Ack, fault.After(boom)), outcome: "unknown", in: 1, finally: "unknown"},
		{fault: on(fault.Ack, fault.Delay(time.Second)), outcome: "none", in: 1, finally: "sent", duration: time.Second},
		{fault: on(fault.Ack, fault.Never()), outcome: "none", in: 1, flush: context.DeadlineExceeded,
			closed: context.DeadlineExceeded, finally: "unknown", duration: 2 * time.Minute},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			what := tt.fault.String()
			b := newBroker(t, 1)
			p, a := open(t, b, tt.fault)
			begin := time.Now()
			require.NoError(t, p.Produce(t.Context(), message(a, "first")), what+": first")
			m := message(a, "second")
			require.ErrorIs(t, p.Produce(testkit.Within(t, time.Minute), m), tt.produce, what+": Produce")
			require.Equal(t, tt.took, time.Since(begin), what+": time")
			require.Equal(t, tt.outcome, outcome(a, "second"), what+": outcome")
			_, end, err := b.Offsets("t", 0)
			require.NoError(t, err)
			require.EqualValues(t, 1+tt.in, end, what+": log")
			require.NoError(t, p.Produce(t.Context(), message(a, "third")), what+": third")

			require.ErrorIs(t, p.Flush(testkit.Within(t, time.Minute)), tt.flush, what+": Flush")
			require.ErrorIs(t, p.Close(testkit.Within(t, time.Minute)), tt.closed, what+": Close")
			require.Equal(t, tt.duration, time.Since(begin), what+": all in all")
			require.Equal(t, tt.finally, outcome(a, "second"), what+": finally")
			require.Equal(t, "sentsent", outcome(a, "first")+outcome(a, "third"), what+": the others")
			require.Equal(t, a.Acker("second"), m.Acker, what+": the message's own acker")
		})
	}
}

var unknownError = &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome, Err: fault.ErrInjected}

// An outcome that may be in the log is not permanent, whatever was injected.
func TestUnknownOutcomeKeepsItsName(t *testing.T) {
	b := newBroker(t, 1)
	p, a := open(t, b, fault.On(fault.Ack, fault.After(fault.Permanent("NO"))))
	require.NoError(t, p.Produce(t.Context(), message(a, "a")), "Produce")
	require.Equal(t, "unknown: NO", a.Outcome("a"))
	err, _ := a.Err("a")
	require.NotErrorIs(t, err, driver.ErrPermanent)
	require.ErrorIs(t, err, fault.ErrInjected)
}

// A definite failure stays one: the message is not in the log.
func TestFailureIsNotMadeUnknown(t *testing.T) {
	b := newBroker(t, 1)
	p, a := open(t, b, fault.On(fault.Ack, fault.After(boom)))
	m := message(a, "a")
	m.Topic = "nobody"
	require.NoError(t, p.Produce(t.Context(), m), "Produce")
	require.Equal(t, "failed", outcome(a, "a"), "outcome")
}

func TestFlush(t *testing.T) {
	tests := []struct {
		fault fault.Injector
		want  error
		took  time.Duration
	}{
		{fault.Before(boom), boom, 0},
		{fault.After(boom), boom, 2 * time.Second},
		{fault.Never(), context.DeadlineExceeded, time.Minute},
		{fault.Delay(time.Second), nil, 2 * time.Second},
		{fault.Delay(5 * time.Second), nil, 5 * time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			p, a := open(t, b, fault.All(fault.On(fault.Flush, tt.fault), fault.On(fault.Ack, fault.Delay(2*time.Second))))
			require.NoError(t, p.Produce(t.Context(), message(a, "a")), "Produce")
			begin := time.Now()
			require.ErrorIs(t, p.Flush(testkit.Within(t, time.Minute)), tt.want, tt.fault.String())
			require.Equal(t, tt.took, time.Since(begin), tt.fault.String()+": time")
		})
	}
}

func TestCloseProducer(t *testing.T) {
	tests := []struct {
		fault   fault.Injector
		want    error
		took    time.Duration
		outcome string
	}{
		{fault.Before(boom), boom, 0, "unknown"},
		{fault.After(boom), boom, 2 * time.Second, "sent"},
		{fault.Never(), context.DeadlineExceeded, time.Minute, "sent"},
		{fault.Delay(time.Second), nil, 2 * time.Second, "sent"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			what := tt.fault.String()
			b := newBroker(t, 1)
			p, a := open(t, b, fault.All(fault.On(fault.CloseProducer, tt.fault), fault.On(fault.Ack, fault.Delay(2*time.Second))))
			require.NoError(t, p.Produce(t.Context(), message(a, "a")), what+": Produce")
			begin := time.Now()
			require.ErrorIs(t, p.Close(testkit.Within(t, time.Minute)), tt.want, what)
			require.Equal(t, tt.took, time.Since(begin), what+": time")
			require.Equal(t, tt.outcome, outcome(a, "a"), what+": outcome")
			require.ErrorIs(t, p.Close(t.Context()), tt.want, what+": again")
			require.ErrorIs(t, p.Produce(t.Context(), message(a, "late")), driver.ErrClosed, what+": late")
		})
	}
}

// A Produce that finds no buffer space ends when Close begins.
func TestCloseEndsBlockedProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p, a := open(t, b, fault.On(fault.Produce, fault.Never()))
		end := make(chan error, 1)
		go func() { end <- p.Produce(context.Background(), message(a, "a")) }()
		synctest.Wait()
		require.NoError(t, p.Close(t.Context()), "Close")
		require.ErrorIs(t, <-end, driver.ErrClosed, "Produce")
		require.Equal(t, "none", outcome(a, "a"), "outcome")
	})
}

// Whatever happens to them, all accepted messages are acknowledged once.
func TestEveryMessageIsAcknowledgedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p, a := open(t, b, fault.Any(
			fault.Chance(0.2, 1, fault.On(fault.Produce, fault.Before(boom))),
			fault.Chance(0.2, 2, fault.On(fault.Produce, fault.After(boom))),
			fault.Chance(0.2, 3, fault.On(fault.Ack, fault.After(boom))),
			fault.Chance(0.2, 4, fault.On(fault.Ack, fault.Delay(time.Second))),
			fault.Chance(0.2, 5, fault.On(fault.Ack, fault.Never())),
		))
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 250 {
					assert.NoError(t, p.Produce(t.Context(), message(a, fmt.Sprint(g, "-", i))))
				}
			})
		}
		wg.Wait()
		require.ErrorIs(t, p.Close(testkit.Within(t, time.Minute)), context.DeadlineExceeded, "Close")
		counts := map[string]int{}
		for g := range 4 {
			for i := range 250 {
				counts[outcome(a, fmt.Sprint(g, "-", i))]++
			}
		}
		require.Equal(t, 1000, a.Len(), "acknowledged")
		_, end, err := b.Offsets("t", 0)
		require.NoError(t, err)
		require.EqualValues(t, end, counts["sent"]+counts["unknown"], "records in the log")
		require.GreaterOrEqual(t, counts["sent"], 200)
		require.GreaterOrEqual(t, counts["failed"], 100)
	})
}
