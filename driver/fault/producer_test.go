package fault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// answers keeps what messages are acknowledged with, each once.
type answers struct {
	t   *testing.T
	mu  sync.Mutex
	got map[string]error
}

type answer struct {
	*answers
	value string
}

func (a answer) Ack(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.got[a.value]; ok {
		a.t.Errorf("%s: acknowledged twice", a.value)
	}
	a.got[a.value] = err
}

func (a *answers) message(value string) *driver.Message {
	return &driver.Message{Topic: "t", Value: []byte(value), Acker: answer{a, value}}
}

// of describes what a message was acknowledged with.
func (a *answers) of(value string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch err, ok := a.got[value]; {
	case !ok:
		return "none"
	case err == nil:
		return "sent"
	case errors.Is(err, driver.ErrUnknownOutcome):
		return "unknown"
	default:
		return "failed"
	}
}

func open(t *testing.T, b *memory.Broker, i fault.Injector) (driver.Producer, *answers) {
	t.Helper()
	p, err := fault.Wrap(b, i).OpenProducer(t.Context(), producerConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(ended()) })
	return p, &answers{t: t, got: map[string]error{}}
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
			equal(t, what+": first", p.Produce(t.Context(), a.message("first")), error(nil))
			m := a.message("second")
			equal(t, what+": Produce", p.Produce(within(t, time.Minute), m), tt.produce)
			equal(t, what+": time", time.Since(begin), tt.took)
			equal(t, what+": outcome", a.of("second"), tt.outcome)
			_, end, err := b.Offsets("t", 0)
			equal(t, what+": log", []any{end, err}, []any{1 + tt.in, nil})
			equal(t, what+": third", p.Produce(t.Context(), a.message("third")), error(nil))

			equal(t, what+": Flush", p.Flush(within(t, time.Minute)), tt.flush)
			equal(t, what+": Close", p.Close(within(t, time.Minute)), tt.closed)
			equal(t, what+": all in all", time.Since(begin), tt.duration)
			equal(t, what+": finally", a.of("second"), tt.finally)
			equal(t, what+": the others", a.of("first")+a.of("third"), "sentsent")
			equal(t, what+": the message's own acker", m.Acker, driver.Acker(answer{a, "second"}))
		})
	}
}

var unknownError = &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome, Err: fault.ErrInjected}

// An outcome that may be in the log is not permanent, whatever was injected.
func TestUnknownOutcomeKeepsItsName(t *testing.T) {
	b := newBroker(t, 1)
	p, a := open(t, b, fault.On(fault.Ack, fault.After(fault.Permanent("NO"))))
	equal(t, "Produce", p.Produce(t.Context(), a.message("a")), error(nil))
	err := a.got["a"]
	var e *driver.Error
	if !errors.As(err, &e) || e.Code != "NO" || errors.Is(err, driver.ErrPermanent) || !errors.Is(err, fault.ErrInjected) {
		t.Errorf("got %v", err)
	}
}

// A definite failure stays one: the message is not in the log.
func TestFailureIsNotMadeUnknown(t *testing.T) {
	b := newBroker(t, 1)
	p, a := open(t, b, fault.On(fault.Ack, fault.After(boom)))
	m := a.message("a")
	m.Topic = "nobody"
	equal(t, "Produce", p.Produce(t.Context(), m), error(nil))
	equal(t, "outcome", a.of("a"), "failed")
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
			equal(t, "Produce", p.Produce(t.Context(), a.message("a")), error(nil))
			begin := time.Now()
			equal(t, tt.fault.String(), p.Flush(within(t, time.Minute)), tt.want)
			equal(t, tt.fault.String()+": time", time.Since(begin), tt.took)
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
			equal(t, what+": Produce", p.Produce(t.Context(), a.message("a")), error(nil))
			begin := time.Now()
			equal(t, what, p.Close(within(t, time.Minute)), tt.want)
			equal(t, what+": time", time.Since(begin), tt.took)
			equal(t, what+": outcome", a.of("a"), tt.outcome)
			equal(t, what+": again", p.Close(t.Context()), tt.want)
			equal(t, what+": late", p.Produce(t.Context(), a.message("late")), driver.ErrClosed)
		})
	}
}

// A Produce that finds no buffer space ends when Close begins.
func TestCloseEndsBlockedProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		p, a := open(t, b, fault.On(fault.Produce, fault.Never()))
		end := make(chan error, 1)
		go func() { end <- p.Produce(context.Background(), a.message("a")) }()
		synctest.Wait()
		equal(t, "Close", p.Close(t.Context()), error(nil))
		equal(t, "Produce", <-end, driver.ErrClosed)
		equal(t, "outcome", a.of("a"), "none")
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
					if err := p.Produce(t.Context(), a.message(fmt.Sprint(g, "-", i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		equal(t, "Close", p.Close(within(t, time.Minute)), context.DeadlineExceeded)
		counts := map[string]int{}
		for value := range a.got {
			counts[a.of(value)]++
		}
		equal(t, "acknowledged", len(a.got), 1000)
		_, end, err := b.Offsets("t", 0)
		if err != nil || counts["sent"]+counts["unknown"] != int(end) || counts["sent"] < 200 || counts["failed"] < 100 {
			t.Errorf("%v of %d records: %v", counts, end, err)
		}
	})
}
