// Package franz is the fast driver: it runs package kafka over github.com/twmb/franz-go.
//
//	manager := kafka.New(franz.Driver{})
//
// # Overview
//
// Package kgo of franz-go speaks the wire protocol, keeps the group membership, fetches and
// builds batches. The driver adds:
//
//   - Every connection goes through a dialer that can cut it, bounds what a peer can make the
//     process allocate, and makes the TLS handshake.
//   - Produce requests and their answers are followed on the wire. A broker's verdict on a
//     batch becomes the verdict on a message only if the message is alone in the batch, and
//     an outcome counts as known only if every attempt was answered.
//   - A batch that a broker refuses is split and sent again, in order, before anything that
//     was accepted later for its partition.
//   - A consumer assigns and delivers by turns, so that what was fetched under one assignment
//     is never delivered under another. Its positions are committed by requests of its own,
//     with an answer per mark and with leader epochs (KIP-320).
//   - Fetches are examined on the wire before kgo decodes them, so that a damaged or too large
//     batch stops only its partition.
//
// # Tuning
//
// [Driver.Options] changes settings of kgo for which the driver's configuration has no field.
// It must not change a setting on which safety rests: the driver rejects that.
//
// A batch whose messages have ended is left out of a request that kgo has built already. A
// logger of kgo then logs that the broker did not reply to all partitions, and a
// HookProduceBatchWritten counts a batch that was not written. Neither is a fault of the broker.
package franz

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// Driver opens consumers and producers over franz-go. The zero value is ready to use. It
// holds no connection and no state.
type Driver struct {
	// Options come after the options that the driver has built, for each consumer, each
	// producer and each validation. kgo's own ValidateOpts checks the result. An option
	// for producers has no effect on a consumer, and the other way round.
	//
	// The driver rejects a change of these options, on which safety rests, with an error
	// that names the option. Always: SeedBrokers, Dialer, DialTLSConfig, DialTLS, SASL,
	// WithContext, MaxVersions, BrokerMaxReadBytes, AlwaysRetryEOF, DisableClientMetrics
	// and OnRebootstrapRequired. For a producer: RequiredAcks, DisableIdempotentWrite,
	// AllowIdempotentProduceCancellation, MaxProduceRequestsInflightPerBroker,
	// TransactionalID, MaxBufferedRecords, MaxBufferedBytes, ManualFlushing,
	// ProducerBatchMaxBytes, ProducerBatchMaxBytesFn, ProducerBatchCompression,
	// RecordRetries, UnknownTopicRetries, RecordDeliveryTimeout, DefaultProduceTopic,
	// DefaultProduceTopicAlways, StopProducerOnDataLossDetected, RetryBackoffFn, and every
	// option that makes a client consume. For a consumer: every option of groups and of
	// starting positions, ConsumeExcludeTopics, Rack, FetchMaxPartitionBytes,
	// FetchIsolationLevel, KeepControlRecords, KeepRetryableFetchErrors,
	// DisableFetchCRCValidation, MaxDecompressBatchBytes, WithDecompressor, WithPools and
	// TransactionalID.
	//
	// RecordPartitioner decides only for messages that ask for no partition. With
	// ProducerLinger, Flush and Close send lingering messages at once. WithCompressor
	// decides in place of the field Compression, for instance about the level.
	Options []kgo.Opt
}

// open makes the client of opts, whose connections are those of line, and reaches the cluster.
// It returns by the end of ctx: with ctx's error, and with the reason why the cluster had not
// been reached by then, if it is known.
func open(ctx context.Context, c cluster, line *dialer.Dialer, opts []kgo.Opt) (*kgo.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, invalid(err)
	}
	stop := context.AfterFunc(ctx, line.Sever)
	err = reach(ctx, c, cl)
	if stop() && err == nil {
		return cl, nil
	}
	line.Sever()
	cl.Close()
	reason := credentials.Soften(wrap(err), c.sasl)
	switch {
	case ctx.Err() == nil:
		return nil, reason
	case err == nil, errors.Is(err, dialer.ErrSevered), errors.Is(err, kgo.ErrClientClosed), errors.Is(err, ctx.Err()):
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", ctx.Err(), reason)
}
