package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// ours is this library on a driver, with its defaults.
func ours(on string, d driver.Driver) client {
	return client{
		name: "ours on " + on,
		consume: func(s subscription, handle func(int32)) (func() error, error) {
			return consumeOn(d, s, handle)
		},
		produce: produceOurs(d),
		commits: func(ctx context.Context, s subscription, took func(time.Duration)) error {
			return commitOn(ctx, d, s, took)
		},
	}
}

// switchedOff is the same client, whose consumer is stopped by its switch.
func switchedOff(c client) client {
	consume := c.consume
	c.name += off
	c.consume = func(s subscription, handle func(int32)) (func() error, error) {
		s.switched = true
		return consume(s, handle)
	}
	return c
}

// oursOnMemory is this library on the broker in memory.
func oursOnMemory() client {
	broker := memory.NewBroker()
	return client{
		name: oursMemory,
		consume: func(s subscription, handle func(int32)) (func() error, error) {
			return consumeOn(broker, s, handle)
		},
		produce: produceOurs(broker),
		prepare: func(topic string, s scenario, messages int) error {
			if err := broker.CreateTopic(topic, s.partitions); err != nil || !s.fill {
				return err
			}
			value := make([]byte, s.bytes)
			for i := range messages {
				if err := broker.Send(topic, nil, value, memory.ToPartition(int32(i%s.partitions))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newManager(d driver.Driver) *kafka.Manager {
	return kafka.New(d, kafka.WithLogger(slog.New(slog.DiscardHandler)))
}

func consumerConfig(s subscription) kafka.ConsumerConfig {
	cfg := kafka.ConsumerConfig{
		JobName: s.group, ConsumerGroup: s.group, Topic: s.topic, BootstrapServers: s.brokers[0], InitialOffset: kafka.OffsetOldest,
	}
	if s.cooperative {
		cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.CooperativeSticky}
	}
	return cfg
}

// A valueHandler is a consumer that wants nothing but the value.
type valueHandler struct {
	cfg    kafka.ConsumerConfig
	handle func(int32)
}

func (h *valueHandler) GetConfig() *kafka.ConsumerConfig { return &h.cfg }

func (h *valueHandler) Handle(context.Context, []byte) error {
	h.handle(0)
	return nil
}

func consumeOn(d driver.Driver, s subscription, handle func(int32)) (stop func() error, err error) {
	var consumer kafka.Consumer = &valueHandler{consumerConfig(s), handle}
	if s.partitions {
		consumer = kafka.NewConsumer(consumerConfig(s), func(_ context.Context, m *kafka.Message) error {
			handle(m.Partition)
			return nil
		})
	}
	ctx, m := context.Background(), newManager(d)
	if err := errors.Join(
		m.RegisterConsumer(ctx, consumer),
		m.SetConsumerSwitch(s.group, true),
		m.StartAllConsumers(ctx),
	); err != nil {
		return nil, err
	}
	if s.switched {
		return func() error { return switchOff(m, s.group) }, nil
	}
	return func() error { return m.Shutdown(context.Background()) }, nil
}

// switchOff returns when the consumer is off, and so has left its group.
func switchOff(m *kafka.Manager, name string) error {
	if err := m.SetConsumerSwitch(name, false); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond / 2) {
		c, err := m.Consumer(name)
		if err != nil || c.State == kafka.StateOff {
			return err
		}
		if time.Since(began) > turnTimeout {
			return fmt.Errorf("the consumer is %v", c.State)
		}
	}
}

// commitOn asks the driver, as the core does when a partition has run empty.
func commitOn(ctx context.Context, d driver.Driver, s subscription, took func(time.Duration)) error {
	consumer, err := d.OpenConsumer(ctx, driver.ConsumerConfig{
		Brokers: s.brokers, ClientID: s.group, Group: s.group, Topics: []string{s.topic}, InitialOffset: driver.OffsetOldest,
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
		SessionTimeout:    10 * time.Second, HeartbeatInterval: 3 * time.Second, RebalanceTimeout: time.Minute,
		DrainTimeout: 30 * time.Second, MaxProcessingTime: 100 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	marks := make(chan driver.Mark, 100)
	ran := make(chan error, 1)
	go func() { ran <- consumer.Run(marker{marks, ctx.Done()}) }()
	for {
		select {
		case m := <-marks:
			awaitNextFetch()
			began := time.Now()
			if err := consumer.Commit(ctx, []driver.Mark{m}); err != nil && ctx.Err() == nil {
				return err
			}
			took(time.Since(began))
		case <-ctx.Done():
			err := consumer.Close(context.Background())
			return errors.Join(err, <-ran)
		}
	}
}

// A marker is a driver.Handler that passes on what may be committed, until done is
// closed: Deliver must not block, and Close would wait for it.
type marker struct {
	marks chan<- driver.Mark
	done  <-chan struct{}
}

func (m marker) Deliver(c *driver.Claim, b driver.Batch) {
	for _, r := range b.Records {
		select {
		case m.marks <- driver.Mark{Claim: c, Offset: r.Offset + 1}:
		case <-m.done:
			return
		}
	}
}

func (marker) Assign([]*driver.Claim)                  {}
func (marker) Revoke(context.Context, []*driver.Claim) {}
func (marker) Lost([]*driver.Claim, error)             {}
func (marker) Error(error)                             {}

type ourProducer struct {
	m *kafka.Manager
	p *kafka.Producer
}

func produceOurs(d driver.Driver) func(brokers []string) (producer, error) {
	return func(brokers []string) (producer, error) {
		m := newManager(d)
		p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{
			BootstrapServers: brokers[0], EnableAsyncProducer: kafka.BoolPtr(true)})
		return ourProducer{m, p}, err
	}
}

func (p ourProducer) send(ctx context.Context, topic string, value []byte) error {
	return p.p.Send(ctx, topic, nil, value)
}

func (p ourProducer) sendAsync(ctx context.Context, topic string, value []byte, done func(error)) {
	p.p.SendAsync(ctx, topic, nil, value, func(_ *kafka.ProducerMessage, err error) { done(err) })
}

func (p ourProducer) close() error { return p.m.Shutdown(context.Background()) }
