// Package invoice is a handler as teams write them, with its unit test beside
// it: no broker to install, no Docker, no sleep.
package invoice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/kafka"
)

// An Order is what the topic "orders" holds.
type Order struct {
	ID    int `json:"id"`
	Cents int `json:"cents"`
}

// errNoAmount fails the record, which is retried until the handler accepts it.
var errNoAmount = errors.New("order has no amount")

// A Consumer sends an invoice for each order.
type Consumer struct {
	Producer *kafka.Producer
}

// GetConfig returns the consumer's configuration.
func (c *Consumer) GetConfig() *kafka.ConsumerConfig {
	return &kafka.ConsumerConfig{
		JobName:          "invoices",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "invoices",
		InitialOffset:    kafka.OffsetOldest,
	}
}

// Handle sends the invoice of one order, and returns nil when it is safe.
func (c *Consumer) Handle(ctx context.Context, value []byte) error {
	var o Order
	if err := json.Unmarshal(value, &o); err != nil {
		return fmt.Errorf("decode order: %w", err)
	}
	if o.Cents == 0 {
		return errNoAmount
	}
	key := fmt.Append(nil, o.ID)
	return c.Producer.Send(ctx, "invoices", key, fmt.Appendf(nil, "%d.%02d", o.Cents/100, o.Cents%100))
}
