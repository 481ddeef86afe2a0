package wiretest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// A user is a manager with one consumer and one producer, as a service has them.
type user struct {
	s        *secured
	manager  *kafka.Manager
	producer *kafka.Producer
	began    time.Time
}

// newUser registers a consumer and a producer, starts, and returns the errors of the
// registrations.
func (s *secured) newUser(t *testing.T, addr, group string, tlsConf *kafka.TLSConfig, sasl *kafka.SASLConfig) (u *user, consumerErr, producerErr error) {
	t.Helper()
	level := &slog.HandlerOptions{Level: slog.LevelDebug}
	u = &user{s: s, began: time.Now(), manager: kafka.New(s.driver, kafka.WithLogger(slog.New(slog.NewJSONHandler(s.seen, level))))}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), userPatience)
		defer cancel()
		assert.NoError(t, u.manager.Shutdown(ctx))
	})
	consumer := kafka.ConsumerConfig{
		JobName: "job", BootstrapServers: addr, Topic: "t", ConsumerGroup: group, TLS: tlsConf, SASL: sasl,
		SessionTimeout: 3 * time.Second, HeartbeatInterval: time.Second, RebalanceTimeout: 10 * time.Second,
		Backoff: kafka.Backoff{Min: 200 * time.Millisecond, Max: time.Second}, MaxConsecutiveErrors: 3,
	}
	producer := kafka.ProducerConfig{BootstrapServers: addr, TLS: tlsConf, SASL: sasl}
	s.seen.note(consumer)
	s.seen.note(producer)
	consumerErr = u.manager.RegisterConsumer(t.Context(), kafka.NewConsumer(consumer, func(context.Context, *kafka.Message) error { return nil }))
	if consumerErr == nil {
		u.switchOn(t)
		require.NoError(t, u.manager.StartAllConsumers(context.Background()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // it tries until then, unless the refusal is permanent
	defer cancel()
	u.producer, producerErr = u.manager.RegisterProducer(ctx, producer)
	s.seen.note(consumerErr)
	s.seen.note(producerErr)
	return u, consumerErr, producerErr
}

func (u *user) switchOn(t *testing.T) {
	t.Helper()
	require.NoError(t, u.manager.SetConsumerSwitch("job", true))
}

// settled waits until the consumer runs or has been disabled, and returns its
// status and how long that took.
func (u *user) settled(t *testing.T) (kafka.ConsumerStatus, time.Duration) {
	return u.until(t, "comes to run or is disabled", func(s kafka.ConsumerStatus) bool {
		return s.State == kafka.StateRunning || s.State == kafka.StateDisabled
	})
}

func (u *user) until(t *testing.T, what string, is func(kafka.ConsumerStatus) bool) (kafka.ConsumerStatus, time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		s, err := u.manager.Consumer("job")
		require.NoError(t, err)
		u.s.seen.note(s)
		if is(s) {
			return s, time.Since(began)
		}
		require.LessOrEqual(t, time.Since(began), userPatience, "the consumer never %s; status %+v", what, s)
		time.Sleep(5 * time.Millisecond)
	}
}

func (u *user) send(t *testing.T) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), userPatience)
	defer cancel()
	began := time.Now()
	err := u.producer.Send(ctx, "t", nil, []byte("v"))
	u.s.seen.note(err)
	return time.Since(began), err
}

// wantDisabled waits until the consumer is disabled, and returns how long that
// took and why it is.
func (u *user) wantDisabled(t *testing.T, code string) (string, time.Duration) {
	t.Helper()
	status, took := u.until(t, "is disabled", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateDisabled })
	assert.ErrorContains(t, status.Reason, code)
	return brief(status.Reason), took
}

// wantRunning switches the consumer on, if it is off, and waits until it has the
// partition.
func (u *user) wantRunning(t *testing.T) time.Duration {
	t.Helper()
	u.switchOn(t)
	_, took := u.until(t, "runs", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateRunning && len(s.Partitions) == 1 })
	return took
}

func (u *user) wantSent(t *testing.T) time.Duration {
	t.Helper()
	took, err := u.send(t)
	require.NoError(t, err)
	return took
}

func (u *user) wantRefused(t *testing.T, code string) (string, time.Duration) {
	t.Helper()
	took, err := u.send(t)
	assert.ErrorContains(t, err, code)
	return brief(err), took
}
