package main

import (
	"context"
	"errors"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// watermillKafka is ThreeDotsLabs/watermill-kafka, a library over Sarama that
// hands out one message at a time. It has no asynchronous producer.
func watermillKafka() client {
	return client{name: watermillName, consume: consumeWatermill, produce: produceWatermill}
}

func consumeWatermill(s subscription, handle func(int32)) (func() error, error) {
	cfg := rawConsumerConfig(s)
	cfg.Consumer.Return.Errors = true
	sub, err := wkafka.NewSubscriber(wkafka.SubscriberConfig{
		Brokers: s.brokers, ConsumerGroup: s.group, Unmarshaler: wkafka.DefaultMarshaler{}, OverwriteSaramaConfig: cfg,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	messages, err := sub.Subscribe(context.Background(), s.topic)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m := range messages {
			partition := int32(0)
			if s.partitions {
				partition, _ = wkafka.MessagePartitionFromCtx(m.Context())
			}
			if s.partitions {
				go func() { handle(partition); m.Ack() }() // messages of several partitions come at once
				continue
			}
			handle(partition)
			m.Ack()
		}
	}()
	return func() error {
		err := sub.Close()
		<-ended
		return err
	}, nil
}

type watermillProducer struct{ p *wkafka.Publisher }

func produceWatermill(brokers []string) (producer, error) {
	cfg := rawProducerConfig()
	cfg.Version = sarama.V2_8_0_0
	p, err := wkafka.NewPublisher(wkafka.PublisherConfig{
		Brokers: brokers, Marshaler: wkafka.DefaultMarshaler{}, OverwriteSaramaConfig: cfg,
	}, watermill.NopLogger{})
	return watermillProducer{p}, err
}

func (p watermillProducer) send(_ context.Context, topic string, value []byte) error {
	return p.p.Publish(topic, message.NewMessage(watermill.NewShortUUID(), value))
}

func (p watermillProducer) sendAsync(_ context.Context, _ string, _ []byte, done func(error)) {
	done(errors.ErrUnsupported)
}

func (p watermillProducer) close() error { return p.p.Close() }
