// Package sarama is a driver for production: it runs package kafka over
// github.com/IBM/sarama.
//
//	manager := kafka.New(sarama.Driver{})
//
// # Overview
//
// Sarama speaks the wire protocol, keeps the group membership and fetches. The driver adds:
//
//   - Commits are requests of the driver, on a connection of their own. Each has an answer
//     per partition, and waits neither for a fetch nor for a join.
//   - The group coordinator has a connection of its own, so heartbeats and joins do not
//     share the lock of a connection on which a fetch waits.
//   - Every connection goes through a dialer that can cut it. So Close ends a pending join,
//     and a producer whose broker is dead.
//   - Each answer to a fetch is examined before Sarama decodes it, so a damaged or oversized
//     batch stops its own partition and no other.
//   - OffsetNewest is looked up and committed before the group is first joined, so a crash
//     before the first commit loses nothing.
//   - The driver collects, numbers, retries and splits messages, over Sarama's connections.
//     A broker's verdict on a batch becomes the verdict on a message only if the message is
//     alone in the batch and the verdict proves that nothing was appended.
//
// # Tuning
//
// [Driver.Configure] changes settings of Sarama's configuration for which the driver's
// configuration has no field. It must not change a setting on which safety rests: the driver
// rejects that.
package sarama

import (
	"context"
	"errors"
	"fmt"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// Driver opens consumers and producers over Sarama. The zero value is ready to
// use. It holds no connection and no state.
type Driver struct {
	// Configure, if not nil, is called with the configuration that the driver has built,
	// once per consumer and producer and once per validation, possibly by several
	// goroutines at once. Sarama's own Validate checks the result.
	//
	// The driver rejects a change of these fields, on which safety rests, with an error
	// that names the field: Net.TLS and Net.Proxy always; Net.SASL if the driver's
	// configuration has SASL; for a consumer Consumer.Return.Errors,
	// Consumer.Offsets.AutoCommit.Enable, Consumer.Offsets.Initial,
	// Consumer.Fetch.Max, Consumer.IsolationLevel, Consumer.Group.InstanceId,
	// Consumer.Group.ResetInvalidOffsets and Consumer.Group.Rebalance.Strategy;
	// for a producer Producer.Return, Producer.Idempotent,
	// Producer.RequiredAcks, Producer.Transaction.ID and Producer.Interceptors.
	//
	// Producer.Flush is per partition: a batch is sent when Frequency has passed
	// since its first message, or when Messages or Bytes have gathered, and holds at
	// most MaxMessages. Flush, Close and a full buffer send lingering messages at
	// once. Producer.Partitioner decides only for messages that ask for no partition.
	// A producer needs a Version of 0.11 or later.
	//
	// These have no effect: the BackoffFuncs of Metadata and Producer, ChannelBufferSize
	// and Producer.Retry's MaxBufferLength and MaxBufferBytes for a producer, and
	// Net.ReadTimeout of the connection to the coordinator, which must outlast a
	// rebalance.
	Configure func(*ibm.Config)
}

var (
	_ driver.Driver            = Driver{}
	_ driver.ConsumerValidator = Driver{}
	_ driver.ProducerValidator = Driver{}
)

// ValidateConsumer implements [driver.ConsumerValidator].
func (d Driver) ValidateConsumer(cfg driver.ConsumerConfig) error {
	_, err := d.consumerConfig(cfg)
	return err
}

// ValidateProducer implements [driver.ProducerValidator].
func (d Driver) ValidateProducer(cfg driver.ProducerConfig) error {
	_, err := d.producerConfig(cfg)
	return err
}

// OpenConsumer implements [driver.Driver].
func (d Driver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	conf, err := d.consumerConfig(cfg)
	if err != nil {
		return nil, err
	}
	c := newConsumer(cfg, conf)
	if err := open(ctx, c, c.open, c.sever); err != nil {
		return nil, fmt.Errorf("sarama: open consumer: %w", err)
	}
	return c, nil
}

// OpenProducer implements [driver.Driver].
func (d Driver) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	conf, err := d.producerConfig(cfg)
	if err != nil {
		return nil, err
	}
	p := newProducer(cfg, conf)
	if err := open(ctx, p, p.open, p.line.Sever); err != nil {
		return nil, fmt.Errorf("sarama: open producer: %w", soften(err, cfg.SASL))
	}
	return p, nil
}

// open runs dial, which only sever can cancel, and returns by the end of ctx: with ctx's
// error, and with the reason why dial had not succeeded by then, if it is known.
func open(ctx context.Context, opened closer, dial func() error, sever func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, sever)
	err := dial()
	if stop() {
		if err != nil {
			sever()
		}
		return err
	}
	if err == nil { // severed when it was just ready
		opened.Close(ctx)
	}
	if err != nil && !errors.Is(err, dialer.ErrSevered) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return ctx.Err()
}

type closer interface{ Close(context.Context) error }
