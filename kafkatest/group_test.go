package kafkatest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// An assignments hook counts the events of owning.
type assignments struct {
	kafka.NopHook
	mu                      sync.Mutex
	assigned, revoked, lost int
}

func (a *assignments) Event(e kafka.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch e := e.(type) {
	case kafka.PartitionsAssigned:
		a.assigned += len(e.Partitions)
	case kafka.PartitionsRevoked:
		a.revoked += len(e.Partitions)
	case kafka.PartitionsLost:
		a.lost += len(e.Partitions)
	}
}

func (a *assignments) counts() [3]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return [3]int{a.assigned, a.revoked, a.lost}
}

func TestRebalanceGivesEveryPartitionBackAndAnew(t *testing.T) {
	both(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.CreateTopic("orders", 3)
		k.Start(consumer("orders", nothing))
		for range 3 {
			k.Rebalance("orders")
		}
		equal(t, "assigned, revoked, lost", hook.counts(), [3]int{12, 9, 0})
		r := k.Send("orders", "", "")
		k.WaitHandled(r)
		k.WaitCommitted("orders")
		equal(t, "attempts", k.Attempts(r), 1)
	})
}

// A cooperative member keeps what it has, and has joined anew all the same.
func TestRebalanceOfACooperativeGroup(t *testing.T) {
	both(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.CreateTopic("orders", 4)
		var cs []kafka.Consumer
		for _, job := range []string{"a", "b"} {
			cfg := config(job)
			cfg.Topic, cfg.ConsumerGroup = "orders", "group"
			cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.CooperativeSticky}
			cs = append(cs, kafka.NewConsumer(cfg, nothing))
		}
		k.Start(cs...)
		before := hook.counts()
		k.Rebalance("a")
		equal(t, "assigned, revoked, lost by the rebalance", hook.counts(), before)
		k.Crash("b")
		equal(t, "lost by the crash of b", hook.counts()[2], 2)
	})
}

// A cooperative member that has given up what it must, before another one has
// got it, does not count as settled: the hook holds that moment, and has
// something else happen in it.
func TestStartWaitsForTheSecondStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k *kafkatest.Kafka
		k = kafkatest.New(t, kafka.WithHook(onEvent(func(e kafka.Event) {
			if _, ok := e.(kafka.PartitionsRevoked); ok {
				k.SetConsumerSwitch("bystander", true)
				time.Sleep(time.Millisecond)
			}
		})))
		k.CreateTopic("orders", 4)
		cooperative := func(job string) kafka.Consumer {
			cfg := config(job)
			cfg.Topic, cfg.ConsumerGroup = "orders", "group"
			cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.CooperativeSticky}
			return kafka.NewConsumer(cfg, nothing)
		}
		if err := k.RegisterConsumer(t.Context(), consumer("bystander", nothing)); err != nil {
			t.Fatal(err)
		}
		k.Start(cooperative("a"))
		k.Start(cooperative("b"))
		if s, err := k.Consumer("b"); err != nil || len(s.Partitions) != 2 {
			t.Errorf("%+v (%v), want 2 partitions", s.Partitions, err)
		}
	})
}

// A handler that runs when the group rebalances is told so, and what it has
// handled is committed.
func TestRebalanceDuringAHandler(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		causes := make(chan error, 1)
		k.Start(consumer("orders", func(ctx context.Context, _ *kafka.Message) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil
		}))
		r := k.Send("orders", "", "")
		k.WaitAttempts(r, 1)
		k.Rebalance("orders")
		equal(t, "cause", <-causes, kafka.ErrRevoked)
		k.WaitHandled(r)
		equal(t, "committed", k.Committed("orders", "orders", 0), 1)
		equal(t, "attempts", k.Attempts(r), 1)
	})
}

// What was handled and is not committed is handled again after a crash.
func TestCrashRedeliversWhatIsNotCommitted(t *testing.T) {
	both(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.Start(kafka.NewConsumer(fast("orders"), nothing))
		first := k.Send("orders", "", "")
		k.WaitHandled(first)
		k.WaitCommitted("orders")
		k.FailCommits(1_000_000, nil)
		second := k.Send("orders", "", "")
		k.WaitHandled(second)
		k.Crash("orders")
		k.WaitAttempts(second, 2)
		equal(t, "attempts at what was committed", k.Attempts(first), 1)
		equal(t, "committed", k.Committed("orders", "orders", 0), 1)
		equal(t, "assigned, revoked, lost", hook.counts(), [3]int{2, 0, 1})
		k.FailCommits(0, nil)
		k.WaitCommitted("orders")
	})
}

// A handler that runs when its member crashes is told so, and its record is
// handled again though it returns nil.
func TestCrashDuringAHandler(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		causes := make(chan error, 1)
		k.Start(consumer("orders", func(ctx context.Context, m *kafka.Message) error {
			if len(causes) == 0 {
				<-ctx.Done()
				causes <- context.Cause(ctx)
			}
			return nil
		}))
		r := k.Send("orders", "", "")
		k.WaitAttempts(r, 1)
		k.Crash("orders")
		k.WaitAttempts(r, 2)
		equal(t, "cause", <-causes, kafka.ErrPartitionLost)
		k.WaitCommitted("orders")
	})
}

// A member that crashes does not crash the others of its group.
func TestCrashIsOfOneMember(t *testing.T) {
	both(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.CreateTopic("orders", 2)
		a, b := config("a"), config("b")
		a.Topic, a.ConsumerGroup = "orders", "group"
		b.Topic, b.ConsumerGroup = "orders", "group"
		k.Start(kafka.NewConsumer(a, nothing), kafka.NewConsumer(b, nothing))
		k.Crash("a")
		equal(t, "lost", hook.counts()[2], 1)
		equal(t, "members", len(k.Broker.Members("group")), 2)
	})
}

// Members that share a client ID are told apart by their jobs' names.
func TestCrashIsOfOneMemberOfMany(t *testing.T) {
	both(t, func(t *testing.T) {
		var mu sync.Mutex
		var lost []string
		k := kafkatest.New(t, kafka.WithHook(onEvent(func(e kafka.Event) {
			if e, ok := e.(kafka.PartitionsLost); ok {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, e.JobName)
			}
		})))
		k.CreateTopic("orders", 3)
		jobs := []string{"a", "b", "c"}
		for _, job := range jobs {
			cfg := config(job)
			cfg.Topic, cfg.ConsumerGroup, cfg.ClientID = "orders", "group", "service"
			k.Start(kafka.NewConsumer(cfg, nothing))
		}
		for _, job := range jobs {
			k.Crash(job)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(lost, jobs) {
			t.Errorf("partitions were lost by %q, want %q", lost, jobs)
		}
	})
}

// A member that its group has forgotten and that does not know yet, with a
// partition or without, is waited for: nobody else's place counts as its own.
func TestStartWaitsForAForgottenMember(t *testing.T) {
	for _, partitions := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			k := kafkatest.New(t)
			k.CreateTopic("orders", partitions)
			jobs := []string{"a", "b", "c"}
			for _, job := range jobs {
				cfg := config(job)
				cfg.Topic, cfg.ConsumerGroup, cfg.ClientID = "orders", "group", "service"
				k.Start(kafka.NewConsumer(cfg, nothing))
			}
			for _, m := range k.Broker.Members("group") {
				if len(m.Assignment) == partitions/3 {
					m.Cut()
					time.AfterFunc(time.Minute, m.Heal)
					break
				}
			}
			time.Sleep(30 * time.Second)
			equal(t, "members beside the one that is cut", len(k.Broker.Members("group")), 2)
			k.Start()
			equal(t, "members", len(k.Broker.Members("group")), 3)
			if partitions == 1 {
				return // who had nothing has lost nothing: the others may still give up theirs
			}
			for _, s := range k.Consumers() {
				equal(t, "partitions of "+s.JobName, len(s.Partitions), 1)
			}
		})
	}
}

// A failed commit is told and made again; the handler is not called again.
func TestFailCommits(t *testing.T) {
	for _, test := range []struct {
		name string
		give error
		want func(error) bool
	}{
		{"default", nil, func(err error) bool {
			var de *driver.Error
			return errors.As(err, &de) && de.ErrorType() == "UNKNOWN_SERVER_ERROR"
		}},
		{"plain", errBoom, func(err error) bool { return errors.Is(err, errBoom) }},
		{"driver", &driver.Error{Code: "COORDINATOR_LOAD_IN_PROGRESS"}, func(err error) bool {
			var de *driver.Error
			return errors.As(err, &de) && de.ErrorType() == "COORDINATOR_LOAD_IN_PROGRESS"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			both(t, func(t *testing.T) {
				var mu sync.Mutex
				var failed []error
				k := kafkatest.New(t, kafka.WithHook(onEvent(func(e kafka.Event) {
					if e, ok := e.(kafka.CommitFailed); ok {
						mu.Lock()
						defer mu.Unlock()
						failed = append(failed, e.Err)
					}
				})))
				k.Start(kafka.NewConsumer(fast("orders"), nothing))
				k.FailCommits(2, test.give)
				r := k.Send("orders", "", "")
				k.WaitCommitted("orders")
				equal(t, "attempts", k.Attempts(r), 1)
				mu.Lock()
				defer mu.Unlock()
				equal(t, "failed commits", len(failed), 2)
				for _, err := range failed {
					if !test.want(err) {
						t.Errorf("failed with %v", err)
					}
				}
			})
		})
	}
}

// An error that no retry can cure disables the consumer in the end.
func TestFailCommitsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", nothing))
		k.FailCommits(1_000, &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: kafka.ErrPermanent})
		k.Send("orders", "", "")
		if s := k.WaitState("orders", kafka.StateDisabled); !errors.Is(s.Reason, kafka.ErrPermanent) {
			t.Errorf("disabled because of %v", s.Reason)
		}
	})
}

// What is sent during an outage is handled after it; the sessions that ran out
// meanwhile are begun anew.
func TestAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.Start(consumer("orders", nothing))
		k.Broker.Stop()
		r := k.Send("orders", "", "")
		time.Sleep(time.Minute)
		equal(t, "attempts during the outage", k.Attempts(r), 0)
		k.Broker.Start()
		k.WaitHandled(r)
		k.WaitCommitted("orders")
		equal(t, "assigned, revoked, lost", hook.counts(), [3]int{2, 0, 1})
	})
}

// Members of another manager on the same broker have their share.
func TestAnotherManagerInTheGroup(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 4)
		k.Start(consumer("orders", nothing))
		elsewhere := config("elsewhere")
		elsewhere.Topic, elsewhere.ConsumerGroup = "orders", "orders-group"
		elsewhere.ClientID = "orders" // as another instance of a service has
		m := kafka.New(k.Broker, quiet)
		t.Cleanup(func() {
			if err := m.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if err := errors.Join(
			m.RegisterConsumer(t.Context(), kafka.NewConsumer(elsewhere, nothing)),
			m.SetConsumerSwitch("elsewhere", true),
			m.StartAllConsumers(context.Background()),
		); err != nil {
			t.Fatal(err)
		}
		for len(k.Broker.Members("orders-group")) < 2 { // it comes by itself
			k.Rebalance("orders")
		}
		k.Rebalance("orders")
		if s, err := k.Consumer("orders"); err != nil || len(s.Partitions) != 2 {
			t.Errorf("%+v (%v), want 2 partitions", s.Partitions, err)
		}
		k.Crash("orders")
		if s, err := k.Consumer("orders"); err != nil || len(s.Partitions) != 2 {
			t.Errorf("after the crash %+v (%v), want 2 partitions", s.Partitions, err)
		}
	})
}
