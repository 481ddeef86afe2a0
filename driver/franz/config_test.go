package franz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

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

func TestProducerRefusedBeforeAnySocket(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			addr, dialed := listen(t)
			producer := producerConfig([]string{addr})
			producer.SASL = &r.sasl
			secret := ""
			if len(r.sasl.Password) > 1 {
				secret = string(r.sasl.Password)
			}
			wantInvalid(t, Driver{}.ValidateProducer(producer), r.want, secret)
			assert.False(t, dialed(), "a connection was made")
		})
	}
}

func TestProducerFieldsRefused(t *testing.T) {
	cases := []struct {
		name  string
		alter func(*driver.ProducerConfig)
		want  string
	}{
		{"idempotent without retries", func(c *driver.ProducerConfig) { c.MaxRetries = 0 }, "MaxRetries"},
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

// TestLargestMessageOfTheCore: the core allows 100 MiB, and its producer of dead letters asks for
// that by default.
func TestLargestMessageOfTheCore(t *testing.T) {
	cfg := producerConfig([]string{"127.0.0.1:1"})
	cfg.MaxMessageBytes = 100 << 20
	assert.NoError(t, Driver{}.ValidateProducer(cfg))
	cfg.MaxMessageBytes++
	wantInvalid(t, Driver{}.ValidateProducer(cfg), "MaxMessageBytes", "")
}

func TestEverySettingOfAProducerIsHonoured(t *testing.T) {
	for acks, want := range map[driver.RequiredAcks]kgo.Acks{
		driver.WaitForAll: kgo.AllISRAcks(), driver.WaitForLocal: kgo.LeaderAck(), driver.NoResponse: kgo.NoAck(),
	} {
		for codec, wantCodec := range map[driver.Compression]kgo.CompressionCodec{
			driver.CompressionNone: kgo.NoCompression(), driver.CompressionGZIP: kgo.GzipCompression(), driver.CompressionSnappy: kgo.SnappyCompression(),
			driver.CompressionLZ4: kgo.Lz4Compression(), driver.CompressionZSTD: kgo.ZstdCompression(),
		} {
			cfg := producerConfig([]string{"127.0.0.1:1"})
			cfg.Idempotent, cfg.RequiredAcks, cfg.Compression, cfg.MaxRetries = false, acks, codec, 0
			opts, err := Driver{}.producerOptions(cfg, newLine(nil, 0))
			require.NoError(t, err)
			got, err := values(opts, []any{kgo.RequiredAcks, kgo.ProducerBatchCompression, kgo.DisableIdempotentWrite, kgo.ClientID})
			require.NoError(t, err)
			assert.Equal(t, [][]any{{want}, {[]kgo.CompressionCodec{wantCodec}}, {true}, {"test", true}}, got)
		}
	}
}

func TestOptionsMayNotUndoSafety(t *testing.T) {
	sasl := &driver.SASL{Mechanism: driver.SASLPlain, User: "u", Password: "hunter2"}
	for _, c := range []struct {
		name   string
		option kgo.Opt
	}{
		{"SeedBrokers", kgo.SeedBrokers("127.0.0.1:2")},
		{"Dialer", kgo.Dialer(new(net.Dialer).DialContext)},
		{"SASL", kgo.SASL(plain.Auth{User: "u", Pass: "other"}.AsMechanism())},
		{"WithContext", kgo.WithContext(context.WithValue(context.Background(), new(int), 1))},
		{"BrokerMaxReadBytes", kgo.BrokerMaxReadBytes(1 << 29)},
		{"RequiredAcks", kgo.RequiredAcks(kgo.LeaderAck())},
		{"DisableIdempotentWrite", kgo.DisableIdempotentWrite()},
		{"TransactionalID", kgo.TransactionalID("t")},
		{"MaxBufferedRecords", kgo.MaxBufferedRecords(1)},
		{"MaxBufferedBytes", kgo.MaxBufferedBytes(1 << 20)},
		{"ManualFlushing", kgo.ManualFlushing()},
		{"ProducerBatchMaxBytes", kgo.ProducerBatchMaxBytes(1 << 10)},
		{"ProducerBatchMaxBytesFn", kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return 1<<20 + batchBytes + int32(len(topic)) })},
		{"ProducerBatchCompression", kgo.ProducerBatchCompression(kgo.ZstdCompression())},
		{"RecordRetries", kgo.RecordRetries(1)},
		{"UnknownTopicRetries", kgo.UnknownTopicRetries(-1)},
		{"RecordDeliveryTimeout", kgo.RecordDeliveryTimeout(time.Minute)},
		{"DefaultProduceTopic", kgo.DefaultProduceTopic("x")},
		{"DefaultProduceTopicAlways", kgo.DefaultProduceTopicAlways()},
		{"StopProducerOnDataLossDetected", kgo.StopProducerOnDataLossDetected()},
		{"RetryBackoffFn", kgo.RetryBackoffFn(func(int) time.Duration { return 0 })},
		{"ConsumeTopics", kgo.ConsumeTopics("x")},
		{"ConsumerGroup", kgo.ConsumerGroup("x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := producerConfig([]string{"127.0.0.1:1"})
			cfg.SASL = sasl
			err := Driver{Options: []kgo.Opt{c.option}}.ValidateProducer(cfg)
			if c.name == "DisableIdempotentWrite" || c.name == "RequiredAcks" || c.name == "TransactionalID" || c.name == "DefaultProduceTopicAlways" { // kgo finds the contradiction first
				wantInvalid(t, err, "franz.Driver.Options", "hunter2")
				return
			}
			wantInvalid(t, err, c.name+" must not be changed", "hunter2")
			if c.name != "SASL" {
				assert.NotContains(t, err.Error(), "SASL")
			}
		})
	}
	t.Run("DialTLSConfig", func(t *testing.T) {
		d := Driver{Options: []kgo.Opt{kgo.DialTLSConfig(&tls.Config{})}}
		wantInvalid(t, d.ValidateProducer(producerConfig([]string{"127.0.0.1:1"})), "DialTLSConfig", "")
	})
}

// TestOptionsGoWithEachMechanism: an option that has nothing to do with SASL is no change of it.
func TestOptionsGoWithEachMechanism(t *testing.T) {
	for _, s := range []driver.SASL{
		{Mechanism: driver.SASLPlain, User: "u", Password: "p"},
		{Mechanism: driver.SASLScramSHA512, User: "u", Password: "p"},
		{Mechanism: driver.SASLOAuthBearer, TokenSource: func(context.Context) (driver.Token, error) { return driver.Token{}, nil }},
	} {
		produces, consumes := producerConfig([]string{"127.0.0.1:1"}), consumerConfig([]string{"127.0.0.1:1"})
		produces.SASL, consumes.SASL = &s, &s
		d := Driver{Options: []kgo.Opt{kgo.MetadataMaxAge(2 * time.Minute)}}
		assert.NoError(t, d.ValidateProducer(produces), "a producer with %s", s.Mechanism)
		assert.NoError(t, d.ValidateConsumer(consumes), "a consumer with %s", s.Mechanism)
	}
}

// TestOptionsThatAreRejectedAreDocumented: the comment of Driver.Options names each option that no
// user of a producer may change.
func TestOptionsThatAreRejectedAreDocumented(t *testing.T) {
	source, err := os.ReadFile("franz.go")
	require.NoError(t, err)
	for _, option := range producerSafety[:slices.IndexFunc(producerSafety, func(o any) bool { return name(o) == "ConsumeTopics" })] {
		assert.Regexp(t, `(?s)Options come after .*\b`+name(option)+`\b.*Options \[\]kgo.Opt`, string(source))
	}
}

func TestOptionsAreLastAndChecked(t *testing.T) {
	d := Driver{Options: []kgo.Opt{kgo.MetadataMaxAge(2 * time.Minute), kgo.WithHooks(), kgo.SoftwareNameAndVersion("x", "1")}}
	opts, err := d.producerOptions(producerConfig([]string{"127.0.0.1:1"}), newLine(nil, 0))
	require.NoError(t, err)
	got, err := values(opts, []any{kgo.MetadataMaxAge})
	require.NoError(t, err)
	assert.Equal(t, [][]any{{2 * time.Minute}}, got)
	d.Options = []kgo.Opt{kgo.MetadataMaxAge(0)}
	wantInvalid(t, d.ValidateProducer(producerConfig([]string{"127.0.0.1:1"})), "metadata", "")
}

func TestErrorsAreClassified(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	cases := []struct {
		err       error
		code      string
		permanent bool
	}{
		{kerr.TopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED", true},
		{fmt.Errorf("x: %w", kerr.OffsetOutOfRange), "OFFSET_OUT_OF_RANGE", true},
		{kerr.NotLeaderForPartition, "NOT_LEADER_OR_FOLLOWER", false},
		{errors.Join(refused, kerr.SaslAuthenticationFailed), "SASL_AUTHENTICATION_FAILED", true},
		{fmt.Errorf("unable to dial: %w", refused), "CONNECTION_FAILED", false},
		{&dialer.HandshakeError{Err: &tls.CertificateVerificationError{Err: errors.New("x")}}, "TLS_HANDSHAKE_FAILED", true},
		{&dialer.HandshakeError{Err: context.DeadlineExceeded}, "TLS_HANDSHAKE_FAILED", false},
		{fmt.Errorf("%w: slow", credentials.ErrToken), "TOKEN_UNAVAILABLE", false},
		{fmt.Errorf("%w: no", credentials.ErrSCRAM), "SASL_AUTHENTICATION_FAILED", true},
		{fmt.Errorf("%w: busy", credentials.ErrSCRAMServer), "SASL_AUTHENTICATION_FAILED", false},
		{kgo.ErrClientClosed, "CLIENT_CLOSED", false},
		{fmt.Errorf("join: %w", errors.New("broker is too old; the broker has already indicated it")), "UNSUPPORTED_VERSION", true},
		{errors.New("x"), "CLIENT_ERROR", false},
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
