//go:build unix

package main

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// consume is a service as teams write them, which writes down what it does.
func consume(ctx context.Context, d duty, events *eventLog, log *slog.Logger) error {
	c := &consumer{duty: d, events: events}
	m := kafka.New(observedDriver{driverOf(d.Driver), events}, kafka.WithLogger(log),
		kafka.WithHook(stateHook{events: events}), kafka.WithMiddleware(c.watch), kafka.WithShutdownTimeout(stopTimeout))
	strategy := kafka.RoundRobin
	if d.Cooperative {
		strategy = kafka.CooperativeSticky
	}
	cfg := kafka.ConsumerConfig{
		JobName: "chaos", ClientID: d.Name, BootstrapServers: d.Brokers, Topic: d.Topic, ConsumerGroup: d.Group,
		InitialOffset: kafka.OffsetOldest, BalanceStrategies: []kafka.BalanceStrategy{strategy},
		SessionTimeout: d.Session, HeartbeatInterval: time.Second, RebalanceTimeout: 2 * d.Session, DrainTimeout: d.Session,
	}
	if d.Protocol == kafka.ConsumerProtocol {
		cfg.GroupProtocol, cfg.BalanceStrategies, cfg.HeartbeatInterval = d.Protocol, nil, 0
	}
	if err := m.RegisterConsumer(ctx, kafka.NewConsumer(cfg, c.handle)); err != nil {
		return err
	}
	if err := m.SetConsumerSwitch("chaos", true); err != nil {
		return err
	}
	if err := m.StartAllConsumers(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	events.tell(event{Kind: isStop})
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := m.Shutdown(stopping)
	var stuck *kafka.StopError
	events.tell(event{Kind: isStopped, OK: !errors.As(err, &stuck)})
	return err
}

type consumer struct {
	duty
	events *eventLog
	calls  atomic.Uint64
}

var errPlanned = errors.New("planned failure of the handler")

// watch writes down each call of the handler, and what became of it. It is the
// outermost middleware, but for a wrong one.
func (c *consumer) watch(next kafka.HandlerFunc) kafka.HandlerFunc {
	return func(ctx context.Context, ms []*kafka.Message) error {
		m, id := ms[0], c.calls.Add(1)
		c.events.tell(event{
			Kind: isStart, ID: id, Partition: m.Partition, Offset: m.Offset, Key: string(m.Key), Value: string(m.Value),
		})
		err := next(ctx, ms)
		c.events.tell(event{Kind: isEnd, ID: id, OK: err == nil})
		if c.Skip && errors.Is(err, errPlanned) {
			return nil
		}
		return err
	}
}

// handle takes its time, and fails now and then at the first attempt.
func (c *consumer) handle(ctx context.Context, m *kafka.Message) error {
	if m.Attempt == 1 && c.fails(m.Value) {
		return errPlanned
	}
	t := time.NewTimer(rand.N(2 * c.Work))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fails picks one value in a thousand. The control is short, and has to lose
// something every time: it picks one in fifty.
func (c *consumer) fails(value []byte) bool {
	h := fnv.New32a()
	h.Write(value)
	if c.Skip {
		return h.Sum32()%50 == 0
	}
	return h.Sum32()%1000 == 0
}

// A stateHook writes down the events of a consumer.
type stateHook struct {
	kafka.NopHook
	events *eventLog
}

func (h stateHook) Event(e kafka.Event) {
	switch e := e.(type) {
	case kafka.StateChanged:
		h.events.tell(event{Kind: isState, From: e.From.String(), Text: e.To.String()})
	case kafka.DriverError:
		h.events.tell(event{Kind: isError, From: "driver", Text: e.Err.Error()})
	case kafka.CommitFailed:
		h.events.tell(event{Kind: isError, From: "commit", Text: e.Err.Error()})
	}
}

// driverOf returns the driver with a name.
func driverOf(name string) driver.Driver {
	if name == "franz" {
		return franz.Driver{}
	}
	return sarama.Driver{}
}

// SupportsGroupProtocol implements driver.GroupProtocolSupporter.
func (d observedDriver) SupportsGroupProtocol(p driver.GroupProtocol) bool {
	s, ok := d.Driver.(driver.GroupProtocolSupporter)
	return p == driver.ClassicProtocol || ok && s.SupportsGroupProtocol(p)
}

// An observedDriver writes down what passes between driver and core. The hook's
// events are too late: its handlers may already run when an assignment is reported.
type observedDriver struct {
	driver.Driver
	events *eventLog
}

func (d observedDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.Driver.OpenConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return observedConsumer{c, d.events}, nil
}

type observedConsumer struct {
	driver.Consumer
	events *eventLog
}

// SessionDeadline implements driver.SessionDeadliner, by which the core fences its
// handlers.
func (c observedConsumer) SessionDeadline() time.Time {
	return c.Consumer.(driver.SessionDeadliner).SessionDeadline()
}

// HighWatermark implements driver.HighWatermarker.
func (c observedConsumer) HighWatermark(k *driver.Claim) int64 {
	return c.Consumer.(driver.HighWatermarker).HighWatermark(k)
}

func (c observedConsumer) Run(h driver.Handler) error {
	return c.Consumer.Run(observedHandler{h, c.events})
}

type observedHandler struct {
	driver.Handler
	events *eventLog
}

func (h observedHandler) Assign(cs []*driver.Claim) {
	h.events.tell(event{Kind: isAssigned, Partitions: partitions(cs)})
	h.Handler.Assign(cs)
}

// Revoke ends the claims when it returns or when its window does.
func (h observedHandler) Revoke(ctx context.Context, cs []*driver.Claim) {
	var once sync.Once
	stop := context.AfterFunc(ctx, func() {
		once.Do(func() {
			h.events.tell(event{Kind: isRevoked, Partitions: partitions(cs), Stuck: partitions(cs)})
		})
	})
	h.Handler.Revoke(ctx, cs)
	stop()
	once.Do(func() { h.events.tell(event{Kind: isRevoked, Partitions: partitions(cs)}) })
}

func (h observedHandler) Lost(cs []*driver.Claim, cause error) {
	h.Handler.Lost(cs, cause)
	h.events.tell(event{Kind: isLost, Partitions: partitions(cs), Text: cause.Error()})
}

func partitions(cs []*driver.Claim) (ids []int32) {
	for _, c := range cs {
		ids = append(ids, c.Partition)
	}
	return ids
}
