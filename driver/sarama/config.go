package sarama

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	maxWait        = 250 * time.Millisecond // of a fetch: the lag of a cooperative revocation
	requestTimeout = 10 * time.Second       // the longest wait for an answer that a broker can give at once
	fetchTimeout   = 30 * time.Second
	refreshMinutes = time.Minute // how old metadata may be

	metadataRetries = 10
	metadataBackoff = 250 * time.Millisecond
)

// heartbeatWait bounds the wait for the answer to a heartbeat. When it has passed, an
// interval after the last heartbeat that was answered, enough of the session must be left
// to find the coordinator again, which may take as long, and to try again.
func heartbeatWait(session, interval time.Duration) time.Duration {
	return max((session-interval)/3, time.Second)
}

// commitWait bounds the wait for the answer to a commit. When it has passed, finding the
// coordinator may take as long again, if the broker that is asked is the one that does not
// answer; then enough of the session must be left to commit.
func commitWait(session time.Duration) time.Duration {
	return min(max(session*2/5, time.Second), requestTimeout)
}

// baseConfig builds the part of a configuration that consumers and producers share.
func baseConfig(clientID string, sasl *driver.SASL) (*ibm.Config, error) {
	conf := ibm.NewConfig()
	conf.ClientID = clientID
	// Sarama lowers the version of each request to one that the broker supports.
	conf.Version = ibm.V3_6_0_0
	conf.MetricRegistry = newNoMetrics()
	conf.Net.DialTimeout = dialer.DialTimeout
	conf.Net.ReadTimeout = requestTimeout
	conf.Net.WriteTimeout = requestTimeout
	conf.Metadata.Full = false
	conf.Metadata.AllowAutoTopicCreation = false
	conf.Metadata.RefreshFrequency = refreshMinutes
	conf.Metadata.Retry.Max = metadataRetries
	conf.Metadata.Retry.Backoff = metadataBackoff
	return conf, secure(conf, sasl)
}

// consumerConfig builds and checks the configuration of a consumer's clients.
func (d Driver) consumerConfig(cfg driver.ConsumerConfig) (*ibm.Config, error) {
	if p := cfg.GroupProtocol; p != driver.ClassicProtocol {
		return nil, invalid(fmt.Errorf("GroupProtocol: %v is not supported: Sarama has no other than %v", p, driver.ClassicProtocol))
	}
	conf, securityErr := baseConfig(cfg.ClientID, cfg.SASL)
	errs := []error{securityErr}
	conf.RackID = cfg.RackID
	conf.Net.ReadTimeout = fetchTimeout

	consumer := &conf.Consumer
	consumer.Return.Errors = true
	consumer.MaxWaitTime = maxWait
	consumer.MaxProcessingTime = cfg.MaxProcessingTime
	consumer.Fetch.Default = int32(min(cfg.MaxMessageBytes, math.MaxInt32))
	consumer.Fetch.Max = 0 // a limit would make Sarama skip larger batches
	consumer.Retry.BackoffFunc = fetchBackoff
	consumer.Retry.Max = 30 // half a minute; then the session ends and the group is joined again
	consumer.Offsets.AutoCommit.Enable = false
	consumer.Offsets.Initial = ibm.OffsetOldest // see positions_newest.go
	consumer.IsolationLevel = ibm.ReadUncommitted
	if cfg.IsolationLevel == driver.ReadCommitted {
		consumer.IsolationLevel = ibm.ReadCommitted
	}

	group := &consumer.Group
	group.InstanceId = cfg.InstanceID
	group.ResetInvalidOffsets = false
	group.Session.Timeout = cfg.SessionTimeout
	group.Heartbeat.Interval = cfg.HeartbeatInterval
	group.Rebalance.Timeout = cfg.RebalanceTimeout
	group.Rebalance.Retry.Max = 20
	group.Rebalance.Retry.Backoff = metadataBackoff
	strategies, err := balanceStrategies(cfg.BalanceStrategies)
	group.Rebalance.GroupStrategies = strategies
	errs = append(errs, err)

	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := d.configure(conf, cfg.SASL != nil, consumerSafety); err != nil {
		return nil, err
	}
	return conf, errors.Join(checkRebalance(cfg, conf), checkInflated(cfg))
}

// fetchBackoff is the distance of attempts to find the leader of a partition.
func fetchBackoff(retries int) time.Duration {
	if retries <= 8 {
		return metadataBackoff
	}
	return time.Second
}

// checkRebalance compares the window of a revocation with the time that the group waits
// for it.
func checkRebalance(cfg driver.ConsumerConfig, conf *ibm.Config) error {
	if limit := conf.Consumer.Group.Rebalance.Timeout; cfg.DrainTimeout >= limit {
		return invalid(fmt.Errorf("DrainTimeout: %v is not less than the rebalance timeout of %v", cfg.DrainTimeout, limit))
	}
	return nil
}

// checkInflated compares MaxDecompressedBytes with Sarama's own bound. A batch that Sarama
// rejects fails all partitions of a broker.
func checkInflated(cfg driver.ConsumerConfig) error {
	if most := int(ibm.MaxDecompressedBatchSize); most > 0 && cfg.MaxDecompressedBytes > most {
		return invalid(fmt.Errorf("MaxDecompressedBytes: %d is more than Sarama's MaxDecompressedBatchSize of %d, "+
			"a variable for the whole process: raise that before the first consumer is registered", cfg.MaxDecompressedBytes, most))
	}
	return nil
}

// producerConfig builds and checks the configuration of a producer's client.
func (d Driver) producerConfig(cfg driver.ProducerConfig) (*ibm.Config, error) {
	conf, err := baseConfig(cfg.ClientID, cfg.SASL)
	if err != nil {
		return nil, err
	}
	conf.Metadata.Retry.Max = 0 // see topic.go

	producer := &conf.Producer
	producer.Return.Successes = true
	producer.Return.Errors = true
	producer.MaxMessageBytes = cfg.MaxMessageBytes
	producer.Idempotent = cfg.Idempotent
	producer.Retry.Max = cfg.MaxRetries
	producer.Retry.Backoff = cfg.RetryBackoff
	producer.Timeout = requestTimeout
	conf.Net.ReadTimeout = requestTimeout + 5*time.Second // the broker answers first
	if cfg.Idempotent {
		conf.Net.MaxOpenRequests = 1
	}
	if err := setConstants(conf, cfg); err != nil {
		return nil, err
	}
	producer.Partitioner = newPartitioner
	if err := d.configure(conf, cfg.SASL != nil, producerSafety); err != nil {
		return nil, err
	}
	if !conf.Version.IsAtLeast(ibm.V0_11_0_0) {
		return nil, invalid(fmt.Errorf("sarama.Driver.Configure: Version: %v is below 0.11, which has neither headers nor batches", conf.Version))
	}
	return conf, nil
}

// setConstants puts the acknowledgements and the compression into conf.
func setConstants(conf *ibm.Config, cfg driver.ProducerConfig) error {
	acks, knownAcks := map[driver.RequiredAcks]ibm.RequiredAcks{
		driver.WaitForAll: ibm.WaitForAll, driver.WaitForLocal: ibm.WaitForLocal, driver.NoResponse: ibm.NoResponse,
	}[cfg.RequiredAcks]
	codec, knownCodec := map[driver.Compression]ibm.CompressionCodec{
		driver.CompressionNone: ibm.CompressionNone, driver.CompressionGZIP: ibm.CompressionGZIP,
		driver.CompressionSnappy: ibm.CompressionSnappy, driver.CompressionLZ4: ibm.CompressionLZ4,
		driver.CompressionZSTD: ibm.CompressionZSTD,
	}[cfg.Compression]
	conf.Producer.RequiredAcks, conf.Producer.Compression = acks, codec
	if !knownAcks {
		return invalid(fmt.Errorf("RequiredAcks: %d is none of the constants", cfg.RequiredAcks))
	}
	if !knownCodec {
		return invalid(fmt.Errorf("field Compression: %d is none of the constants", cfg.Compression))
	}
	return nil
}

// configure lets the user change conf, and then rejects a change of a setting on which
// safety rests, and a configuration that Sarama rejects.
func (d Driver) configure(conf *ibm.Config, sasl bool, safety func(*ibm.Config) []setting) error {
	safe := func(conf *ibm.Config) []setting {
		all := append(safety(conf), networkSafety(conf)...)
		if sasl {
			all = append(all, saslSafety(conf)...)
		}
		return all
	}
	if d.Configure != nil {
		before := safe(conf)
		d.Configure(conf)
		if err := unchanged(before, safe(conf)); err != nil {
			return err
		}
	}
	if err := conf.Validate(); err != nil {
		return invalid(err)
	}
	return nil
}

// A setting is one field that Configure may not change. The value of a secret setting is
// never shown.
type setting struct {
	field  string
	value  any
	secret bool
}

// String returns the value; a string is quoted, so that an empty one shows.
func (s setting) String() string {
	if text, ok := s.value.(string); ok {
		return fmt.Sprintf("%q", driver.Printable(text, 0))
	}
	return driver.Printable(fmt.Sprint(s.value), 0)
}

func unchanged(before, after []setting) error {
	var errs []error
	for i, want := range before {
		got := after[i]
		switch {
		case reflect.DeepEqual(want.value, got.value):
		case want.secret:
			errs = append(errs, invalid(fmt.Errorf("sarama.Driver.Configure: %s must not be changed", want.field)))
		default:
			errs = append(errs, invalid(fmt.Errorf("sarama.Driver.Configure: %s: %s must stay %s", want.field, got, want)))
		}
	}
	return errors.Join(errs...)
}

func networkSafety(c *ibm.Config) []setting {
	return []setting{
		{"Net.TLS.Enable", c.Net.TLS.Enable, false},
		{"Net.TLS.Config", c.Net.TLS.Config != nil, false},
		{"Net.Proxy.Enable", c.Net.Proxy.Enable, false},
		{"Net.Proxy.Dialer", c.Net.Proxy.Dialer != nil, false},
	}
}

func saslSafety(c *ibm.Config) []setting {
	return []setting{
		{"Net.SASL.Enable", c.Net.SASL.Enable, false},
		{"Net.SASL.Mechanism", c.Net.SASL.Mechanism, false},
		{"Net.SASL.Handshake", c.Net.SASL.Handshake, false},
		{"Net.SASL.Version", c.Net.SASL.Version, false},
		{"Net.SASL.User", c.Net.SASL.User, false},
		{"Net.SASL.Password", c.Net.SASL.Password, true},
		{"Net.SASL.SCRAMClientGeneratorFunc", reflect.ValueOf(c.Net.SASL.SCRAMClientGeneratorFunc).Pointer(), true},
	}
}

func consumerSafety(c *ibm.Config) []setting {
	return []setting{
		{"Consumer.Return.Errors", c.Consumer.Return.Errors, false},
		{"Consumer.Offsets.AutoCommit.Enable", c.Consumer.Offsets.AutoCommit.Enable, false},
		{"Consumer.Offsets.Initial", c.Consumer.Offsets.Initial, false},
		{"Consumer.Fetch.Max", c.Consumer.Fetch.Max, false},
		{"Consumer.IsolationLevel", c.Consumer.IsolationLevel, false},
		{"Consumer.Group.InstanceId", c.Consumer.Group.InstanceId, false},
		{"Consumer.Group.ResetInvalidOffsets", c.Consumer.Group.ResetInvalidOffsets, false},
		{"Consumer.Group.Rebalance.Strategy", c.Consumer.Group.Rebalance.Strategy != nil, false},
	}
}

func producerSafety(c *ibm.Config) []setting {
	return []setting{
		{"Producer.Return.Successes", c.Producer.Return.Successes, false},
		{"Producer.Return.Errors", c.Producer.Return.Errors, false},
		{"Producer.Idempotent", c.Producer.Idempotent, false},
		{"Producer.RequiredAcks", c.Producer.RequiredAcks, false},
		{"Producer.Transaction.ID", c.Producer.Transaction.ID, false},
		{"Producer.Interceptors", len(c.Producer.Interceptors), false},
	}
}
