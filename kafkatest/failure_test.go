package kafkatest_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

var quiet = kafka.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

func failing(context.Context, *kafka.Message) error { return errBoom }

// blocked handles nothing until its context ends.
func blocked(ctx context.Context, _ *kafka.Message) error {
	<-ctx.Done()
	return ctx.Err()
}

// A noConfig is a consumer without a configuration.
type noConfig struct{ kafka.Consumer }

func (noConfig) GetConfig() *kafka.ConsumerConfig { return nil }

// Each wait and each misuse fails the test with what is needed to see why, line
// by line.
func TestFailuresSayWhatIsKnown(t *testing.T) {
	for _, test := range []struct {
		name string
		body func(t testing.TB, k *kafkatest.Kafka)
		want string
	}{
		{"WaitHandled, while retrying", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", failing))
			k.Timeout = 2500 * time.Millisecond
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 2.5s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 0 of 1, committed 0, 2 failures in a row, the next attempt in 500ms, the latest: boom
  the record: 2 attempts, 2 failures, the latest: boom`},

		{"WaitHandled, while it is tried again", func(t testing.TB, k *kafkatest.Kafka) {
			tries := 0
			k.Start(consumer("orders", func(ctx context.Context, m *kafka.Message) error {
				if tries++; tries > 1 {
					return blocked(ctx, m)
				}
				return errBoom
			}))
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 0 of 1, committed 0, 1 failure in a row, the latest: boom
  the record: 2 attempts, 1 failure, the latest: boom`},

		{"WaitHandled, when disabled", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.FailCommits(1_000, &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: kafka.ErrPermanent})
			k.Send("orders", "", "")
			k.WaitState("orders", kafka.StateDisabled)
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 1 to be handled
consumer "orders": disabled
  the reason: commit orders/0 at 1: GROUP_AUTHORIZATION_FAILED (permanent)
  the record: never handed out`},

		{"WaitHandled, behind one that blocks", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", blocked))
			k.Send("orders", "", "")
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 1 to be handled
consumer "orders": running
  orders/0: at 0 of 2, committed 0
  the record: never handed out`},

		{"WaitHandled, while it blocks", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", blocked))
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 0 of 1, committed 0
  the record: 1 attempt, the latest has not ended`},

		{"WaitHandled, sent before the start", func(t testing.TB, k *kafkatest.Kafka) {
			r := k.Send("orders", "", "")
			k.Start(consumer("orders", nothing))
			k.WaitHandled(r)
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: never handed out: group "orders-group" has committed a later position; did it start at the newest offset, after the record was sent?`},

		{"WaitHandled, by one of two", func(t testing.TB, k *kafkatest.Kafka) {
			second := config("second")
			second.Topic = "orders"
			k.Start(consumer("orders", nothing), kafka.NewConsumer(second, blocked))
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: handled, after 1 attempt
consumer "second": running
  orders/0: at 0 of 1, committed 0
  the record: 1 attempt, the latest has not ended`},

		{"WaitHandled, by one of two that share a client ID", func(t testing.TB, k *kafkatest.Kafka) {
			first, second := config("orders"), config("second")
			second.Topic = "orders"
			first.ClientID, second.ClientID = "second", "second"
			k.Start(kafka.NewConsumer(first, nothing), kafka.NewConsumer(second, failing))
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: handled, after 1 attempt
consumer "second": running
  orders/0: at 0 of 1, committed 0, 15 failures in a row, the next attempt in 3s, the latest: boom
  the record: 15 attempts, 15 failures, the latest: boom`},

		{"WaitHandled, of a topic without a reader", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.WaitHandled(k.Send("invoices", "", ""))
		}, `kafkatest: waited 10m0s for invoices/0 offset 0 to be handled
no consumer reads "invoices"
consumer "orders": running
  orders/0: at 0 of 0, committed 0`},

		{"WaitHandled, without consumers", func(t testing.TB, k *kafkatest.Kafka) {
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
no consumer reads "orders"
there are no consumers`},

		{"WaitHandled, when all are off", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.SetConsumerSwitch("orders", false)
			k.WaitState("orders", kafka.StateOff)
			k.WaitHandled(k.Send("orders", "", ""))
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to be handled
consumer "orders": off
  the record: never handed out`},

		{"WaitFailed", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.WaitFailed(k.Send("orders", "", ""), 1)
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to fail 1 time
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: handled, after 1 attempt`},

		{"WaitAttempts", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.WaitAttempts(k.Send("orders", "", ""), 2)
		}, `kafkatest: waited 10m0s for orders/0 offset 0 to have 2 attempts
consumer "orders": running
  orders/0: at 1 of 1, committed 1
  the record: handled, after 1 attempt`},

		{"WaitState", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.Broker.Stop()
			k.WaitState("orders", kafka.StateBackingOff)
		}, `kafkatest: waited 10m0s for consumer "orders" to be backing off
consumer "orders": starting
  the reason: SESSION_TIMED_OUT: membership lost: no heartbeat has been answered for the session timeout, 10s
  the latest error of the driver: SESSION_TIMED_OUT: membership lost: no heartbeat has been answered for the session timeout, 10s`},

		{"WaitCommitted", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.FailCommits(1_000_000, nil)
			k.Send("orders", "", "")
			k.WaitCommitted("orders")
		}, `kafkatest: waited 10m0s for group "orders-group" to commit orders/0 at 1
consumer "orders": running
  the latest commit failed: commit orders/0 at 1: UNKNOWN_SERVER_ERROR: refused by the test
  orders/0: at 1 of 1, committed 0`},

		{"Start, while the broker is stopped", func(t testing.TB, k *kafkatest.Kafka) {
			k.Broker.Stop()
			k.Timeout = time.Second / 2
			k.Start(consumer("orders", nothing))
		}, `kafkatest: waited 500ms for the consumers to have their partitions
consumer "orders": backing off
  the reason: connect: CONNECTION_FAILED: the broker is unreachable`},

		{"Start, with a wrong configuration", func(t testing.TB, k *kafkatest.Kafka) {
			cfg := config("orders")
			cfg.ConsumerGroup = ""
			k.Start(kafka.NewConsumer(cfg, nothing))
		}, `kafkatest: start: kafka: consumer "orders": ConsumerGroup: is empty`},

		{"Start, without a configuration", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(noConfig{})
		}, `kafkatest: start: kafka: consumer "": GetConfig: returned nil`},

		{"Start, of nothing", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(nil)
		}, `kafkatest: start: kafka: register consumer: handler is nil`},

		{"Start, of a nil pointer", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start((*valueConsumer)(nil))
		}, `kafkatest: start: kafka: register consumer: handler is nil`},

		{"Start, twice the same", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing), consumer("orders", nothing))
		}, `kafkatest: start: kafka: consumer "orders": name is registered already`},

		{"Start, after the shutdown", func(t testing.TB, k *kafkatest.Kafka) {
			k.Shutdown(context.Background())
			k.Start()
		}, `kafkatest: start: kafka: start consumers: closed`},

		{"Rebalance, of a consumer that is off", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.SetConsumerSwitch("orders", false)
			k.WaitState("orders", kafka.StateOff)
			k.Rebalance("orders")
		}, `kafkatest: consumer "orders" cannot rejoin after a rebalance: it is no member of group "orders-group"
consumer "orders": off`},

		{"Crash, of one that is off beside another", func(t testing.TB, k *kafkatest.Kafka) {
			second := config("second")
			second.ConsumerGroup = "orders-group"
			k.Start(consumer("orders", nothing), kafka.NewConsumer(second, nothing))
			k.SetConsumerSwitch("orders", false)
			k.WaitState("orders", kafka.StateOff)
			k.Crash("orders")
		}, `kafkatest: consumer "orders" cannot rejoin after its session ended: it is no member of group "orders-group"
consumer "orders": off`},

		{"Crash, of one that cannot come back", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.Broker.Stop()
			k.Crash("orders")
		}, `kafkatest: waited 10m0s for consumer "orders" to rejoin after its session ended
consumer "orders": starting
  the reason: SESSION_TIMED_OUT: membership lost: no heartbeat has been answered for the session timeout, 10s
  the latest error of the driver: SESSION_TIMED_OUT: membership lost: no heartbeat has been answered for the session timeout, 10s`},

		{"Crash, of an unknown job", func(t testing.TB, k *kafkatest.Kafka) {
			k.Start(consumer("orders", nothing))
			k.Crash("odrers")
		}, `kafkatest: there is no consumer "odrers"
consumer "orders": running
  orders/0: at 0 of 0, committed 0`},

		{"CreateTopic, twice", func(t testing.TB, k *kafkatest.Kafka) {
			k.Send("orders", "", "")
			k.CreateTopic("orders", 3)
		}, `kafkatest: create topic: TOPIC_ALREADY_EXISTS: topic "orders" exists`},

		{"SendMessage, to no such partition", func(t testing.TB, k *kafkatest.Kafka) {
			k.SendMessage(&kafka.ProducerMessage{Topic: "orders", ToPartition: new(int32(3))})
		}, `kafkatest: send to "orders": UNKNOWN_TOPIC_OR_PARTITION: orders/3 does not exist`},

		{"Producer, while the broker is stopped", func(t testing.TB, k *kafkatest.Kafka) {
			k.Broker.Stop()
			k.Producer()
		}, `kafkatest: producer: kafka: producer "producer-1": connect: CONNECTION_FAILED: the broker is unreachable: context deadline exceeded`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := failure(t, func(t testing.TB) { test.body(t, kafkatest.New(t, quiet)) })
				require.Equal(t, test.want, got)
			})
		})
	}
}

// In real time a wait ends after five seconds by default, and returns as soon as it
// can.
func TestTimeouts(t *testing.T) {
	k := kafkatest.New(t)
	require.Equal(t, 5*time.Second, k.Timeout, "default timeout")
	got := failure(t, func(t testing.TB) {
		k := kafkatest.New(t, quiet)
		k.Timeout = time.Millisecond
		k.WaitHandled(k.Send("orders", "", ""))
	})
	require.Regexp(t, "^kafkatest: waited 1ms for ", got)
}
