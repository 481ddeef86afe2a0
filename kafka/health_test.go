package kafka

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

var writeTable = flag.Bool("write-table", false, "write the table of Ready and Healthy to docs/operating.md")

// A situation is what a manager can be in, and what Ready and Healthy make of it.
type situation struct {
	name           string
	ready, healthy string // the error, or nothing; in a table the words before a colon
	why            string
	make           func(t *testing.T) *Manager
}

// A joiningDriver's consumers wait to be let into their group.
type joiningDriver struct{ fakeDriver }

type joiningConsumer struct {
	driver.Consumer
	closed chan struct{}
}

func (d *joiningDriver) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return joiningConsumer{closed: make(chan struct{})}, nil
}

func (c joiningConsumer) Run(driver.Handler) error {
	<-c.closed
	return nil
}

func (c joiningConsumer) Close(context.Context) error {
	close(c.closed)
	return nil
}

// startStuck is start with a handler that hangs until the test has ended, and never heeds
// its context.
func startStuck(t *testing.T, d *fakeDriver, cfg ConsumerConfig, handle func(hang func()) error, opts ...Option) *Manager {
	release := make(chan struct{})
	m := start(t, d, cfg, func(context.Context, []byte) error { return handle(func() { <-release }) }, opts...)
	t.Cleanup(func() { close(release) })
	return m
}

func hangAtOnce(hang func()) error {
	hang()
	return nil
}

var situations = []situation{
	{"all is well", "", "", "", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		return m
	}},
	{"starting", `kafka: consumer "job" has not joined its group, and is starting`, "", "the switch is on, and no broker has let the consumer into its group yet", func(t *testing.T) *Manager {
		m := New(&joiningDriver{}, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), nothing})
		return m
	}},
	{"standby", "", "", "the group has more members than partitions", func(t *testing.T) *Manager {
		return start(t, &fakeDriver{}, testConfig(), nothing)
	}},
	{"cluster away", "", "", "the consumer had joined; its driver tries to reach the brokers", func(t *testing.T) *Manager {
		d := &fakeDriver{commit: func(context.Context, []driver.Mark) error { return errDial }}
		m := start(t, d, testConfig(), nothing)
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 9)
		c.h.Error(errDial)
		return m
	}},
	{"cluster away at the start", `kafka: consumer "job" has not joined its group, and is backing off: connect: no broker answers`, "", "the consumer backs off, and is disabled after MaxConsecutiveErrors", func(t *testing.T) *Manager {
		cfg := testConfig()
		cfg.MaxConsecutiveErrors = Unlimited
		return start(t, &fakeDriver{openErr: func(int) error { return errDial }}, cfg, nothing)
	}},
	{"held", "", "", "the handler blames an outage by Hold", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return Hold(errHandler, 0) })
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		return m
	}},
	{"paused", "", "", "an operator has paused the consumer", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		require.NoError(t, m.Pause("job"))
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		return m
	}},
	{"stuck handler", "", `kafka: consumer "job": the handler of orders/0 has been at offset 0 for 59m45s`, "one call runs for longer than WithStuckAfter", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		m := startStuck(t, d, testConfig(), hangAtOnce)
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		return m
	}},
	{"failing record", "", "", "its retries go on", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return errHandler })
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		return m
	}},
	{"disabled", "", "", "its switch is off; an alert is for that", func(t *testing.T) *Manager {
		return start(t, &fakeDriver{openErr: func(int) error { return ErrPermanent }}, testConfig(), nothing)
	}},
	{"shutting down", "kafka: shutting down: closed", "", "from the beginning of the shutdown on, whatever still runs", func(t *testing.T) *Manager {
		d := &fakeDriver{}
		release := make(chan struct{})
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error {
			<-release
			return nil
		}})
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		synctest.Wait()
		go func() { _ = m.Shutdown(context.Background()) }()
		t.Cleanup(func() {
			close(release)
			stop(t, m)
		})
		return m
	}},
}

// Ready and Healthy in each situation, after an hour in it, and the table of
// docs/operating.md. go test ./kafka -run TestReadyAndHealthy -write-table writes it.
func TestReadyAndHealthy(t *testing.T) {
	var table strings.Builder
	table.WriteString("| situation | `Ready` | `Healthy` | |\n|---|---|---|---|\n")
	for _, s := range situations {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", s.name, answer(s.ready), answer(s.healthy), s.why)
		synctest.Test(t, func(t *testing.T) {
			m := s.make(t)
			pass(time.Hour)
			assertText(t, s.ready, m.Ready(), s.name)
			assertText(t, s.healthy, m.Healthy(), s.name)
		})
	}
	const page = "../docs/operating.md"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), "<!-- by TestReadyAndHealthy -->\n")
	require.True(t, found)
	old, after, found := strings.Cut(rest, "<!-- end -->\n")
	require.True(t, found)
	if *writeTable {
		text := before + "<!-- by TestReadyAndHealthy -->\n" + table.String() + "<!-- end -->\n" + after
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
	}
	assert.Equal(t, table.String(), old, "call: go test ./kafka -run TestReadyAndHealthy -write-table")
}

func answer(err string) string {
	if err == "" {
		return "nil"
	}
	return "an error"
}

func assertText(t *testing.T, want string, err error, name string) {
	t.Helper()
	if want == "" {
		assert.NoError(t, err, name)
	} else {
		assert.EqualError(t, err, want, name)
	}
}

// A call is stuck when it has run for longer than the bound, and not before; each call
// and each record begins again. It is seen at the first question, without earlier ones.
func TestStuckAfter(t *testing.T) {
	for _, tt := range []struct {
		name    string
		option  time.Duration
		timeout time.Duration
		limit   time.Duration
	}{
		{"default", 0, 0, 5 * time.Minute},
		{"twice the timeout", 0, 10 * time.Second, 20 * time.Second},
		{"twice a long timeout", 0, time.Hour, 2 * time.Hour},
		{"as asked", time.Minute, 10 * time.Second, time.Minute},
		{"longer calls are allowed", time.Minute, time.Hour, 2 * time.Hour},
	} {
		for _, records := range []int64{1, 5} {
			synctest.Test(t, func(t *testing.T) {
				d, cfg := &fakeDriver{}, testConfig()
				cfg.HandlerTimeout = tt.timeout
				var calls atomic.Int64
				m := startStuck(t, d, cfg, func(hang func()) error {
					if n := calls.Add(1); n < records {
						time.Sleep(tt.limit * 9 / 10)
					} else if n == records {
						hang()
					}
					return nil
				}, WithStuckAfter(tt.option))
				d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
				pass(time.Duration(records-1) * tt.limit * 9 / 10)
				assert.Equal(t, records, calls.Load(), tt.name)
				assert.NoError(t, m.Healthy(), tt.name)
				pass(tt.limit)
				assert.NoError(t, m.Healthy(), tt.name)
				pass(tt.limit/20 + time.Second)
				assert.ErrorContains(t, m.Healthy(), fmt.Sprintf("orders/0 has been at offset %d for", records-1), tt.name)
				assert.NoError(t, m.Ready(), tt.name)
			})
		}
	}
}

// Attempts at one record are calls of their own, also under a hold that counts none, and
// so is the wait between them.
func TestRetriesAreNotStuck(t *testing.T) {
	for _, answer := range []error{errHandler, Hold(errHandler, 0)} {
		synctest.Test(t, func(t *testing.T) {
			d, cfg := &fakeDriver{}, testConfig()
			cfg.Backoff.Max = 2 * time.Second
			m := start(t, d, cfg, func(ctx context.Context, _ []byte) error {
				select {
				case <-time.After(4 * time.Minute):
				case <-ctx.Done():
				}
				return answer
			})
			d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
			for range 200 {
				pass(17 * time.Second)
				assert.NoError(t, m.Healthy())
			}
			assert.False(t, state(t, m).Partitions[0].StandsSince.IsZero())
		})
	}
}

// The time that a record has waited for the end of a pause does not count against its
// handler, unless the record has failed before.
func TestStandsSinceAPause(t *testing.T) {
	for _, order := range []Order{OrderByPartition, OrderNone} {
		for _, batch := range []bool{false, true} {
			for _, fails := range []bool{false, true} {
				if batch && order == OrderNone {
					continue
				}
				t.Run(fmt.Sprint(order, batch, fails), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { standsSinceAPause(t, order, batch, fails) })
				})
			}
		}
	}
}

func standsSinceAPause(t *testing.T, order Order, batch, fails bool) {
	d, cfg := &fakeDriver{}, testConfig()
	cfg.Order = order
	if order == OrderNone {
		cfg.Parallelism = 2
	}
	handle := func(ctx context.Context, m *Message) error {
		if fails && m.Attempt == 1 {
			return errHandler
		}
		select {
		case <-time.After(10 * time.Minute):
		case <-ctx.Done():
		}
		return nil
	}
	consumer := NewConsumer(cfg, handle)
	if batch {
		cfg.MaxBatchSize = 2
		consumer = NewBatchConsumer(cfg, func(ctx context.Context, ms []*Message) error { return handle(ctx, ms[0]) })
	}
	m := New(d, quiet())
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, consumer)
	c := d.consumer(t)
	cl := c.assign(0, 0)
	if fails {
		c.h.Deliver(cl, keyed(0, "a", "b"))
		pass(100 * time.Millisecond)
	}
	failed := time.Now()
	require.NoError(t, m.Pause("job"))
	if !fails {
		c.h.Deliver(cl, keyed(0, "a", "b"))
	}
	pass(time.Hour)
	stands := func() time.Time { return state(t, m).Partitions[0].StandsSince }
	assert.WithinDuration(t, failed, stands(), time.Minute)
	resumed := time.Now()
	require.NoError(t, m.Resume("job"))
	pass(time.Minute)
	require.Equal(t, 1, min(state(t, m).Partitions[0].InFlight, 1))
	if fails {
		assert.WithinDuration(t, failed, stands(), time.Minute)
	} else {
		assert.WithinDuration(t, resumed, stands(), time.Minute)
	}
	pass(2 * time.Minute)
	assert.NotZero(t, state(t, m).Partitions[0].InFlight)
	assert.Equal(t, fails, stands().Before(resumed))
}

// A handler that has outlived its claim is stuck, too; a claim that waits for it is not.
func TestStragglerIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := startStuck(t, d, testConfig(), hangAtOnce)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		synctest.Wait()
		c.revoke(cl)
		c.deliver(c.assign(0, 0), 0, 9)
		pass(10 * time.Minute)
		assert.Equal(t, 1, strings.Count(fmt.Sprint(m.Healthy()), "orders/0"), "%v", m.Healthy())
	})
}

// Records of several partitions take turns at the places of MaxConcurrency: one that waits
// for its turn for longer than the bound is not stuck.
func TestWaitingForAPlaceIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(ctx context.Context, _ *Message) error {
			select {
			case <-time.After(4 * time.Minute):
			case <-ctx.Done():
			}
			return nil
		}}
		cfg := parallel(OrderByKey, 2)
		cfg.MaxConcurrency = 1
		m, c := startMany(t, cfg, w)
		for p := range int32(3) {
			c.h.Deliver(c.assign(p, 0), keyed(0, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"))
		}
		for range 210 {
			pass(17 * time.Second)
			assert.NoError(t, m.Healthy())
		}
		assert.Equal(t, 1, w.most)
		assert.Greater(t, len(w.ended()), 10)
	})
}

// With records that are handled many at once, a call that does not return is found at
// whatever offset: while the record at the position fails, and after the claim has ended.
func TestStuckAboveThePosition(t *testing.T) {
	for _, order := range []Order{OrderByKey, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			w := &worked{handle: func(_ context.Context, m *Message) error {
				switch string(m.Key) {
				case "bad":
					time.Sleep(20 * time.Second)
					return errHandler
				case "stuck":
					<-release
				}
				return nil
			}}
			m, c := startMany(t, parallel(order, 4), w)
			cl := c.assign(0, 0)
			c.h.Deliver(cl, keyed(0, "bad", "a", "stuck", "b"))
			pass(4 * time.Minute)
			assert.NoError(t, m.Healthy())
			pass(6*time.Minute + time.Second)
			assert.Greater(t, count(w.called(), "bad0"), 4)
			assert.EqualError(t, m.Healthy(), `kafka: consumer "job": the handler of orders/0 has been at offset 2 for 9m46s`)
			c.revoke(cl)
			pass(6 * time.Minute)
			assert.ErrorContains(t, m.Healthy(), `the handler of orders/0 has been at offset 2 for 1`)
			close(release)
			pass(time.Second)
			assert.NoError(t, m.Healthy())
		})
	}
}

// A copy to the dead letters that is not acknowledged is no stuck handler.
func TestForwardingIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cfg := &fakeDriver{}, testConfig()
		cfg.Failure = deadLetters(1)
		release := make(chan struct{})
		fw := &blockingForwarder{release}
		m := startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error { return errHandler }}, fw)
		defer close(release)
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 0)
		pass(time.Hour)
		assert.NoError(t, m.Healthy())
		assert.Equal(t, int64(0), state(t, m).Partitions[0].Failing)
	})
}

type blockingForwarder struct{ release chan struct{} }

func (f *blockingForwarder) forward(ctx context.Context, fs []forwarding) []forwarded {
	<-f.release
	return refuse(fs, ctx.Err())
}

// A batch that may linger for long is not stuck.
func TestLingeringIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cfg := &fakeDriver{}, testConfig()
		cfg.MaxBatchSize, cfg.BatchLinger = 100, time.Minute
		m := New(d, quiet(), WithStuckAfter(10*time.Second))
		defer stop(t, m)
		startOn(t, m, NewBatchConsumer(cfg, func(context.Context, []*Message) error { return nil }))
		d.consumer(t).deliver(d.consumer(t).assign(0, 0), 0, 9)
		pass(59 * time.Second)
		assert.NoError(t, m.Healthy())
	})
}

// A record that is ready and is not handed out is reported. Only a defect of the library
// can cause that: here a lane whose wake-up is taken away.
func TestReadyRecordThatIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		synctest.Wait()
		in := cl.Owner.(*partition).intake
		in.mu.Lock()
		in.waiting = false
		in.mu.Unlock()
		c.deliver(cl, 0, 9)
		pass(6 * time.Minute)
		assert.EqualError(t, m.Healthy(), `kafka: consumer "job": the record of orders/0 at offset 0 has been ready for 5m45s and was not handed out`)
		select {
		case in.wake <- struct{}{}:
		default:
		}
		pass(time.Second)
		assert.NoError(t, m.Healthy())
	})
}

// A watch looks only while there are records, and not after the shutdown.
func TestWatchRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		w := m.jobs["job"].watch
		assert.False(t, w.armed.Load())
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		synctest.Wait()
		assert.True(t, w.armed.Load())
		pass(time.Minute)
		assert.False(t, w.armed.Load())
		assert.True(t, state(t, m).Partitions[0].StandsSince.IsZero())
		c.deliver(cl, 10, 19)
		assert.True(t, w.armed.Load())
		stop(t, m)
		assert.Empty(t, w.seen)
		assert.True(t, w.closed)
	})
}

// Before the start, and of a manager that New has not made.
func TestReadyBeforeTheStart(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	assert.NoError(t, m.Ready())
	require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}))
	assert.NoError(t, m.Ready(), "it is switched off")
	require.NoError(t, m.SetConsumerSwitch("job", true))
	assert.EqualError(t, m.Ready(), `kafka: consumer "job" is switched on and has not been started`)
	assert.NoError(t, m.Healthy())
	require.NoError(t, m.Shutdown(t.Context()))
	assert.ErrorIs(t, m.Ready(), ErrClosed)
	assert.NoError(t, m.Healthy())
	assert.Error(t, new(Manager).Ready())
	assert.Error(t, new(Manager).Healthy())
	for _, none := range []*Manager{nil, {}} {
		assert.EqualError(t, none.Resolve(t.Context(), "job", TopicPartition{}, 0, FailureKeep), "kafka: manager was not made by New")
	}
}

// Switched off and on, or started again after a failure, a consumer has to join again.
func TestReadyFollowsTheLatestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		assert.NoError(t, m.Ready())
		d.consumer(t).end <- errors.New("away")
		synctest.Wait()
		assert.EqualError(t, m.Ready(), `kafka: consumer "job" has not joined its group, and is backing off: away`)
		pass(time.Minute)
		assert.NoError(t, m.Ready())
		require.NoError(t, m.SetConsumerSwitch("job", false))
		assert.NoError(t, m.Ready())
		synctest.Wait()
		require.NoError(t, m.SetConsumerSwitch("job", true))
		assert.Error(t, m.Ready())
		synctest.Wait()
		assert.NoError(t, m.Ready())

		j := m.jobs["job"] // as off and on at once leave it, until the session has seen that
		j.mu.Lock()
		j.wish.offs++
		j.mu.Unlock()
		assert.Error(t, m.Ready())
		j.mu.Lock()
		j.wish.offs--
		j.mu.Unlock()
	})
}

// The errors of many consumers are bounded.
func TestReadyListsTheFirst(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	for i := range 50 {
		cfg := testConfig()
		cfg.JobName = fmt.Sprint("job-", i)
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
		require.NoError(t, m.SetConsumerSwitch(cfg.JobName, true))
	}
	err := m.Ready()
	assert.ErrorContains(t, err, "and 30 more")
	assert.Equal(t, 20, strings.Count(err.Error(), "\n"))
}

// A subscriber gets the events until it stops, and its panic harms nothing.
func TestSubscribe(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	var got []Event
	var other recorder // the shutdown reports its end on a goroutine of its own
	stop := m.Subscribe(func(e Event) { got = append(got, e) })
	m.Subscribe(func(e Event) {
		other.Event(e)
		if e == (CommitFailed{JobName: "b"}) { // the last one that the test reports itself
			assert.ErrorIs(t, m.Shutdown(t.Context()), ErrInside)
		}
		panic("subscriber")
	})
	assert.NotNil(t, m.Subscribe(nil))
	m.event(CommitFailed{JobName: "a"})
	stop()
	stop()
	m.event(CommitFailed{JobName: "b"})
	assert.Equal(t, []Event{CommitFailed{JobName: "a"}}, got)
	<-m.stopped
	assert.Len(t, eventsOf[Event](&other), 3)
}
