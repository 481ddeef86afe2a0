// Package failures shows what can happen to a record whose handler fails: one function
// per row of the table in docs/failures.md, and one test per function.
package failures

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// An Order is what the topic "orders" holds.
type Order struct {
	ID    int `json:"id"`
	Cents int `json:"cents"`
}

// Handle is what the handlers of this package do with an order.
type Handle func(ctx context.Context, m *kafka.Message) error

func config() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          "orders",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "shop",
		InitialOffset:    kafka.OffsetOldest,
	}
}

// KeepTrying is the default.
func KeepTrying(handle Handle) kafka.Consumer {
	return kafka.NewConsumer(config(), handle)
}

// DeadLetters gives a record up after five attempts.
func DeadLetters(handle Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure = kafka.FailurePolicy{
		Then:        kafka.FailureDeadLetter,
		MaxAttempts: 5,
		DeadLetter:  kafka.DeadLetterConfig{Topic: "{topic}.{group}.dlq"},
	}
	return kafka.NewConsumer(cfg, handle)
}

// RetryTopics tries a record again after five seconds and after ten minutes, while all
// others go on.
func RetryTopics(handle Handle) kafka.Consumer {
	cfg := config()
	cfg.Order = kafka.OrderNone
	cfg.Failure = kafka.FailurePolicy{
		MaxAttempts: 2,
		RetryTopics: []kafka.RetryTopic{{Delay: 5 * time.Second}, {Delay: 10 * time.Minute}},
		Then:        kafka.FailureDeadLetter,
		DeadLetter:  kafka.DeadLetterConfig{Topic: "{topic}.{group}.dlq"},
	}
	return kafka.NewConsumer(cfg, handle)
}

// Redrive hands the dead letters to their consumer again, 50 per second, if confirm agrees
// to what a dry run has counted. It begins where the last redrive ended, or with those
// that were written since a time that is not zero.
func Redrive(ctx context.Context, m *kafka.Manager, since time.Time, confirm func(kafka.RedriveReport) bool) (kafka.RedriveReport, error) {
	cfg := kafka.RedriveConfig{JobName: "orders", Since: since, Rate: 50, DryRun: true}
	would, err := m.Redrive(ctx, cfg)
	if err != nil || !confirm(would) {
		return would, err
	}
	cfg.DryRun = false
	return m.Redrive(ctx, cfg)
}

// GoOnWithout forgets a record after three attempts. Hooks and the log have it.
func GoOnWithout(handle Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure = kafka.FailurePolicy{Then: kafka.FailureSkip, MaxAttempts: 3}
	return kafka.NewConsumer(cfg, handle)
}

// StopAndAsk switches the consumer off after three attempts. The record comes first when
// an operator switches it on again.
func StopAndAsk(handle Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure = kafka.FailurePolicy{Then: kafka.FailureStop, MaxAttempts: 3}
	return kafka.NewConsumer(cfg, handle)
}

// What the shop's own code can come to.
var (
	ErrNoSuchCustomer = errors.New("no such customer")
	ErrNotOurs        = errors.New("an order of another shop")
)

// TellApart decides per error, with the marks. What it does not name is tried again.
func TellApart(place Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure.DeadLetter.Topic = "{topic}.{group}.dlq"
	return kafka.NewConsumer(cfg, func(ctx context.Context, m *kafka.Message) error {
		err := place(ctx, m)
		switch {
		case errors.Is(err, ErrNoSuchCustomer): // it will never exist
			return kafka.DeadLetter(err)
		case errors.Is(err, ErrNotOurs): // that is no failure
			return kafka.Skip(err)
		}
		return err
	})
}

// Classified decides in one place for all handlers of a team: what a broker has refused
// permanently when the handler sent it will be refused again.
func Classified(send Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure.DeadLetter.Topic = "{topic}.{group}.dlq"
	cfg.Failure.Classify = func(err error) kafka.Failure {
		if errors.Is(err, kafka.ErrPermanent) {
			return kafka.FailureDeadLetter
		}
		return kafka.FailureKeep
	}
	return kafka.NewConsumer(cfg, send)
}

// An AnswerError is the answer of a payment service.
type AnswerError struct {
	Status     int
	RetryAfter time.Duration
}

func (e *AnswerError) Error() string { return fmt.Sprintf("payment service: %d", e.Status) }

// HoldWhileAway distinguishes an outage from a bad order. While the service is away nothing is
// handed out but one order now and then, as a probe, and no attempt is counted.
func HoldWhileAway(pay Handle) kafka.Consumer {
	cfg := config()
	cfg.Failure = kafka.FailurePolicy{
		Then:        kafka.FailureDeadLetter,
		MaxAttempts: 5,
		DeadLetter:  kafka.DeadLetterConfig{Topic: "{topic}.{group}.dlq"},
	}
	return kafka.NewConsumer(cfg, func(ctx context.Context, m *kafka.Message) error {
		var answer *AnswerError
		err := pay(ctx, m)
		if errors.As(err, &answer) {
			switch answer.Status {
			case http.StatusServiceUnavailable:
				return kafka.Hold(err, 0)
			case http.StatusTooManyRequests:
				return kafka.Retry(err, answer.RetryAfter)
			}
		}
		return err
	})
}

// Typed hands out decoded orders. What is no order goes to the dead letters at once, as
// it is.
func Typed(handle func(context.Context, Order, *kafka.Message) error) kafka.Consumer {
	cfg := config()
	cfg.Failure.DeadLetter.Topic = "{topic}.{group}.dlq"
	return kafka.Handle(cfg, kafka.JSON[Order], handle)
}

// Batch inserts many orders in one call. The orders that it names as failed come again,
// without the others, and go their own way after five attempts.
func Batch(insert func(context.Context, []kafka.Decoded[Order]) (rejected map[int]error)) kafka.Consumer {
	cfg := config()
	cfg.Failure = kafka.FailurePolicy{
		Then:        kafka.FailureDeadLetter,
		MaxAttempts: 5,
		DeadLetter:  kafka.DeadLetterConfig{Topic: "{topic}.{group}.dlq"},
	}
	return kafka.HandleBatches(cfg, kafka.JSON[Order], func(ctx context.Context, orders []kafka.Decoded[Order]) error {
		var failed kafka.BatchError
		rejected := insert(ctx, orders)
		for _, o := range orders {
			if err := rejected[o.Value.ID]; err != nil {
				failed.Add(o.Message, err)
			}
		}
		return failed.Err()
	})
}
