package franz

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	maxMessageBytes = 100 << 20 // of one message; no larger request is what a broker accepts by default
	batchBytes      = 128       // the most that a batch takes beside its messages
	minBatchBytes   = 512       // kgo allows no less
	requestBytes    = 64 << 10  // the most that a request takes beside a batch
)

// maxBatch is the most that a batch of kgo's can take, which has room for the largest message.
func maxBatch(cfg driver.ProducerConfig) int {
	return max(cfg.MaxMessageBytes+batchBytes, minBatchBytes)
}

// together is how many bytes of several messages may go to kgo at a time, for one partition. It is
// 0 if kgo's own limit does.
func together(cfg driver.ProducerConfig) int {
	if cfg.MaxBatchBytes == 0 || cfg.MaxBatchBytes >= cfg.MaxMessageBytes {
		return 0
	}
	return max(cfg.MaxBatchBytes-batchBytes, 1)
}

// producerSafety lists the options that no user of a producer may change.
var producerSafety = append(networkSafety[:len(networkSafety):len(networkSafety)],
	kgo.RequiredAcks, kgo.DisableIdempotentWrite, kgo.AllowIdempotentProduceCancellation,
	kgo.MaxProduceRequestsInflightPerBroker, kgo.TransactionalID, kgo.MaxBufferedRecords, kgo.MaxBufferedBytes,
	kgo.ManualFlushing, kgo.ProducerBatchMaxBytes, kgo.ProducerBatchMaxBytesFn, kgo.ProducerBatchCompression, kgo.RecordRetries, kgo.UnknownTopicRetries,
	kgo.RecordDeliveryTimeout, kgo.DefaultProduceTopic, kgo.DefaultProduceTopicAlways,
	kgo.StopProducerOnDataLossDetected, kgo.RetryBackoffFn,
	// What makes a client consume:
	kgo.ConsumeTopics, kgo.ConsumePartitions, kgo.ConsumeRegex, kgo.ConsumerGroup, kgo.ShareGroup,
)

func producerCluster(cfg driver.ProducerConfig) cluster {
	return cluster{cfg.Brokers, cfg.ClientID, cfg.TLS, cfg.SASL}
}

// producerOptions builds and checks the options of a producer's client, whose connections are
// those of line.
func (d Driver) producerOptions(cfg driver.ProducerConfig, line *dialer.Dialer) ([]kgo.Opt, error) {
	opts, err := producerCluster(cfg).options(line)
	acks, acksErr := requiredAcks(cfg.RequiredAcks)
	codec, codecErr := compression(cfg.Compression)
	if err := errors.Join(err, acksErr, codecErr, checkProducer(cfg)); err != nil {
		return nil, err
	}
	opts = append(opts,
		kgo.MaxVersions(namesOnly()),
		kgo.RequiredAcks(acks),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(maxBatch(cfg))),
		kgo.BrokerMaxWriteBytes(int32(max(maxMessageBytes, maxBatch(cfg)+requestBytes))),
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(java{}),
		kgo.ProduceRequestTimeout(requestTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return cfg.RetryBackoff }),
		kgo.MaxBufferedRecords(2*maxMessages), // the driver's own buffer is the limit
	)
	if cfg.DeliveryTimeout == 0 {
		opts = append(opts, kgo.RecordRetries(cfg.MaxRetries), kgo.UnknownTopicRetries(cfg.MaxRetries))
	} else {
		opts = append(opts, kgo.UnknownTopicRetries(-1)) // the driver ends a message when its time is up
	}
	if cfg.Idempotent {
		// Without it kgo never gives up what it has sent without an answer.
		opts = append(opts, kgo.AllowIdempotentProduceCancellation())
	} else {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return d.extend(opts, producerSafety)
}

// namesOnly returns the versions of requests by which kgo's producer learns no topic's ID. Once it
// knows one, it fails each message to a topic that was deleted and created again, for as long as the
// client lives. A producer means the topic's name.
func namesOnly() *kversion.Versions {
	v := versions()
	v.SetMaxKeyVersion(int16(kmsg.Metadata), 9)
	return v
}

// checkProducer rejects fields that contradict each other or that kgo cannot honour.
func checkProducer(cfg driver.ProducerConfig) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, invalid(fmt.Errorf(format, args...))) }
	if cfg.Idempotent && cfg.MaxRetries == 0 {
		refuse("MaxRetries: 0, and an idempotent producer needs to retry")
	}
	if cfg.Idempotent && cfg.RequiredAcks != driver.WaitForAll {
		refuse("RequiredAcks: %v, and an idempotent producer needs all", cfg.RequiredAcks)
	}
	if cfg.MaxMessageBytes < 1 || cfg.MaxMessageBytes > maxMessageBytes {
		refuse("MaxMessageBytes: %d is not between 1 and %d", cfg.MaxMessageBytes, maxMessageBytes)
	}
	if cfg.MaxBatchBytes < 0 {
		refuse("MaxBatchBytes: %d is negative", cfg.MaxBatchBytes)
	}
	return errors.Join(errs...)
}

func requiredAcks(acks driver.RequiredAcks) (kgo.Acks, error) {
	switch acks {
	case driver.WaitForAll:
		return kgo.AllISRAcks(), nil
	case driver.WaitForLocal:
		return kgo.LeaderAck(), nil
	case driver.NoResponse:
		return kgo.NoAck(), nil
	}
	return kgo.Acks{}, invalid(fmt.Errorf("RequiredAcks: %d is none of the constants", acks))
}

func compression(c driver.Compression) (kgo.CompressionCodec, error) {
	switch c {
	case driver.CompressionNone:
		return kgo.NoCompression(), nil
	case driver.CompressionGZIP:
		return kgo.GzipCompression(), nil
	case driver.CompressionSnappy:
		return kgo.SnappyCompression(), nil
	case driver.CompressionLZ4:
		return kgo.Lz4Compression(), nil
	case driver.CompressionZSTD:
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, invalid(fmt.Errorf("field Compression: %d is none of the constants", c))
}

// ValidateProducer implements [driver.ProducerValidator].
func (d Driver) ValidateProducer(cfg driver.ProducerConfig) error {
	_, err := d.producerOptions(cfg, newLine(cfg.TLS, 0))
	return err
}
