package kafkatest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

func TestRebalanceRevokesAndAssignsEveryPartition(t *testing.T) {
	both(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.CreateTopic("orders", 3)
		k.Start(consumer("orders", nothing))
		for range 3 {
			k.Rebalance("orders")
		}
		require.Equal(t, [3]int{12, 9, 0}, hook.counts(), "assigned, revoked, lost")
		r := k.Send("orders", "", "")
		k.WaitHandled(r)
		k.WaitCommitted("orders")
		require.Equal(t, 1, k.Attempts(r), "attempts")
	})
}

// A cooperative member keeps what it has, and has joined again all the same.
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
		require.Equal(t, before, hook.counts(), "assigned, revoked, lost by the rebalance")
		k.Crash("b")
		require.Equal(t, 2, hook.counts()[2], "lost by the crash of b")
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
		require.NoError(t, k.RegisterConsumer(t.Context(), consumer("bystander", nothing)))
		k.Start(cooperative("a"))
		k.Start(cooperative("b"))
		s, err := k.Consumer("b")
		require.NoError(t, err)
		require.Len(t, s.Partitions, 2)
	})
}

// A handler that runs when the group rebalances gets that as the cause of its context's
// end, and what it has handled is committed.
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
		require.Same(t, kafka.ErrRevoked, <-causes, "cause")
		k.WaitHandled(r)
		require.Equal(t, int64(1), k.Committed("orders", "orders", 0), "committed")
		require.Equal(t, 1, k.Attempts(r), "attempts")
	})
}

// What was handled and is not committed is handled again after a crash.
func TestCrashRedeliversUncommittedRecords(t *testing.T) {
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
		require.Equal(t, 1, k.Attempts(first), "attempts at what was committed")
		require.Equal(t, int64(1), k.Committed("orders", "orders", 0), "committed")
		require.Equal(t, [3]int{2, 0, 1}, hook.counts(), "assigned, revoked, lost")
		k.FailCommits(0, nil)
		k.WaitCommitted("orders")
	})
}

// A handler that runs when its member crashes gets that as the cause of its context's
// end, and its record is handled again though it returns nil.
func TestCrashDuringAHandler(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		causes := make(chan error, 1)
		var called atomic.Bool
		k.Start(consumer("orders", func(ctx context.Context, m *kafka.Message) error {
			if !called.Swap(true) {
				<-ctx.Done()
				causes <- context.Cause(ctx)
			}
			return nil
		}))
		r := k.Send("orders", "", "")
		k.WaitAttempts(r, 1)
		k.Crash("orders")
		k.WaitAttempts(r, 2)
		require.Same(t, kafka.ErrPartitionLost, <-causes, "cause")
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
		require.Equal(t, 1, hook.counts()[2], "lost")
		require.Len(t, k.Broker.Members("group"), 2, "members")
	})
}

// Members that share a client ID are distinguished by their jobs' names.
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
		require.Equal(t, jobs, lost, "the jobs that have lost partitions")
	})
}

// A member that its group has forgotten and that does not know it yet, with a
// partition or without, is waited for: no other member's place counts as its own.
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
			require.Len(t, k.Broker.Members("group"), 2, "members beside the one that is cut")
			k.Start()
			require.Len(t, k.Broker.Members("group"), 3, "members")
			if partitions == 1 {
				return // a member that had nothing has lost nothing: the others may still give up theirs
			}
			for _, s := range k.Consumers() {
				require.Len(t, s.Partitions, 1, "partitions of "+s.JobName)
			}
		})
	}
}

// A failed commit is reported and made again; the handler is not called again.
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
				require.Equal(t, 1, k.Attempts(r), "attempts")
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, failed, 2, "failed commits")
				for _, err := range failed {
					assert.True(t, test.want(err), "failed with %v", err)
				}
			})
		})
	}
}

// An error that no retry can cure disables the consumer in the end.
func TestFailCommitsWithAPermanentError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", nothing))
		k.FailCommits(1_000, &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: kafka.ErrPermanent})
		k.Send("orders", "", "")
		require.ErrorIs(t, k.WaitState("orders", kafka.StateDisabled).Reason, kafka.ErrPermanent)
	})
}

// What is sent during an outage is handled after it; the sessions that ran out
// meanwhile begin again.
func TestAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook := new(assignments)
		k := kafkatest.New(t, kafka.WithHook(hook))
		k.Start(consumer("orders", nothing))
		k.Broker.Stop()
		r := k.Send("orders", "", "")
		time.Sleep(time.Minute)
		require.Zero(t, k.Attempts(r), "attempts during the outage")
		k.Broker.Start()
		k.WaitHandled(r)
		k.WaitCommitted("orders")
		require.Equal(t, [3]int{2, 0, 1}, hook.counts(), "assigned, revoked, lost")
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
		t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(elsewhere, nothing)))
		require.NoError(t, m.SetConsumerSwitch("elsewhere", true))
		require.NoError(t, m.StartAllConsumers(context.Background()))
		for len(k.Broker.Members("orders-group")) < 2 { // it comes by itself
			k.Rebalance("orders")
		}
		k.Rebalance("orders")
		s, err := k.Consumer("orders")
		require.NoError(t, err)
		require.Len(t, s.Partitions, 2)
		k.Crash("orders")
		s, err = k.Consumer("orders")
		require.NoError(t, err)
		require.Len(t, s.Partitions, 2, "after the crash")
	})
}

// A seek moves a consumer of a test, too.
func TestSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(kafka.NewConsumer(kafka.ConsumerConfig{JobName: "orders", Topic: "orders", ConsumerGroup: "shop", BootstrapServers: "localhost:9092"},
			func(context.Context, *kafka.Message) error { return nil }))
		r := k.Send("orders", "1", "good")
		k.WaitHandled(r)
		require.NoError(t, k.Seek(t.Context(), "orders", kafka.AtBeginning()))
		k.WaitAttempts(r, 2)
		k.WaitCommitted("orders")
		assert.Equal(t, int64(1), k.Committed("orders", "orders", 0))
	})
}
