package kafkatest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

var errBoom = errors.New("boom")

// both runs a test in a synctest bubble, and outside beside others.
func both(t *testing.T, f func(t *testing.T)) {
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, f) })
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		f(t)
	})
}

// fast is a configuration whose waits are short in real time.
func fast(job string) kafka.ConsumerConfig {
	cfg := config(job)
	cfg.Backoff.Min = time.Millisecond
	cfg.CommitInterval = time.Millisecond
	return cfg
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func values(ms []*kafka.Message) (vs []string) {
	for _, m := range ms {
		vs = append(vs, string(m.Value))
	}
	return vs
}

func TestAHandlerThatSends(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		p := k.Producer()
		k.Start(
			consumer("orders", func(ctx context.Context, m *kafka.Message) error {
				return p.Send(ctx, "invoices", m.Key, append([]byte("for "), m.Value...))
			}),
			consumer("invoices", nothing),
		)
		a, b := k.Send("orders", "key", "a"), k.Send("orders", "key", "b")
		k.WaitHandled(a, b)
		invoices := k.Produced("invoices")
		if got, want := values(invoices), []string{"for a", "for b"}; !slices.Equal(got, want) {
			t.Errorf("invoices %q, want %q", got, want)
		}
		k.WaitHandled(invoices...) // what one consumer has sent, another one handles
		k.WaitCommitted("orders")
		equal(t, "committed", k.Committed("orders", "orders", 0), 2)
		equal(t, "committed of no such partition", k.Committed("orders", "orders", 1), -1)
		equal(t, "attempts", k.Attempts(a), 1)
		equal(t, "records of no such topic", len(k.Produced("void")), 0)
	})
}

func TestSendMessageKeepsAll(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 3)
		got := make(chan *kafka.Message, 2)
		k.Start(consumer("orders", func(_ context.Context, m *kafka.Message) error {
			got <- m
			return nil
		}))
		partition := int32(2)
		m := &kafka.ProducerMessage{
			Topic: "orders", ToPartition: &partition, Key: []byte{},
			Headers:   []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}},
			Timestamp: time.UnixMilli(1_700_000_000_123),
		}
		k.SendMessage(m)
		r := k.SendMessage(m)
		k.WaitHandled(r)
		first, second := <-got, <-got
		for what, s := range map[string]*kafka.Message{"sent": r, "handled": second, "produced": k.Produced("orders")[1]} {
			if s.Partition != 2 || s.Offset != 1 || s.Key == nil || s.Value != nil || len(s.Headers) != 2 ||
				!s.Timestamp.Equal(m.Timestamp) {
				t.Errorf("%s: %+v", what, *s)
			}
		}
		equal(t, "offset of the first", first.Offset, 0)
		equal(t, "m.Partition", m.Partition, 2)
		equal(t, "m.Offset", m.Offset, 1)
	})
}

func TestProducedIsInOrderOfPartitionAndOffset(t *testing.T) {
	k := kafkatest.New(t)
	k.CreateTopic("orders", 3)
	for i := range 7 {
		p := int32((5 * i) % 3)
		k.SendMessage(&kafka.ProducerMessage{Topic: "orders", ToPartition: &p, Value: fmt.Append(nil, p, "/", i)})
	}
	want := []string{"0/0", "0/3", "0/6", "1/2", "1/5", "2/1", "2/4"}
	if got := values(k.Produced("orders")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeyDecidesThePartition(t *testing.T) {
	k := kafkatest.New(t)
	k.CreateTopic("orders", 8)
	used := make(map[int32]bool)
	for range 8 {
		equal(t, "partition of one key", k.Send("orders", "key", "").Partition, k.Send("orders", "key", "").Partition)
		used[k.Send("orders", "", "").Partition] = true
	}
	equal(t, "partitions used without a key", len(used), 8)
}

func TestAProducerSendsBothWays(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		p := k.Producer()
		if err := p.Send(t.Context(), "orders", nil, []byte("sync")); err != nil {
			t.Error(err)
		}
		p.SendAsync(t.Context(), "orders", nil, []byte("async"), nil)
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := values(k.Produced("orders")); !slices.Equal(got, []string{"sync", "async"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A batchConsumer hands whole batches to handle.
type batchConsumer struct {
	cfg    kafka.ConsumerConfig
	handle func(ms []*kafka.Message) error
}

func (c *batchConsumer) GetConfig() *kafka.ConsumerConfig     { return &c.cfg }
func (c *batchConsumer) Handle(context.Context, []byte) error { return errors.New("not a batch") }
func (c *batchConsumer) HandleBatch(_ context.Context, ms []*kafka.Message) error {
	return c.handle(ms)
}

// A valueConsumer sees values only, and counts how often it is asked for its
// configuration.
type valueConsumer struct {
	cfg    kafka.ConsumerConfig
	asked  int
	handle func(value string) error
}

func (c *valueConsumer) GetConfig() *kafka.ConsumerConfig { c.asked++; return &c.cfg }

func (c *valueConsumer) Handle(_ context.Context, value []byte) error {
	return c.handle(string(value))
}

// Each kind of consumer that fails, by error or panic, is followed record by
// record.
func TestEveryKindOfConsumer(t *testing.T) {
	var panicked *kafka.PanicError
	for _, ending := range []struct {
		name  string
		fail  func() error
		check func(error) bool
	}{
		{"error", func() error { return errBoom }, func(err error) bool { return errors.Is(err, errBoom) }},
		{"panic", func() error { panic("boom") }, func(err error) bool { return errors.As(err, &panicked) }},
		{"goexit", func() error { runtime.Goexit(); return nil }, func(err error) bool { return strings.Contains(err.Error(), "Goexit") }},
	} {
		kinds := map[string]func(one func(string) error) kafka.Consumer{
			"value": func(one func(string) error) kafka.Consumer {
				return &valueConsumer{cfg: fast("orders"), handle: one}
			},
			"message": func(one func(string) error) kafka.Consumer {
				return kafka.NewConsumer(fast("orders"), func(_ context.Context, m *kafka.Message) error { return one(string(m.Value)) })
			},
			"batch": func(one func(string) error) kafka.Consumer {
				return &batchConsumer{fast("orders"), func(ms []*kafka.Message) error {
					for _, m := range ms {
						if err := one(string(m.Value)); err != nil {
							return err
						}
					}
					return nil
				}}
			},
		}
		for kind, of := range kinds {
			t.Run(ending.name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kafkatest.New(t)
					left := 2
					k.Start(of(func(value string) error {
						if value == "bad" && left > 0 {
							left--
							return ending.fail()
						}
						return nil
					}))
					good, bad := k.Send("orders", "", "good"), k.Send("orders", "", "bad")
					if err := k.WaitFailed(bad, 2); !ending.check(err) {
						t.Errorf("failed with %v", err)
					}
					k.WaitHandled(good, bad)
					equal(t, "attempts at bad", k.Attempts(bad), 3)
				})
			})
		}
	}
}

// All records of a failing batch have failed, and are attempted again.
func TestABatchFailsAsAWhole(t *testing.T) {
	both(t, func(t *testing.T) {
		cfg := fast("orders")
		cfg.InitialOffset = kafka.OffsetOldest
		k := kafkatest.New(t)
		a, b := k.Send("orders", "", "a"), k.Send("orders", "", "b")
		sizes, failed := make(chan int, 2), false
		k.Start(&batchConsumer{cfg, func(ms []*kafka.Message) error {
			sizes <- len(ms)
			if !failed {
				failed = true
				return errBoom
			}
			return nil
		}})
		k.WaitHandled(a, b)
		equal(t, "size of the first batch", <-sizes, 2)
		equal(t, "size of the second batch", <-sizes, 2)
		for _, r := range []*kafka.Message{a, b} {
			equal(t, "attempts", k.Attempts(r), 2)
			if err := k.WaitFailed(r, 1); !errors.Is(err, errBoom) {
				t.Errorf("%d failed with %v", r.Offset, err)
			}
		}
	})
}

func TestGetConfigIsCalledOnce(t *testing.T) {
	k := kafkatest.New(t)
	c := &valueConsumer{cfg: config("orders")}
	k.Start(c)
	equal(t, "calls of GetConfig", c.asked, 1)
}

// In a bubble the backoffs of production take no time, nor do ten failures.
func TestBackoffsPassInABubble(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", func(context.Context, *kafka.Message) error { return errBoom }))
		r := k.Send("orders", "", "")
		s := k.WaitState("orders", kafka.StateDisabled)
		if !errors.Is(s.Reason, errBoom) || k.Attempts(r) != 10 {
			t.Errorf("disabled because of %v after %d attempts", s.Reason, k.Attempts(r))
		}
		if virtual := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); virtual < 4*time.Minute {
			t.Errorf("%v of virtual time, want the backoffs of nine attempts", virtual)
		}
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v of real time", took)
	}
}

// A state that a consumer only goes through is not missed.
func TestWaitStateSeesPassingStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", nothing))
		time.AfterFunc(time.Second, func() {
			k.SetConsumerSwitch("orders", false)
			k.SetConsumerSwitch("orders", true)
		})
		k.WaitState("orders", kafka.StateStopping)
		k.WaitState("ORDERS", kafka.StateRunning) // names ignore case
	})
}

// A hook of the test has been told when a wait returns.
func TestHooksOfTheTestAreToldFirst(t *testing.T) {
	both(t, func(t *testing.T) {
		disabled := make(chan error, 1)
		k := kafkatest.New(t, kafka.WithHook(hookFunc(func(e kafka.Event) {
			if e, ok := e.(kafka.StateChanged); ok && e.To == kafka.StateDisabled {
				time.Sleep(time.Millisecond) // a slow hook is waited for
				disabled <- e.Reason
			}
		})))
		cfg := fast("orders")
		cfg.MaxConsecutiveErrors = 1
		k.Start(kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return errBoom }))
		k.WaitFailed(k.Send("orders", "", ""), 1)
		k.WaitState("orders", kafka.StateDisabled)
		if len(disabled) == 0 {
			t.Error("disabled, and the hook has not been told")
		}
	})
}

type hookFunc func(kafka.Event)

func (f hookFunc) Event(e kafka.Event) { f(e) }

// Two tests at once share nothing, though all names are the same.
func TestTwoKafkasDoNotInteract(t *testing.T) {
	both(t, func(t *testing.T) {
		a, b := kafkatest.New(t), kafkatest.New(t)
		a.Start(consumer("orders", func(context.Context, *kafka.Message) error { return nil }))
		b.Start(consumer("orders", func(context.Context, *kafka.Message) error { return nil }))
		r := a.Send("orders", "", "for a")
		a.WaitHandled(r)
		a.WaitCommitted("orders")
		equal(t, "attempts in b", b.Attempts(r), 0)
		equal(t, "records in b", len(b.Produced("orders")), 0)
		equal(t, "committed in b", b.Committed("orders", "orders", 0), 0)
		a.Crash("orders")
		equal(t, "members in b", len(b.Broker.Members("orders-group")), 1)
	})
}

// Every consumer of a topic has to handle a record, but for those that are off.
func TestWaitHandledWaitsForEveryGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		slow := config("slow")
		slow.Topic = "orders"
		done := false
		off := config("off")
		off.Topic = "orders"
		if err := k.RegisterConsumer(t.Context(), kafka.NewConsumer(off, nothing)); err != nil {
			t.Fatal(err)
		}
		k.Start(consumer("orders", nothing), kafka.NewConsumer(slow, func(context.Context, *kafka.Message) error {
			time.Sleep(time.Minute)
			done = true
			return nil
		}))
		r := k.Send("orders", "", "")
		k.WaitHandled(r)
		equal(t, "handled by the slow one", done, true)
		equal(t, "attempts", k.Attempts(r), 2)
	})
}

// A program that registers and switches by itself is given the manager.
func TestConsumersThatAreRegisteredElsewhere(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		m := k.Manager
		if err := m.RegisterConsumer(t.Context(), consumer("orders", nothing)); err != nil {
			t.Fatal(err)
		}
		if err := m.RegisterConsumer(t.Context(), consumer("Orders", nothing)); !errors.Is(err, kafka.ErrDuplicate) {
			t.Errorf("registered twice: %v", err)
		}
		if err := m.SetConsumerSwitch("orders", true); err != nil {
			t.Fatal(err)
		}
		k.Start()
		k.WaitHandled(k.Send("orders", "", ""))
		k.WaitCommitted("orders")
		k.Crash("orders")
	})
}

// A ClientID that many jobs share does not matter to those given to Start.
func TestClientIDsOfTheirOwn(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		a, b := fast("a"), fast("b")
		a.ClientID, b.ClientID = "service", "service"
		k.Start(kafka.NewConsumer(a, nothing), kafka.NewConsumer(b, nothing), consumer("service", nothing))
		for _, job := range []string{"a", "b", "service"} {
			r := k.Send(job, "", "")
			k.WaitHandled(r)
			k.WaitCommitted(job)
			equal(t, "committed of "+job, k.Committed(job, job, 0), 1)
			k.Crash(job)
		}
	})
}

// Start may be called again, also with a member for a group that is there.
func TestStartAgain(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 4)
		k.Start(consumer("orders", nothing))
		second := config("second")
		second.Topic, second.ConsumerGroup = "orders", "orders-group"
		k.Start(kafka.NewConsumer(second, nothing))
		for _, job := range []string{"orders", "second"} {
			s, err := k.Consumer(job)
			if err != nil || s.State != kafka.StateRunning || len(s.Partitions) != 2 {
				t.Errorf("%s: %+v (%v), want it running with 2 partitions", job, s, err)
			}
		}
	})
}

func TestTheManagerLogsToTheTest(t *testing.T) {
	r := newT(t)
	kafkatest.New(r).Start(consumer("orders", nothing))
	r.end()
	if got := r.out.String(); !strings.Contains(got, `msg="kafka: consumer is running" consumer=orders`) {
		t.Errorf("output is %q", got)
	}
}
