package sarama

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
)

// refusals lists SASL settings that consumers and producers reject.
var refusals = []struct {
	name string
	sasl driver.SASL
	want string
}{
	{"no mechanism", driver.SASL{User: "u", Password: "p"}, "SASL.Mechanism"},
	{"unknown mechanism", driver.SASL{Mechanism: "SCRAM", User: "u", Password: "p"}, "SASL.Mechanism"},
	{"mechanism in lower case", driver.SASL{Mechanism: "plain", User: "u", Password: "p"}, "SASL.Mechanism"},
	{"empty user", driver.SASL{Mechanism: driver.SASLPlain, Password: "p"}, "SASL.User"},
	{"empty password", driver.SASL{Mechanism: driver.SASLPlain, User: "u"}, "SASL.Password"},
	{"NUL in a password for PLAIN", driver.SASL{Mechanism: driver.SASLPlain, User: "u", Password: "a\x00b"}, "NUL"},
	{"SCRAM, empty user", driver.SASL{Mechanism: driver.SASLScramSHA256, Password: "p"}, "SASL.User"},
	{"SCRAM, empty password", driver.SASL{Mechanism: driver.SASLScramSHA512, User: "u"}, "SASL.Password"},
	{"SCRAM, password beyond ASCII", driver.SASL{Mechanism: driver.SASLScramSHA512, User: "u", Password: "pä"}, "SASL.Password"},
	{"SCRAM, password with a line feed", driver.SASL{Mechanism: driver.SASLScramSHA512, User: "u", Password: "p\n"}, "SASL.Password"},
	{"SCRAM, user beyond ASCII", driver.SASL{Mechanism: driver.SASLScramSHA512, User: "ü", Password: "p"}, "SASL.User"},
	{"OAUTHBEARER without source", driver.SASL{Mechanism: driver.SASLOAuthBearer}, "SASL.TokenSource"},
}

// wantInvalid checks that err is permanent, names field and not the secret.
func wantInvalid(t *testing.T, err error, field, secret string) {
	t.Helper()
	require.Error(t, err)
	wantError(t, err, "INVALID_CONFIG", true)
	assert.ErrorContains(t, err, field)
	if secret != "" {
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), secret)
	}
}

// listen counts connections to an address that must not be dialed.
func listen(t *testing.T) (addr string, dialed func() bool) {
	t.Helper()
	g := wiretest.NewGate()
	addr = wiretest.Proxy(t, g, "127.0.0.1:1")
	return addr, func() bool {
		_, ever := g.Count()
		return ever > 0
	}
}

func TestRefusedBeforeAnySocket(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			addr, dialed := listen(t)
			consumer, producer := consumerConfig([]string{addr}), producerConfig([]string{addr})
			consumer.SASL, producer.SASL = &r.sasl, &r.sasl
			secret := ""
			if len(r.sasl.Password) > 1 {
				secret = string(r.sasl.Password)
			}
			wantInvalid(t, Driver{}.ValidateConsumer(consumer), r.want, secret)
			wantInvalid(t, Driver{}.ValidateProducer(producer), r.want, secret)
			_, err := Driver{}.OpenConsumer(t.Context(), consumer)
			wantInvalid(t, err, r.want, secret)
			_, err = Driver{}.OpenProducer(t.Context(), producer)
			wantInvalid(t, err, r.want, secret)
			assert.False(t, dialed(), "a connection was made")
		})
	}
}

func TestConsumerFieldsRefused(t *testing.T) {
	cases := []struct {
		name  string
		alter func(*driver.ConsumerConfig)
		want  string
	}{
		{"heartbeat above session", func(c *driver.ConsumerConfig) { c.HeartbeatInterval = c.SessionTimeout }, "Heartbeat.Interval"},
		{"no strategy", func(c *driver.ConsumerConfig) { c.BalanceStrategies = nil }, "GroupStrategies"},
		{"unknown strategy", func(c *driver.ConsumerConfig) { c.BalanceStrategies = []driver.BalanceStrategy{9} }, "BalanceStrategies[0]"},
		{"protocol that Sarama lacks", func(c *driver.ConsumerConfig) {
			c.GroupProtocol, c.BalanceStrategies, c.HeartbeatInterval = driver.ConsumerProtocol, nil, 0
		}, "GroupProtocol: consumer is not supported"},
		{"drain above rebalance", func(c *driver.ConsumerConfig) { c.DrainTimeout = c.RebalanceTimeout }, "DrainTimeout"},
		{"bad instance id", func(c *driver.ConsumerConfig) { c.InstanceID = "a b" }, "instance id"},
		{"no fetch size", func(c *driver.ConsumerConfig) { c.MaxMessageBytes = 0 }, "Fetch.Default"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := consumerConfig([]string{"127.0.0.1:1"})
			c.alter(&cfg)
			wantInvalid(t, Driver{}.ValidateConsumer(cfg), c.want, "")
		})
	}
}

func TestProducerFieldsRefused(t *testing.T) {
	cases := []struct {
		name  string
		alter func(*driver.ProducerConfig)
		want  string
	}{
		{"idempotent without retries", func(c *driver.ProducerConfig) { c.MaxRetries = 0 }, "Retry.Max"},
		{"idempotent without all acks", func(c *driver.ProducerConfig) { c.RequiredAcks = driver.WaitForLocal }, "RequiredAcks"},
		{"unknown acks", func(c *driver.ProducerConfig) { c.RequiredAcks = 9 }, "RequiredAcks"},
		{"unknown compression", func(c *driver.ProducerConfig) { c.Compression = 9 }, "Compression"},
		{"no message size", func(c *driver.ProducerConfig) { c.MaxMessageBytes = 0 }, "MaxMessageBytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := producerConfig([]string{"127.0.0.1:1"})
			c.alter(&cfg)
			wantInvalid(t, Driver{}.ValidateProducer(cfg), c.want, "")
		})
	}
}

func TestEverySettingIsHonoured(t *testing.T) {
	for _, s := range []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky, driver.CooperativeSticky} {
		cfg := consumerConfig([]string{"127.0.0.1:1"})
		cfg.BalanceStrategies = []driver.BalanceStrategy{s}
		cfg.IsolationLevel = driver.ReadUncommitted
		cfg.RackID, cfg.InstanceID = "r", "i"
		conf, err := Driver{}.consumerConfig(cfg)
		require.NoError(t, err)
		assert.Equal(t, s.String(), conf.Consumer.Group.Rebalance.GroupStrategies[0].Name())
		assert.Equal(t, ibm.ReadUncommitted, conf.Consumer.IsolationLevel)
		assert.Equal(t, "r", conf.RackID)
		assert.Equal(t, "i", conf.Consumer.Group.InstanceId)
		assert.Equal(t, cfg.MaxProcessingTime, conf.Consumer.MaxProcessingTime)
		assert.EqualValues(t, cfg.MaxMessageBytes, conf.Consumer.Fetch.Default)
	}
	for _, acks := range []driver.RequiredAcks{driver.WaitForAll, driver.WaitForLocal, driver.NoResponse} {
		for _, codec := range []driver.Compression{driver.CompressionNone, driver.CompressionGZIP, driver.CompressionSnappy, driver.CompressionLZ4, driver.CompressionZSTD} {
			cfg := producerConfig([]string{"127.0.0.1:1"})
			cfg.Idempotent, cfg.RequiredAcks, cfg.Compression, cfg.MaxRetries = false, acks, codec, 0
			conf, err := Driver{}.producerConfig(cfg)
			require.NoError(t, err)
			assert.Equal(t, map[driver.Compression]ibm.CompressionCodec{
				driver.CompressionNone: ibm.CompressionNone, driver.CompressionGZIP: ibm.CompressionGZIP,
				driver.CompressionSnappy: ibm.CompressionSnappy, driver.CompressionLZ4: ibm.CompressionLZ4,
				driver.CompressionZSTD: ibm.CompressionZSTD,
			}[codec], conf.Producer.Compression, "compression %v", codec)
			assert.Zero(t, conf.Producer.Retry.Max)
			want := map[driver.RequiredAcks]ibm.RequiredAcks{
				driver.WaitForAll: ibm.WaitForAll, driver.WaitForLocal: ibm.WaitForLocal, driver.NoResponse: ibm.NoResponse,
			}[acks]
			assert.Equal(t, want, conf.Producer.RequiredAcks, "acks %v", acks)
		}
	}
}

func TestConfigureMayNotUndoSafety(t *testing.T) {
	sasl := &driver.SASL{Mechanism: driver.SASLPlain, User: "u", Password: "hunter2"}
	cases := []struct {
		field     string
		configure func(*ibm.Config)
	}{
		{"Net.TLS.Enable", func(c *ibm.Config) { c.Net.TLS.Enable = true }},
		{"Net.TLS.Config", func(c *ibm.Config) { c.Net.TLS.Config = &tls.Config{} }},
		{"Net.Proxy.Enable", func(c *ibm.Config) { c.Net.Proxy.Enable = true }},
		{"Net.Proxy.Dialer", func(c *ibm.Config) { c.Net.Proxy.Dialer = newLine(nil, 0) }},
		{"Net.SASL.Enable", func(c *ibm.Config) { c.Net.SASL.Enable = false }},
		{"Net.SASL.Mechanism", func(c *ibm.Config) { c.Net.SASL.Mechanism = ibm.SASLTypeSCRAMSHA256 }},
		{"Net.SASL.Password", func(c *ibm.Config) { c.Net.SASL.Password = "other" }},
		{"Consumer.Return.Errors", func(c *ibm.Config) { c.Consumer.Return.Errors = false }},
		{"Consumer.Offsets.AutoCommit.Enable", func(c *ibm.Config) { c.Consumer.Offsets.AutoCommit.Enable = true }},
		{"Consumer.Offsets.Initial", func(c *ibm.Config) { c.Consumer.Offsets.Initial = ibm.OffsetNewest }},
		{"Consumer.Fetch.Max", func(c *ibm.Config) { c.Consumer.Fetch.Max = 1 }},
		{"Consumer.Group.ResetInvalidOffsets", func(c *ibm.Config) { c.Consumer.Group.ResetInvalidOffsets = true }},
		{"Consumer.Group.Rebalance.Strategy", func(c *ibm.Config) { c.Consumer.Group.Rebalance.Strategy = ibm.NewBalanceStrategyRange() }},
		{"Producer.Return.Successes", func(c *ibm.Config) { c.Producer.Return.Successes = false }},
		{"Producer.Return.Errors", func(c *ibm.Config) { c.Producer.Return.Errors = false }},
		{"Producer.Idempotent", func(c *ibm.Config) { c.Producer.Idempotent = false }},
		{"Producer.RequiredAcks", func(c *ibm.Config) { c.Producer.RequiredAcks = ibm.NoResponse }},
		{"Producer.Transaction.ID", func(c *ibm.Config) { c.Producer.Transaction.ID = "t" }},
	}
	for _, c := range cases {
		t.Run(c.field, func(t *testing.T) {
			d := Driver{Configure: c.configure}
			consumer, producer := consumerConfig([]string{"127.0.0.1:1"}), producerConfig([]string{"127.0.0.1:1"})
			consumer.SASL, producer.SASL = sasl, sasl
			if !strings.HasPrefix(c.field, "Producer.") {
				wantInvalid(t, d.ValidateConsumer(consumer), c.field, "hunter2")
			}
			if !strings.HasPrefix(c.field, "Consumer.") {
				wantInvalid(t, d.ValidateProducer(producer), c.field, "hunter2")
			}
		})
	}
}

func TestConfigureIsLastAndChecked(t *testing.T) {
	d := Driver{Configure: func(c *ibm.Config) {
		assert.Equal(t, "test", c.ClientID, "Configure was called before the driver had set its fields")
		assert.False(t, c.Metadata.Full, "Configure was called before the driver had set its fields")
		c.Version = ibm.V2_8_0_0
	}}
	conf, err := d.consumerConfig(consumerConfig([]string{"127.0.0.1:1"}))
	require.NoError(t, err)
	assert.Equal(t, ibm.V2_8_0_0, conf.Version)
	d.Configure = func(c *ibm.Config) { c.Consumer.MaxWaitTime = 0 }
	wantInvalid(t, d.ValidateConsumer(consumerConfig([]string{"127.0.0.1:1"})), "MaxWaitTime", "")
}

func TestErrorsAreClassified(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	cases := []struct {
		err       error
		code      string
		permanent bool
	}{
		{ibm.ErrTopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED", true},
		{&ibm.ConsumerError{Err: ibm.ErrOffsetOutOfRange}, "OFFSET_OUT_OF_RANGE", true},
		{ibm.ErrNotLeaderForPartition, "NOT_LEADER_OR_FOLLOWER", false},
		{ibm.Wrap(ibm.ErrSASLAuthenticationFailed, errors.New("no")), "SASL_AUTHENTICATION_FAILED", true},
		{ibm.Wrap(ibm.ErrOutOfBrokers, refused, ibm.ErrSASLAuthenticationFailed), "SASL_AUTHENTICATION_FAILED", true},
		{ibm.Wrap(ibm.ErrOutOfBrokers, refused), "CONNECTION_FAILED", false},
		{ibm.ConfigurationError("x"), "INVALID_CONFIG", true},
		{&dialer.HandshakeError{Err: &tls.CertificateVerificationError{Err: errors.New("x")}}, "TLS_HANDSHAKE_FAILED", true},
		{&dialer.HandshakeError{Err: context.DeadlineExceeded}, "TLS_HANDSHAKE_FAILED", false},
		{fmt.Errorf("%w: slow", credentials.ErrToken), "TOKEN_UNAVAILABLE", false},
		{fmt.Errorf("%w: busy", credentials.ErrSCRAMServer), "SASL_AUTHENTICATION_FAILED", false},
		{ibm.KError(9999), "ERROR_9999", false},
	}
	for _, c := range cases {
		want := &driver.Error{Code: c.code, Err: c.err}
		if c.permanent {
			want.Kind = driver.ErrPermanent
		}
		assert.Equal(t, want, wrap(c.err))
	}
	for _, sentinel := range []error{nil, context.Canceled, driver.ErrClosed, driver.ErrClaimEnded} {
		assert.True(t, wrap(sentinel) == sentinel, "wrap(%v) = %v", sentinel, wrap(sentinel))
	}
}

func TestPauseBetweenSessions(t *testing.T) {
	var p pace
	failure := errors.New("x")
	for i, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		assert.Equal(t, want*time.Millisecond, p.next(failure, 0), "pause after failure %d", i+1)
	}
	assert.Zero(t, p.next(nil, time.Minute), "pause after a long session")
	for i := range freeSessions {
		assert.Zero(t, p.next(nil, 0), "pause after short session %d", i+1)
	}
	assert.NotZero(t, p.next(nil, 0), "sessions that end at once follow each other without a pause")
}

// TestFault_H1_BoundAboveSaramasIsRefused: Sarama would refuse batches that the bound allows.
func TestFault_H1_BoundAboveSaramasIsRefused(t *testing.T) {
	cfg := consumerConfig([]string{"127.0.0.1:9"})
	cfg.MaxDecompressedBytes = saramaBound
	assert.NoError(t, Driver{}.ValidateConsumer(cfg), "Sarama's own bound")
	cfg.MaxDecompressedBytes++
	err := Driver{}.ValidateConsumer(cfg)
	assert.ErrorIs(t, err, driver.ErrPermanent)
	assert.ErrorContains(t, err, "MaxDecompressedBatchSize of 67108864")
}
