package kafkatest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// A hook of the test, however slow, has been told when a wait returns.
func TestHooksOfTheTestAreToldFirst(t *testing.T) {
	both(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		k := kafkatest.New(t, kafka.WithHook(onEvent(func(e kafka.Event) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case kafka.StateChanged:
				told = append(told, e.To.String())
			case kafka.PartitionsAssigned:
				told = append(told, "assigned")
			}
		})))
		expect := func(after, what string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(told, what) {
				t.Errorf("after %s the hook has been told of %q, not of %q", after, told, what)
			}
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
		equal(t, "attempts in b", b.Attempts(r), 0)
		equal(t, "records in b", len(b.Produced("orders")), 0)
		equal(t, "committed in b", b.Committed("orders", "orders", 0), 0)
		a.Crash("orders")
		equal(t, "members in b", len(b.Broker.Members("orders-group")), 1)
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
				if err := errors.Join(
					k.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, nothing)),
					k.SetConsumerSwitch(job, true),
				); err != nil {
					t.Error(err)
				}
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
			equal(t, "attempts of "+job, k.Attempts(r), 1)
			equal(t, "committed of "+job, k.Committed(job, job, 0), 1)
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
			if err := k.RegisterConsumer(t.Context(), consumer(other, nothing)); err != nil {
				t.Error(err)
			}
		}})
		equal(t, "switch of orders", k.GetConsumerSwitch("orders"), true)
		equal(t, "switch of "+other, k.GetConsumerSwitch(other), false)
	}
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
