package kafkatest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// forwarding returns a configuration that makes dead letters after three attempts.
func forwarding(topic string) kafka.ConsumerConfig {
	cfg := config(topic)
	cfg.Failure = kafka.FailurePolicy{
		Then: kafka.FailureDeadLetter, MaxAttempts: 3,
		DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"},
	}
	return cfg
}

// A dead letter reads as the record that it was. Its topic comes into being as every
// other does.
func TestWaitDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(kafka.NewConsumer(forwarding("orders"), kafkatest.FailTimes(kafka.Unlimited, errBoom, nil)))
		r := k.SendMessage(&kafka.ProducerMessage{
			Topic: "orders", Key: []byte("k"), Value: []byte("v"), Timestamp: time.Now().Add(-time.Hour),
			Headers: []kafka.Header{{Key: "a"}, {Key: "__dlq.mine", Value: []byte{}}},
		})
		d := k.WaitDead(r)
		assert.Equal(t, r, d.Record)
		assert.Equal(t, kafkatest.DeadLetter{
			Record: r, Group: "orders-group", Attempts: 3, Reason: "attempts",
			Exception: "*errors.errorString", Error: "boom", Letter: d.Letter,
		}, d)
		assert.Equal(t, "orders.dlq", d.Letter.Topic)
		assert.Equal(t, []kafkatest.DeadLetter{d}, k.DeadLetters("orders.dlq"))
		assert.Empty(t, k.DeadLetters("other.dlq"))
		k.WaitCommitted("orders")
	})
}

func TestWaitSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", kafkatest.FailTimes(1, kafka.Skip(errBoom), nil)))
		assert.ErrorIs(t, k.WaitSkipped(k.Send("orders", "", "")), errBoom)
		k.WaitCommitted("orders")
	})
}

// Each record is failed so many times, and then handed on.
func TestFailTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", kafkatest.FailTimes(2, errBoom, kafkatest.FailTimes(1, errors.New("another"), nil))))
		first, second := k.Send("orders", "", ""), k.Send("orders", "", "")
		k.WaitHandled(first, second)
		assert.Equal(t, []int{4, 4}, []int{k.Attempts(first), k.Attempts(second)})
	})
}

// A wait that fails says what became of the record.
func TestWaitsForDeadLettersThatFail(t *testing.T) {
	for _, test := range []struct {
		name string
		body func(testing.TB, *kafkatest.Kafka)
		want string
	}{
		{"WaitDead, of a record that is handled", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.WaitDead(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to become a dead letter
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: handled, after 1 attempt`},
		{"WaitSkipped, of a dead letter", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(kafka.NewConsumer(forwarding("orders"), kafkatest.FailTimes(kafka.Unlimited, errBoom, nil)))
			k.WaitSkipped(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be skipped
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: a dead letter at orders.dlq/0 offset 0, after 3 attempts: boom`},
		{"WaitHandled, of a record that is skipped", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", kafkatest.FailTimes(kafka.Unlimited, kafka.Skip(errBoom), nil)))
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: skipped, after 1 attempt: boom`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := failure(t, func(t testing.TB) { test.body(t, kafkatest.New(t, quiet)) })
				require.Equal(t, test.want, got)
			})
		})
	}
}
