package kafkatest

import (
	"context"
	"reflect"

	"github.com/aarontianqx/gopkg/kafka"
)

// register adds a consumer and switches it on.
func (k *Kafka) register(c kafka.Consumer) error {
	n := &named{Consumer: c}
	if err := k.RegisterConsumer(context.Background(), n.asked()); err != nil {
		return err
	}
	return k.SetConsumerSwitch(n.job, true)
}

// A named consumer overhears its job's name when the manager asks for its
// configuration, which may be done once only. The newest job of the manager may have
// another name: another goroutine may register at the same time.
type named struct {
	kafka.Consumer
	job string
}

func (n *named) GetConfig() *kafka.ConsumerConfig {
	cfg := n.Consumer.GetConfig()
	if cfg != nil {
		n.job = cfg.JobName
	}
	return cfg
}

// asked returns what to register: n with the method for records that the manager
// prefers, if its consumer has one. No consumer at all is left to the manager to
// refuse.
func (n *named) asked() kafka.Consumer {
	if v := reflect.ValueOf(n.Consumer); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return n.Consumer
	}
	switch c := n.Consumer.(type) {
	case kafka.BatchConsumer:
		return struct {
			*named
			batchHandler
		}{n, c}
	case kafka.MessageConsumer:
		return struct {
			*named
			messageHandler
		}{n, c}
	}
	return n
}

type batchHandler interface {
	HandleBatch(ctx context.Context, ms []*kafka.Message) error
}

type messageHandler interface {
	HandleMessage(ctx context.Context, m *kafka.Message) error
}
