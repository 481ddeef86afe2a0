package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// FuzzConfig registers any configuration. Either that is an error, of
// the core or of Sarama, which does not support it, and nothing is registered; or
// the consumer runs on an empty broker, and the producer sends.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g"}`,
		`{"JobName":"j","Topics":["a","b"],"BootstrapServers":"h:1, [::1]:2","ConsumerGroup":"g","AutoCommit":true,"CommitInterval":1000000,"InitialOffset":1,"IsolationLevel":1,"BalanceStrategies":[3,1]}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","SessionTimeout":6000000000,"HeartbeatInterval":2000000000,"RebalanceTimeout":6000000000,"DrainTimeout":1000000,"MaxProcessingTime":1000000}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","GroupProtocol":"consumer"}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","MaxMessageBytes":104857600,"MaxBufferedMessages":1,"MaxBufferedBytes":1,"MaxBatchSize":1,"Backoff":{"Min":1000000,"Max":2147483647000000,"Multiplier":1.5,"Jitter":-1},"MaxConsecutiveErrors":1}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","ClientID":"c","InstanceID":"i","RackID":"r","TLS":{"ServerName":"n","InsecureSkipVerify":true},"SASL":{"Mechanism":"PLAIN","User":"u","Password":"p"}}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","SASL":{"Mechanism":"SCRAM-SHA-512","User":"ü","Password":"p"}}`,
		`{"JobName":"j","Topic":"t","BootstrapServers":"h:1","ConsumerGroup":"g","SASL":{"Mechanism":"OAUTHBEARER","AllowPlaintext":true}}`,
		`{"BootstrapServers":"h:1","RequiredAcks":1,"Compression":4,"MaxRetries":-1,"RetryBackoff":1000000,"EnableIdempotent":false,"MaxMessageBytes":1,"EnableAsyncProducer":true,"ClientID":"c"}`,
	} {
		f.Add(false, []byte(text))
		f.Add(true, []byte(text))
	}
	f.Fuzz(func(t *testing.T, producer bool, text []byte) {
		if strings.Contains(string(text), "File") {
			t.Skip("names a file of this machine")
		}
		synctest.Test(t, func(t *testing.T) {
			if producer {
				fuzzProducer(t, text)
			} else {
				fuzzConsumer(t, text)
			}
		})
	})
}

// A checkedBroker is a broker in memory that refuses what Sarama does.
type checkedBroker struct {
	*memory.Broker
	sarama sarama.Driver
}

func (b checkedBroker) ValidateConsumer(cfg driver.ConsumerConfig) error {
	return b.sarama.ValidateConsumer(cfg)
}

func (b checkedBroker) ValidateProducer(cfg driver.ProducerConfig) error {
	return b.sarama.ValidateProducer(cfg)
}

func newCheckedBroker() checkedBroker {
	return checkedBroker{Broker: memory.NewBroker(memory.WithAutoCreate(1))}
}

func fuzzConsumer(t *testing.T, text []byte) {
	var cfg kafka.ConsumerConfig
	if json.Unmarshal(text, &cfg) != nil {
		t.Skip("no configuration")
	}
	if cfg.SASL != nil && cfg.SASL.Mechanism == kafka.SASLOAuthBearer {
		cfg.SASL.TokenSource = noToken
	}
	m := newManager(t, newCheckedBroker())
	err := m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return nil }))
	if err != nil {
		refused(t, err)
		require.Empty(t, m.Consumers(), "after %v", err)
		return
	}
	require.NoError(t, m.SetConsumerSwitch(cfg.JobName, true))
	require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	time.Sleep(time.Second)
	synctest.Wait()
	s, err := m.Consumer(cfg.JobName)
	require.NoError(t, err)
	require.Equal(t, kafka.StateRunning, s.State, "reason %v", s.Reason)
}

func noToken(context.Context) (kafka.Token, error) { return kafka.Token{Value: "t"}, nil }

// refused holds that an error names the field that it is about, or is a driver's.
func refused(t *testing.T, err error) {
	if _, named := errors.AsType[*kafka.FieldError](err); !named {
		require.ErrorIs(t, err, kafka.ErrPermanent, "it names no field")
	}
}

func fuzzProducer(t *testing.T, text []byte) {
	var cfg kafka.ProducerConfig
	if json.Unmarshal(text, &cfg) != nil {
		t.Skip("no configuration")
	}
	if cfg.SASL != nil && cfg.SASL.Mechanism == kafka.SASLOAuthBearer {
		cfg.SASL.TokenSource = noToken
	}
	p, err := newManager(t, newCheckedBroker()).RegisterProducer(t.Context(), cfg)
	if err != nil {
		refused(t, err)
		return
	}
	if cfg.EnableSyncProducer == nil || *cfg.EnableSyncProducer {
		require.NoError(t, p.Send(t.Context(), "t", nil, []byte("v")))
		return
	}
	answered := make(chan error, 1)
	p.SendAsync(t.Context(), "t", nil, []byte("v"), func(_ *kafka.ProducerMessage, err error) { answered <- err })
	require.NoError(t, <-answered)
}
