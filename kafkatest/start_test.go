package kafkatest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// A hook of the test, however slow, has been called when a wait returns.
func TestHooksOfTheTestAreCalledFirst(t *testing.T) {
	both(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		k := kafkatest.New(t, kafka.WithHook(onEvent(func(e kafka.Event) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case kafka.StateChanged:
				seen = append(seen, e.To.String())
			case kafka.PartitionsAssigned:
				seen = append(seen, "assigned")
			}
		})))
		expect := func(after, what string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			require.Contains(t, seen, what, "the events after %s", after)
		}
		cfg := fast("orders")
		cfg.MaxConsecutiveErrors = 1
		k.Start(kafka.NewConsumer(cfg, nothing))
		k.FailCommits(1, &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: kafka.ErrPermanent})
		expect("Start", "running")
		expect("Start", "assigned")
		k.Send("orders", "", "")
		k.WaitState("orders", kafka.StateDisabled)
		expect("WaitState", "disabled")
	})
}

// A hookFunc is a hook for events alone.
type hookFunc struct {
	kafka.NopHook
	event func(kafka.Event)
}

func onEvent(f func(kafka.Event)) kafka.Hook { return hookFunc{event: f} }

func (f hookFunc) Event(e kafka.Event) { f.event(e) }

// Two tests at once share nothing, though all names are the same.
func TestTwoKafkasDoNotInteract(t *testing.T) {
	both(t, func(t *testing.T) {
		a, b := kafkatest.New(t), kafkatest.New(t)
		a.Start(consumer("orders", func(context.Context, *kafka.Message) error { return nil }))
		b.Start(consumer("orders", func(context.Context, *kafka.Message) error { return nil }))
		r := a.Send("orders", "", "for a")
		a.WaitHandled(r)
		a.WaitCommitted("orders")
		require.Zero(t, b.Attempts(r), "attempts in b")
		require.Empty(t, b.Produced("orders"), "records in b")
		require.Equal(t, int64(0), b.Committed("orders", "orders", 0), "committed in b")
		a.Crash("orders")
		require.Len(t, b.Broker.Members("orders-group"), 1, "members in b")
	})
}

// A program that registers and switches by itself is given the manager.
func TestConsumersThatAreRegisteredElsewhere(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		m := k.Manager
		require.NoError(t, m.RegisterConsumer(t.Context(), consumer("orders", nothing)))
		require.ErrorIs(t, m.RegisterConsumer(t.Context(), consumer("Orders", nothing)), kafka.ErrDuplicate)
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		k.Start()
		k.WaitHandled(k.Send("orders", "", ""))
		k.WaitCommitted("orders")
		k.Crash("orders")
	})
}

// Jobs are known by name, whoever registers them and however many at once, also
// if they share a ClientID.
func TestRegistrationsAtOnce(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		jobs := []string{"a", "b", "c", "d", "service"}
		var registering sync.WaitGroup
		for _, job := range jobs {
			cfg := fast(job)
			cfg.ClientID = "service"
			registering.Go(func() {
				assert.NoError(t, k.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, nothing)))
				assert.NoError(t, k.SetConsumerSwitch(job, true))
			})
		}
		given := fast("given")
		given.ClientID = "service"
		k.Start(kafka.NewConsumer(given, nothing))
		registering.Wait()
		k.Start()
		for _, job := range append(jobs, "given") {
			r := k.Send(job, "", "")
			k.WaitHandled(r)
			k.WaitCommitted(job)
			require.Equal(t, 1, k.Attempts(r), "attempts of "+job)
			require.Equal(t, int64(1), k.Committed(job, job, 0), "committed of "+job)
			k.Crash(job)
		}
	})
}

// A meddler registers another consumer while it is being registered.
type meddler struct {
	kafka.Consumer
	meddle func()
}

func (m meddler) GetConfig() *kafka.ConsumerConfig {
	m.meddle()
	return m.Consumer.GetConfig()
}

// Start switches on what it was given, and nothing that comes in meanwhile.
func TestStartKnowsItsOwn(t *testing.T) {
	for _, other := range []string{"before", "zebra"} {
		k := kafkatest.New(t)
		k.Start(meddler{consumer("orders", nothing), func() {
			assert.NoError(t, k.RegisterConsumer(t.Context(), consumer(other, nothing)))
		}})
		require.True(t, k.GetConsumerSwitch("orders"), "switch of orders")
		require.False(t, k.GetConsumerSwitch(other), "switch of "+other)
	}
}

// Start may be called again, also with a member for a group that exists.
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
			require.NoError(t, err, job)
			require.Equal(t, kafka.StateRunning, s.State, job)
			require.Len(t, s.Partitions, 2, job)
		}
	})
}

func TestTheManagerLogsToTheTest(t *testing.T) {
	r := newT(t)
	kafkatest.New(r).Start(consumer("orders", nothing))
	r.end()
	require.Contains(t, r.out.String(), `msg="kafka: consumer is running" consumer=orders`)
}
