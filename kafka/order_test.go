package kafka

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOrderAsText(t *testing.T) {
	for o, name := range map[Order]string{OrderByPartition: "by partition", OrderByKey: "by key", OrderNone: "none"} {
		text, err := json.Marshal(o)
		require.NoError(t, err)
		assert.Equal(t, `"`+name+`"`, string(text))
		var back Order
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, o, back)
	}
	_, err := Order(3).MarshalText()
	assert.ErrorContains(t, err, "Order 3 is none of 0 to 2")
	assert.ErrorContains(t, new(Order).UnmarshalText([]byte("key")), `Order "key" is none of by partition, by key, none`)
	assert.Empty(t, Order(-1).String())
}

func TestOrdersThatAreRefused(t *testing.T) {
	one := NewConsumer
	batch := func(cfg ConsumerConfig, _ func(context.Context, *Message) error) Consumer {
		return &batchConsumer{handlerFunc: handlerFunc{cfg: cfg}}
	}
	for _, tt := range []struct {
		name   string
		of     func(ConsumerConfig, func(context.Context, *Message) error) Consumer
		change func(*ConsumerConfig)
		want   string // "" if it is accepted
	}{
		{"one at once", one, func(c *ConsumerConfig) { c.Order = OrderByKey }, ""},
		{"many", one, func(c *ConsumerConfig) { c.Order, c.Parallelism, c.MaxConcurrency = OrderNone, 10_000, 1 }, ""},
		{"no such order", one, func(c *ConsumerConfig) { c.Order = 7 }, "Order: 7 is none of OrderByPartition, OrderByKey, OrderNone"},
		{"in order", one, func(c *ConsumerConfig) { c.Parallelism = 2 }, "Parallelism: 2 needs Order to be OrderByKey or OrderNone"},
		{"negative", one, func(c *ConsumerConfig) { c.Order, c.Parallelism = OrderByKey, -1 }, "Parallelism: -1 is negative"},
		{"too many", one, func(c *ConsumerConfig) { c.Order, c.Parallelism = OrderByKey, 10_001 }, "Parallelism: 10001 is more than 10000"},
		{"more than wait", one, func(c *ConsumerConfig) { c.Order, c.Parallelism, c.MaxBufferedMessages = OrderByKey, 9, 8 },
			"Parallelism: 9 is more than MaxBufferedMessages (8)"},
		{"bound", one, func(c *ConsumerConfig) { c.Order, c.MaxConcurrency = OrderByKey, -1 }, "MaxConcurrency: -1 is negative"},
		{"bound in order", one, func(c *ConsumerConfig) { c.MaxConcurrency = 5 }, "MaxConcurrency: 5 needs Order to be OrderByKey or OrderNone"},
		{"at most once", one, func(c *ConsumerConfig) { c.Order, c.AutoCommit = OrderNone, true },
			`Order: "none" needs AutoCommit to be false: with it the position moves before the handler runs`},
		{"batches", batch, func(c *ConsumerConfig) { c.Order = OrderNone }, ""},
		{"batches by key", batch, func(c *ConsumerConfig) { c.Order = OrderByKey },
			`Order: "by key" is not for a BatchConsumer: a batch has records of many keys`},
		{"many batches", batch, func(c *ConsumerConfig) { c.Order, c.Parallelism = OrderNone, 2 },
			"Parallelism: 2 is not for a BatchConsumer: its batches are handled one after the other"},
		{"bounded batches", batch, func(c *ConsumerConfig) { c.Order, c.MaxConcurrency = OrderNone, 2 },
			"MaxConcurrency: 2 is not for a BatchConsumer: its batches are handled one after the other"},
		{"batches in order", batch, func(c *ConsumerConfig) { c.Parallelism = 2 },
			"Parallelism: 2 is not for a BatchConsumer: its batches are handled one after the other"},
		{"batches by key, and another problem", batch, func(c *ConsumerConfig) { c.Order, c.SessionTimeout = OrderByKey, -1 },
			`Order: "by key" is not for a BatchConsumer: a batch has records of many keys`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			err := New(&fakeDriver{}, quiet()).RegisterConsumer(t.Context(), tt.of(cfg, func(context.Context, *Message) error { return nil }))
			if tt.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tt.want)
			var f *FieldError
			assert.ErrorAs(t, err, &f)
		})
	}
}
