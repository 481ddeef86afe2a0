package fault_test

import (
	"context"
	"errors"
	"fmt"
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

// calls is a Handler that records its calls.
type calls struct {
	revoke func(ctx context.Context)

	mu     sync.Mutex
	claims []*driver.Claim // all that ever were
	log    []string
}

func (h *calls) add(what string, ks []*driver.Claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range ks {
		h.log = append(h.log, fmt.Sprint(what, " ", k.Partition))
	}
}

func (h *calls) Assign(ks []*driver.Claim) {
	h.add("assign", ks)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, ks...)
}

func (h *calls) Deliver(k *driver.Claim, _ driver.Batch) { h.add("deliver", []*driver.Claim{k}) }
func (h *calls) Error(error)                             {}

func (h *calls) Revoke(ctx context.Context, ks []*driver.Claim) {
	h.add("revoke", ks)
	if h.revoke != nil {
		h.revoke(ctx)
		h.add(fmt.Sprint("revoked, ", context.Cause(ctx)), ks)
	}
}

func (h *calls) Lost(ks []*driver.Claim, cause error) { h.add(fmt.Sprint("lost, ", cause), ks) }

func (h *calls) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log
	h.log = nil
	return log
}

func newBroker(t *testing.T, partitions int) *memory.Broker {
	t.Helper()
	b := memory.NewBroker()
	require.NoError(t, b.CreateTopic("t", partitions))
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
	*calls
	end chan error
}

func run(t *testing.T, b *memory.Broker, i fault.Injector, h *calls) *running {
	t.Helper()
	c, err := fault.Wrap(b, i).OpenConsumer(t.Context(), consumerConfig)
	require.NoError(t, err)
	r := &running{Consumer: c, calls: h, end: make(chan error, 1)}
	go func() { r.end <- c.Run(h) }()
	t.Cleanup(func() { c.Close(testkit.Ended()) })
	synctest.Wait()
	return r
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
			c, err := d.OpenConsumer(testkit.Within(t, time.Minute), consumerConfig)
			require.ErrorIsf(t, err, tt.want, "consumer, %v", tt.fault)
			require.Equalf(t, tt.took, time.Since(begin), "consumer, %v: time", tt.fault)
			if err == nil {
				require.NoError(t, c.Close(t.Context()), "close")
			}
			d = fault.Wrap(b, fault.On(fault.OpenProducer, tt.fault))
			begin = time.Now()
			p, err := d.OpenProducer(testkit.Within(t, time.Minute), producerConfig)
			require.ErrorIsf(t, err, tt.want, "producer, %v", tt.fault)
			require.Equalf(t, tt.took, time.Since(begin), "producer, %v: time", tt.fault)
			if err == nil {
				require.NoError(t, p.Close(t.Context()), "close")
			}
		})
	}
}

func TestRunFailsBeforeJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Run, fault.Before(boom)), &calls{})
		require.ErrorIs(t, <-r.end, boom, "Run")
		require.Empty(t, r.taken(), "calls")
		require.NoError(t, r.Close(t.Context()), "Close")
	})
}

// A crash: live claims are lost, and the group does not hear of it.
func TestRunCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r := run(t, b, fault.On(fault.Run, fault.All(fault.Delay(3*time.Second), fault.After(boom))), &calls{})
		begin := time.Now()
		require.Equal(t, []string{"assign 0", "assign 1"}, r.taken(), "joined")
		require.ErrorIs(t, <-r.end, boom, "Run")
		require.Equal(t, 3*time.Second, time.Since(begin), "time")
		require.Equal(t, []string{"lost, BOOM: injected 0", "lost, BOOM: injected 1"}, r.taken(), "calls")
		require.Len(t, b.Members("g"), 1, "members")
		err := r.Commit(t.Context(), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		assert.ErrorIs(t, err, driver.ErrClaimEnded, "commit")
		require.NoError(t, r.Close(t.Context()), "Close")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Empty(t, b.Members("g"), "members after the session")
	})
}

// A Revoke that runs when the crash comes learns of it by its context.
func TestRunCrashesDuringRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		h := &calls{revoke: func(ctx context.Context) { <-ctx.Done() }}
		r := run(t, b, fault.On(fault.Run, fault.All(fault.Delay(3*time.Second), fault.After(boom))), h)
		time.Sleep(time.Second)
		b.Rebalance("g")
		begin := time.Now()
		require.ErrorIs(t, <-r.end, boom, "Run")
		require.Equal(t, 2*time.Second, time.Since(begin), "time")
		require.Equal(t, []string{"assign 0", "revoke 0", "revoked, BOOM: injected 0"}, r.taken(), "calls")
	})
}

// Close comes before the crash, which then does not happen.
func TestCloseBeforeCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		for _, f := range []fault.Injector{
			fault.All(fault.Delay(time.Hour), fault.After(boom)),
			fault.All(fault.Delay(time.Hour), fault.Before(boom)),
			fault.Never(),
		} {
			r := run(t, b, fault.On(fault.Run, f), &calls{})
			begin := time.Now()
			require.NoError(t, r.Close(t.Context()), "Close")
			require.NoError(t, <-r.end, "Run")
			require.Zero(t, time.Since(begin), "time")
			require.Empty(t, b.Members("g"), "members")
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
			r := run(t, b, tt.fault, &calls{})
			marks := []driver.Mark{{Claim: r.claims[0], Offset: 5}, {Claim: r.claims[1], Offset: 5}}
			committed := func() [2]int64 { return [2]int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)} }
			begin := time.Now()
			err := r.Commit(testkit.Within(t, time.Minute), marks)
			require.Equal(t, tt.took, time.Since(begin), what+": time")
			for p, m := range marks {
				assert.ErrorIsf(t, errorOf(err, m), tt.errs[p], "%s: mark %d", what, p)
			}
			require.Equal(t, tt.committed, committed(), what+": committed")
			err = r.Commit(testkit.Within(t, time.Minute), marks)
			require.Equal(t, tt.again, err == nil, what+": second commit succeeds")
			require.Equal(t, tt.committed2, committed(), what+": committed then")
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
			r := run(t, b, fault.On(fault.Commit, f), &calls{})
			live := r.claims[0]
			require.NoError(t, r.Commit(t.Context(), []driver.Mark{{Claim: live, Offset: 0}}), f.String()+": at Start")
			at := testkit.Within(t, time.Second)
			assert.Errorf(t, r.Commit(at, []driver.Mark{{Claim: live, Offset: 0, Metadata: "m"}}), "%v: at Start, with other metadata", f)
			b.Rebalance("g")
			synctest.Wait()
			err := r.Commit(t.Context(), []driver.Mark{{Claim: live, Offset: 1}})
			assert.ErrorIsf(t, err, driver.ErrClaimEnded, "%v: on an ended claim", f)
		})
	}
}

// A claim that ends while its commit gets no answer has ended.
func TestClaimEndsWhileCommitIsUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Commit, fault.Never()), &calls{})
		time.AfterFunc(time.Second, func() { b.Rebalance("g") })
		err := r.Commit(testkit.Within(t, time.Minute), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		assert.ErrorIs(t, err, driver.ErrClaimEnded)
	})
}

func TestPauseIsDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		i := fault.All(fault.On(fault.Pause, fault.Partition(0, fault.Delay(time.Second))),
			fault.On(fault.Resume, fault.All(fault.Delay(time.Minute), fault.Before(boom))))
		r := run(t, b, i, &calls{})
		r.taken()
		begin := time.Now()
		r.Pause(r.claims...)
		require.Equal(t, time.Second, time.Since(begin), "Pause")
		for p := range int32(2) {
			require.NoError(t, b.Send("t", nil, nil, memory.ToPartition(p)))
		}
		synctest.Wait()
		require.Empty(t, r.taken(), "paused")
		r.Resume(r.claims[1])
		require.Equal(t, time.Second+time.Minute, time.Since(begin), "Resume")
		synctest.Wait()
		require.Equal(t, []string{"deliver 1"}, r.taken(), "resumed")
		require.Equal(t, int64(1), r.Consumer.(driver.HighWatermarker).HighWatermark(r.claims[1]), "high watermark")
	})
}

func TestCloseConsumer(t *testing.T) {
	tests := []struct {
		fault   fault.Injector
		want    error
		took    time.Duration
		calls   []string
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
			r := run(t, b, fault.On(fault.CloseConsumer, tt.fault), &calls{})
			r.taken()
			begin := time.Now()
			require.ErrorIs(t, r.Close(testkit.Within(t, time.Minute)), tt.want, what)
			require.NoError(t, <-r.end, what+": Run")
			require.Equal(t, tt.took, time.Since(begin), what+": time")
			require.Equal(t, tt.calls, r.taken(), what+": calls")
			require.Len(t, b.Members("g"), tt.members, what+": members")
			require.ErrorIs(t, r.Close(t.Context()), tt.want, what+": again")
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
		require.ErrorIs(t, d.(driver.ConsumerValidator).ValidateConsumer(consumerConfig), tt.want, "consumer")
		require.ErrorIs(t, d.(driver.ProducerValidator).ValidateProducer(producerConfig), tt.want, "producer")
	}
}
