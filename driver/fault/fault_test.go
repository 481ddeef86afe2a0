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

// told is a Handler that keeps what it is told.
type told struct {
	revoke func(ctx context.Context)

	mu     sync.Mutex
	claims []*driver.Claim // all that ever were
	log    []string
}

func (h *told) add(what string, ks []*driver.Claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range ks {
		h.log = append(h.log, fmt.Sprint(what, " ", k.Partition))
	}
}

func (h *told) Assign(ks []*driver.Claim) {
	h.add("assign", ks)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, ks...)
}

func (h *told) Deliver(k *driver.Claim, _ driver.Batch) { h.add("deliver", []*driver.Claim{k}) }
func (h *told) Error(error)                             {}

func (h *told) Revoke(ctx context.Context, ks []*driver.Claim) {
	h.add("revoke", ks)
	if h.revoke != nil {
		h.revoke(ctx)
		h.add(fmt.Sprint("revoked, ", context.Cause(ctx)), ks)
	}
}

func (h *told) Lost(ks []*driver.Claim, cause error) { h.add(fmt.Sprint("lost, ", cause), ks) }

func (h *told) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log
	h.log = nil
	return log
}

func newBroker(t *testing.T, partitions int) *memory.Broker {
	t.Helper()
	b := memory.NewBroker()
	if err := b.CreateTopic("t", partitions); err != nil {
		t.Fatal(err)
	}
	return b
}

var consumerConfig = driver.ConsumerConfig{
	ClientID: "c", Group: "g", Topics: []string{"t"}, InitialOffset: driver.OffsetOldest,
	BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
	SessionTimeout:    10 * time.Second, RebalanceTimeout: time.Minute, DrainTimeout: 5 * time.Second,
	MaxMessageBytes: 1000,
}

var producerConfig = driver.ProducerConfig{
	ClientID: "p", MaxRetries: 3, RetryBackoff: time.Second, MaxMessageBytes: 1000,
}

// running is a consumer that runs.
type running struct {
	driver.Consumer
	*told
	end chan error
}

func run(t *testing.T, b *memory.Broker, i fault.Injector, h *told) *running {
	t.Helper()
	c, err := fault.Wrap(b, i).OpenConsumer(t.Context(), consumerConfig)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Consumer: c, told: h, end: make(chan error, 1)}
	go func() { r.end <- c.Run(h) }()
	t.Cleanup(func() { c.Close(ended()) })
	synctest.Wait()
	return r
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestOpen(t *testing.T) {
	tests := []struct {
		fault fault.Injector
		want  error
		took  time.Duration
	}{
		{fault.Before(boom), boom, 0},
		{fault.After(boom), boom, 0},
		{fault.Never(), context.DeadlineExceeded, time.Minute},
		{fault.Delay(time.Second), nil, time.Second},
		{fault.Delay(time.Hour), context.DeadlineExceeded, time.Minute},
		{fault.All(fault.Delay(time.Second), fault.Before(boom)), boom, time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			d := fault.Wrap(b, fault.On(fault.OpenConsumer, tt.fault))
			begin := time.Now()
			c, err := d.OpenConsumer(within(t, time.Minute), consumerConfig)
			equal(t, fmt.Sprint("consumer, ", tt.fault), err, tt.want)
			equal(t, fmt.Sprint("consumer, ", tt.fault, ": time"), time.Since(begin), tt.took)
			if err == nil {
				equal(t, "close", c.Close(t.Context()), error(nil))
			}
			d = fault.Wrap(b, fault.On(fault.OpenProducer, tt.fault))
			begin = time.Now()
			p, err := d.OpenProducer(within(t, time.Minute), producerConfig)
			equal(t, fmt.Sprint("producer, ", tt.fault), err, tt.want)
			equal(t, fmt.Sprint("producer, ", tt.fault, ": time"), time.Since(begin), tt.took)
			if err == nil {
				equal(t, "close", p.Close(t.Context()), error(nil))
			}
		})
	}
}

func TestRunFailsBeforeJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Run, fault.Before(boom)), &told{})
		equal(t, "Run", <-r.end, boom)
		equal(t, "told", len(r.taken()), 0)
		equal(t, "Close", r.Close(t.Context()), error(nil))
	})
}

// A crash: live claims are lost, and the group does not hear of it.
func TestRunCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r := run(t, b, fault.On(fault.Run, fault.All(fault.Delay(3*time.Second), fault.After(boom))), &told{})
		begin := time.Now()
		equal(t, "joined", r.taken(), []string{"assign 0", "assign 1"})
		equal(t, "Run", <-r.end, boom)
		equal(t, "time", time.Since(begin), 3*time.Second)
		equal(t, "told", r.taken(), []string{"lost, BOOM: injected 0", "lost, BOOM: injected 1"})
		equal(t, "members", len(b.Members("g")), 1)
		err := r.Commit(t.Context(), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		if !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v, want %v", err, driver.ErrClaimEnded)
		}
		equal(t, "Close", r.Close(t.Context()), error(nil))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		equal(t, "members after the session", len(b.Members("g")), 0)
	})
}

// A Revoke that runs when the crash comes learns of it by its context.
func TestRunCrashesDuringRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		h := &told{revoke: func(ctx context.Context) { <-ctx.Done() }}
		r := run(t, b, fault.On(fault.Run, fault.All(fault.Delay(3*time.Second), fault.After(boom))), h)
		time.Sleep(time.Second)
		b.Rebalance("g")
		begin := time.Now()
		equal(t, "Run", <-r.end, boom)
		equal(t, "time", time.Since(begin), 2*time.Second)
		equal(t, "told", r.taken(), []string{"assign 0", "revoke 0", "revoked, BOOM: injected 0"})
	})
}

// Close comes first: there is nothing to crash any more.
func TestCloseBeforeCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		for _, f := range []fault.Injector{
			fault.All(fault.Delay(time.Hour), fault.After(boom)),
			fault.All(fault.Delay(time.Hour), fault.Before(boom)),
			fault.Never(),
		} {
			r := run(t, b, fault.On(fault.Run, f), &told{})
			begin := time.Now()
			equal(t, "Close", r.Close(t.Context()), error(nil))
			equal(t, "Run", <-r.end, error(nil))
			equal(t, "time", time.Since(begin), 0)
			equal(t, "members", len(b.Members("g")), 0)
		}
	})
}

func TestCommit(t *testing.T) {
	onMark1 := func(i fault.Injector) fault.Injector { return fault.On(fault.Mark, fault.Partition(1, i)) }
	tests := []struct {
		fault      fault.Injector
		errs       [2]error
		committed  [2]int64
		again      bool // the second commit succeeds
		took       time.Duration
		committed2 [2]int64
	}{
		{fault.Any(), [2]error{}, [2]int64{5, 5}, true, 0, [2]int64{5, 5}},
		{fault.First(1, fault.On(fault.Commit, fault.Before(boom))), [2]error{boom, boom}, [2]int64{-1, -1}, true, 0, [2]int64{5, 5}},
		{fault.First(1, fault.On(fault.Commit, fault.After(boom))), [2]error{boom, boom}, [2]int64{5, 5}, true, 0, [2]int64{5, 5}},
		{fault.On(fault.Commit, fault.After(boom)), [2]error{boom, boom}, [2]int64{5, 5}, true, 0, [2]int64{5, 5}},
		{fault.On(fault.Commit, fault.Before(boom)), [2]error{boom, boom}, [2]int64{-1, -1}, false, 0, [2]int64{-1, -1}},
		{fault.First(1, fault.On(fault.Commit, fault.Never())),
			[2]error{context.DeadlineExceeded, context.DeadlineExceeded}, [2]int64{-1, -1}, true, time.Minute, [2]int64{5, 5}},
		{fault.On(fault.Commit, fault.Delay(time.Second)), [2]error{}, [2]int64{5, 5}, true, time.Second, [2]int64{5, 5}},
		{fault.First(1, fault.On(fault.Commit, fault.Delay(time.Hour))),
			[2]error{context.DeadlineExceeded, context.DeadlineExceeded}, [2]int64{-1, -1}, true, time.Minute, [2]int64{5, 5}},
		{onMark1(fault.Before(boom)), [2]error{nil, boom}, [2]int64{5, -1}, false, 0, [2]int64{5, -1}},
		{onMark1(fault.After(boom)), [2]error{nil, boom}, [2]int64{5, 5}, true, 0, [2]int64{5, 5}},
		{onMark1(fault.Never()), [2]error{nil, context.DeadlineExceeded}, [2]int64{5, -1}, false, time.Minute, [2]int64{5, -1}},
		{onMark1(fault.Delay(time.Second)), [2]error{}, [2]int64{5, 5}, true, time.Second, [2]int64{5, 5}},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			what := tt.fault.String()
			b := newBroker(t, 2)
			r := run(t, b, tt.fault, &told{})
			marks := []driver.Mark{{Claim: r.claims[0], Offset: 5}, {Claim: r.claims[1], Offset: 5}}
			committed := func() [2]int64 { return [2]int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)} }
			begin := time.Now()
			err := r.Commit(within(t, time.Minute), marks)
			equal(t, what+": time", time.Since(begin), tt.took)
			for p, m := range marks {
				if got := errorOf(err, m); !errors.Is(got, tt.errs[p]) {
					t.Errorf("%s: mark %d: %v, want %v", what, p, got, tt.errs[p])
				}
			}
			equal(t, what+": committed", committed(), tt.committed)
			err = r.Commit(within(t, time.Minute), marks)
			equal(t, what+": second commit succeeds", err == nil, tt.again)
			equal(t, what+": committed then", committed(), tt.committed2)
		})
	}
}

func errorOf(err error, m driver.Mark) error {
	var ce *driver.CommitError
	if errors.As(err, &ce) {
		for _, f := range ce.Failed {
			if f.Mark == m {
				return f.Err
			}
		}
	}
	return nil
}

// A mark that asks for nothing gets its answer from the contract, not a fault.
func TestCommitOfMarksThatAskForNothing(t *testing.T) {
	for _, f := range []fault.Injector{fault.Before(boom), fault.After(boom), fault.Never()} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			r := run(t, b, fault.On(fault.Commit, f), &told{})
			live := r.claims[0]
			equal(t, f.String()+": at Start", r.Commit(t.Context(), []driver.Mark{{Claim: live, Offset: 0}}), error(nil))
			b.Rebalance("g")
			synctest.Wait()
			err := r.Commit(t.Context(), []driver.Mark{{Claim: live, Offset: 1}})
			if !errors.Is(err, driver.ErrClaimEnded) {
				t.Errorf("%v: on an ended claim: %v", f, err)
			}
		})
	}
}

// A claim that ends while its commit gets no answer has ended.
func TestClaimEndsWhileCommitIsUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Commit, fault.Never()), &told{})
		time.AfterFunc(time.Second, func() { b.Rebalance("g") })
		err := r.Commit(within(t, time.Minute), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		if !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("got %v, want %v", err, driver.ErrClaimEnded)
		}
	})
}

func TestPauseIsDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		i := fault.All(fault.On(fault.Pause, fault.Partition(0, fault.Delay(time.Second))),
			fault.On(fault.Resume, fault.All(fault.Delay(time.Minute), fault.Before(boom))))
		r := run(t, b, i, &told{})
		r.taken()
		begin := time.Now()
		r.Pause(r.claims...)
		equal(t, "Pause", time.Since(begin), time.Second)
		for p := range int32(2) {
			if err := b.Send(&driver.Message{Topic: "t", Partition: p}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		equal(t, "paused", r.taken(), []string(nil))
		r.Resume(r.claims[1])
		equal(t, "Resume", time.Since(begin), time.Second+time.Minute)
		synctest.Wait()
		equal(t, "resumed", r.taken(), []string{"deliver 1"})
		equal(t, "high watermark", r.Consumer.(driver.HighWatermarker).HighWatermark(r.claims[1]), 1)
	})
}

func TestCloseConsumer(t *testing.T) {
	tests := []struct {
		fault   fault.Injector
		want    error
		took    time.Duration
		told    []string
		members int
	}{
		{fault.Before(boom), boom, 0, []string{"lost, context canceled 0"}, 1},
		{fault.After(boom), boom, 0, []string{"revoke 0"}, 0},
		{fault.Never(), context.DeadlineExceeded, time.Minute, []string{"lost, context canceled 0"}, 1},
		{fault.Delay(time.Second), nil, time.Second, []string{"revoke 0"}, 0},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			what := tt.fault.String()
			b := newBroker(t, 1)
			r := run(t, b, fault.On(fault.CloseConsumer, tt.fault), &told{})
			r.taken()
			begin := time.Now()
			equal(t, what, r.Close(within(t, time.Minute)), tt.want)
			equal(t, what+": Run", <-r.end, error(nil))
			equal(t, what+": time", time.Since(begin), tt.took)
			equal(t, what+": told", r.taken(), tt.told)
			equal(t, what+": members", len(b.Members("g")), tt.members)
			equal(t, what+": again", r.Close(t.Context()), tt.want)
		})
	}
}

// bare is a driver without any optional interface.
type bare struct{ driver.Driver }

// validating is one with all of them.
type validating struct{ bare }

func (validating) ValidateConsumer(driver.ConsumerConfig) error { return boom }
func (validating) ValidateProducer(driver.ProducerConfig) error { return boom }

func TestOptionalInterfaces(t *testing.T) {
	for _, tt := range []struct {
		d    driver.Driver
		want error
	}{{bare{}, nil}, {validating{}, boom}} {
		d := fault.Wrap(tt.d, fault.Any())
		equal(t, "consumer", d.(driver.ConsumerValidator).ValidateConsumer(consumerConfig), tt.want)
		equal(t, "producer", d.(driver.ProducerValidator).ValidateProducer(producerConfig), tt.want)
	}
}
