package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// rawSarama is IBM/sarama as its examples use it. What it fetches and how it
// acknowledges is set as the library sets it.
func rawSarama() client {
	return client{name: baseline, consume: consumeRaw, produce: produceRaw, commits: commitRaw}
}

func rawConsumerConfig(s subscription) *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.IsolationLevel = sarama.ReadCommitted
	cfg.Consumer.Fetch.Default = 1 << 20
	strategy := sarama.NewBalanceStrategyRoundRobin()
	if s.cooperative {
		strategy = sarama.NewBalanceStrategyCooperativeSticky()
	}
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	return cfg
}

// A rawHandler marks each record after handle has returned.
type rawHandler struct {
	handle func(partition int32)
	after  func(sarama.ConsumerGroupSession) // comes after the mark, if set
}

func (rawHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (rawHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h rawHandler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			h.handle(m.Partition)
			s.MarkMessage(m, "")
			if h.after != nil {
				h.after(s)
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func consumeRaw(s subscription, handle func(int32)) (func() error, error) {
	return runRaw(s, rawHandler{handle: handle})
}

func runRaw(s subscription, h rawHandler) (stop func() error, err error) {
	group, err := sarama.NewConsumerGroup(s.brokers, s.group, rawConsumerConfig(s))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{s.topic}, h); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() error {
		cancel()
		return errors.Join(<-ended, group.Close())
	}, nil
}

func commitRaw(ctx context.Context, s subscription, took func(time.Duration)) error {
	stop, err := runRaw(s, rawHandler{handle: func(int32) {}, after: func(s sarama.ConsumerGroupSession) {
		awaitNextFetch()
		began := time.Now()
		s.Commit()
		took(time.Since(began))
	}})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return stop()
}

func rawProducerConfig() *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Partitioner = sarama.NewMurmur2Partitioner
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
	return cfg
}

// A rawProducer opens what it is used for: two clients, as Sarama has it.
type rawProducer struct {
	brokers   []string
	syncOnce  sync.Once
	sync      sarama.SyncProducer
	syncErr   error
	asyncOnce sync.Once
	async     sarama.AsyncProducer
	asyncErr  error
	answered  sync.WaitGroup
}

func produceRaw(brokers []string) (producer, error) { return &rawProducer{brokers: brokers}, nil }

func (p *rawProducer) send(_ context.Context, topic string, value []byte) error {
	p.syncOnce.Do(func() { p.sync, p.syncErr = sarama.NewSyncProducer(p.brokers, rawProducerConfig()) })
	if p.syncErr != nil {
		return p.syncErr
	}
	_, _, err := p.sync.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value)})
	return err
}

func (p *rawProducer) sendAsync(_ context.Context, topic string, value []byte, done func(error)) {
	p.asyncOnce.Do(func() {
		if p.async, p.asyncErr = sarama.NewAsyncProducer(p.brokers, rawProducerConfig()); p.asyncErr != nil {
			return
		}
		p.answered.Go(func() {
			for m := range p.async.Successes() {
				m.Metadata.(func(error))(nil)
			}
		})
		p.answered.Go(func() {
			for err := range p.async.Errors() {
				err.Msg.Metadata.(func(error))(err)
			}
		})
	})
	if p.asyncErr != nil {
		done(p.asyncErr)
		return
	}
	p.async.Input() <- &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(value), Metadata: done}
}

func (p *rawProducer) close() error {
	var err error
	if p.sync != nil {
		err = p.sync.Close()
	}
	if p.async != nil {
		p.async.AsyncClose()
		p.answered.Wait()
	}
	return err
}
