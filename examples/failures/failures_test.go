package failures

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("the database is down")

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T, k *kafkatest.Kafka)) {
	synctest.Test(t, func(t *testing.T) { test(t, kafkatest.New(t)) })
}

const dlq = "orders.shop.dlq"

func TestKeepTrying(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Timeout = time.Hour
		k.Start(KeepTrying(kafkatest.FailTimes(30, errDown, nil)))
		r := k.Send("orders", "1", "{}")
		k.WaitHandled(r)
		assert.Equal(t, 31, k.Attempts(r))
		assert.Equal(t, kafka.StateRunning, k.WaitState("orders", kafka.StateRunning).State)
	})
}

func TestDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		bad := k.SendMessage(&kafka.ProducerMessage{
			Topic: "orders", Key: []byte("1"), Value: []byte("bad"),
			Headers: []kafka.Header{{Key: "tenant", Value: []byte("a")}, {Key: "tenant", Value: nil}},
		})
		good := k.Send("orders", "1", "good")
		k.Start(DeadLetters(func(_ context.Context, m *kafka.Message) error {
			if string(m.Value) == "bad" {
				return errDown
			}
			return nil
		}))
		d := k.WaitDead(bad)
		assert.Equal(t, bad, d.Record, "all of the record, with the place where it lay")
		assert.Equal(t, kafka.DeadLetterReasonAttempts, d.Reason)
		assert.Equal(t, 5, d.Attempts)
		assert.Equal(t, errDown.Error(), d.Error)
		assert.Equal(t, 5, k.Attempts(bad))
		k.WaitHandled(good)
		k.WaitCommitted("orders")
		assert.Len(t, k.DeadLetters(dlq), 1)
	})
}

func TestRetryTopics(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Timeout = time.Hour
		began := time.Now()
		k.Start(RetryTopics(func(_ context.Context, m *kafka.Message) error {
			if string(m.Value) == "bad" || string(m.Value) == "slow" && m.Attempt < 4 {
				return errDown
			}
			return nil
		}))
		bad, slow, good := k.Send("orders", "1", "bad"), k.Send("orders", "1", "slow"), k.Send("orders", "1", "good")
		k.WaitHandled(good)
		assert.Less(t, time.Since(began), time.Second, "it waits for no other record")
		k.WaitHandled(slow)
		assert.Equal(t, 4, k.Attempts(slow))
		d := k.WaitDead(bad)
		assert.Equal(t, bad, d.Record, "with the place where it first lay")
		assert.Equal(t, 4, d.Attempts)
		assert.InDelta(t, 10*time.Minute+6*time.Second, time.Since(began), float64(2*time.Second))
	})
}

func TestRedrive(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Timeout = time.Hour
		var mended atomic.Bool
		k.Start(RetryTopics(func(context.Context, *kafka.Message) error {
			if mended.Load() {
				return nil
			}
			return errDown
		}))
		began := time.Now()
		bad := k.Send("orders", "1", "bad")
		k.WaitDead(bad)
		mended.Store(true)

		agree := true
		confirm := func(would kafka.RedriveReport) bool {
			assert.Equal(t, kafka.RedriveReport{Read: 1, Sent: 1, Again: true}, would)
			return agree
		}
		_, err := Redrive(t.Context(), k.Manager, time.Time{}, confirm)
		require.ErrorIs(t, err, kafka.ErrNoPosition, "the first one has to say where to begin")
		agree = false
		_, err = Redrive(t.Context(), k.Manager, began, confirm)
		require.NoError(t, err)
		assert.Equal(t, 4, k.Attempts(bad), "nothing was sent")
		agree = true
		report, err := Redrive(t.Context(), k.Manager, began, confirm)
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 1, Sent: 1}, report)
		k.WaitHandled(bad)
		assert.Equal(t, 5, k.Attempts(bad))
		report, err = k.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Zero(t, report, "the next one goes on behind it")
	})
}

func TestGoOnWithout(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Start(GoOnWithout(kafkatest.FailTimes(kafka.Unlimited, errDown, nil)))
		r := k.Send("orders", "1", "{}")
		assert.Equal(t, errDown, k.WaitSkipped(r))
		k.WaitCommitted("orders")
		assert.Equal(t, 3, k.Attempts(r))
	})
}

func TestStopAndAsk(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		r := k.Send("orders", "1", "{}")
		k.Start(StopAndAsk(kafkatest.FailTimes(3, errDown, nil)))
		status := k.WaitState("orders", kafka.StateDisabled)
		assert.ErrorIs(t, status.Reason, errDown)
		assert.False(t, status.Switch)
		require.NoError(t, k.SetConsumerSwitch("orders", true))
		k.WaitHandled(r)
		assert.Equal(t, 4, k.Attempts(r))
	})
}

func TestTellApart(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		failed := map[string]error{"no customer": ErrNoSuchCustomer, "not ours": ErrNotOurs}
		downFor := 2
		k.Start(TellApart(func(_ context.Context, m *kafka.Message) error {
			if string(m.Value) == "passes" && downFor > 0 {
				downFor--
				return errDown
			}
			return failed[string(m.Value)]
		}))
		dead, skipped, passes := k.Send("orders", "1", "no customer"), k.Send("orders", "1", "not ours"), k.Send("orders", "1", "passes")
		assert.Equal(t, kafka.DeadLetterReasonHandler, k.WaitDead(dead).Reason)
		assert.ErrorIs(t, k.WaitSkipped(skipped), ErrNotOurs)
		k.WaitHandled(passes)
		assert.Equal(t, []int{1, 1, 3}, []int{k.Attempts(dead), k.Attempts(skipped), k.Attempts(passes)})
	})
}

func TestClassified(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		refused := &driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrPermanent}
		k.Start(Classified(func(_ context.Context, m *kafka.Message) error {
			if m.Attempt < 3 && string(m.Value) == "passes" {
				return errDown
			}
			if string(m.Value) == "too large" {
				return refused
			}
			return nil
		}))
		d := k.WaitDead(k.Send("orders", "1", "too large"))
		assert.Equal(t, kafka.DeadLetterReasonClassify, d.Reason)
		assert.Equal(t, "MESSAGE_TOO_LARGE", d.Exception)
		r := k.Send("orders", "1", "passes")
		k.WaitHandled(r)
		assert.Equal(t, 3, k.Attempts(r))
	})
}

// An hour's outage costs no order and no attempt.
func TestHoldWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Timeout = 3 * time.Hour
		var away atomic.Bool
		away.Store(true)
		k.Start(HoldWhileAway(func(context.Context, *kafka.Message) error {
			if away.Load() {
				return &AnswerError{Status: http.StatusServiceUnavailable}
			}
			return nil
		}))
		var all []*kafka.Message
		for range 10 {
			all = append(all, k.Send("orders", "1", "{}"))
		}
		k.WaitAttempts(all[0], 1)
		time.Sleep(time.Hour)
		status, err := k.Consumer("orders")
		require.NoError(t, err)
		assert.NotNil(t, status.Held)
		assert.Equal(t, kafka.StateRunning, status.State)
		away.Store(false)
		k.WaitHandled(all...)
		assert.Empty(t, k.DeadLetters(dlq))
	})
}

// A service that asks for patience gets it.
func TestRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		k.Start(HoldWhileAway(kafkatest.FailTimes(1, &AnswerError{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Minute}, nil)))
		began := time.Now()
		k.WaitHandled(k.Send("orders", "1", "{}"))
		assert.Equal(t, 7*time.Minute, time.Since(began))
	})
}

func TestTyped(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		var got []Order
		k.Start(Typed(func(_ context.Context, o Order, _ *kafka.Message) error {
			got = append(got, o)
			return nil
		}))
		bad, good := k.Send("orders", "1", `{"id": 1`), k.Send("orders", "1", `{"id": 2, "cents": 300}`)
		d := k.WaitDead(bad)
		assert.Equal(t, bad, d.Record)
		assert.Equal(t, kafka.DeadLetterReasonDecode, d.Reason)
		k.WaitHandled(good)
		assert.Equal(t, []Order{{2, 300}}, got)
	})
}

func TestBatch(t *testing.T) {
	bubble(t, func(t *testing.T, k *kafkatest.Kafka) {
		good, worse, bad := k.Send("orders", "1", `{"id": 1}`), k.Send("orders", "1", `rubbish`), k.Send("orders", "1", `{"id": 3}`)
		calls := map[int]int{}
		k.Start(Batch(func(_ context.Context, orders []kafka.Decoded[Order]) map[int]error {
			for _, o := range orders {
				calls[o.Value.ID]++
			}
			return map[int]error{3: errors.New("a duplicate")}
		}))
		assert.Equal(t, kafka.DeadLetterReasonDecode, k.WaitDead(worse).Reason)
		d := k.WaitDead(bad)
		assert.Equal(t, "a duplicate", d.Error)
		assert.Equal(t, 5, d.Attempts)
		k.WaitCommitted("orders")
		assert.Equal(t, map[int]int{1: 1, 3: 5}, calls)
		assert.Equal(t, 1, k.Attempts(good))
	})
}
