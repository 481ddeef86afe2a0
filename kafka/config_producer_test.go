package kafka

import (
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

func TestB35_ProducerFieldsAreChecked(t *testing.T) {
	refuseProducers(t, []badProducer{
		{"no brokers", func(c *ProducerConfig) { c.BootstrapServers = "" }, `BootstrapServers: is empty`},
		{"bad broker", func(c *ProducerConfig) { c.BootstrapServers = "a:1,b:x" },
			`BootstrapServers[1]: "b:x": port must be 1..65535`},
		{"acks", func(c *ProducerConfig) { c.RequiredAcks = -1 },
			`RequiredAcks: -1 is none of WaitForAll, WaitForLocal, NoResponse`},
		{"compression", func(c *ProducerConfig) { c.Compression = 5 },
			`Compression: 5 is none of CompressionNone, CompressionGZIP, CompressionSnappy, CompressionLZ4, CompressionZSTD`},
		{"retries below none", func(c *ProducerConfig) { c.MaxRetries = -2 },
			`MaxRetries: -2 is neither in 0..10000 nor NoRetries (-1)`},
		{"retries absurd", func(c *ProducerConfig) { c.MaxRetries = 10001 },
			`MaxRetries: 10001 is neither in 0..10000 nor NoRetries (-1)`},
		{"retry backoff negative", func(c *ProducerConfig) { c.RetryBackoff = -time.Second },
			`RetryBackoff: -1s is negative`},
		{"retry backoff below a millisecond", func(c *ProducerConfig) { c.RetryBackoff = 100 },
			`RetryBackoff: 100ns is less than 1ms`},
		{"delivery timeout below the backoff", func(c *ProducerConfig) { c.DeliveryTimeout = 50 * time.Millisecond },
			`DeliveryTimeout: 50ms is less than RetryBackoff (100ms)`},
		{"delivery timeout without retries", func(c *ProducerConfig) { c.DeliveryTimeout, c.MaxRetries = time.Minute, NoRetries },
			`DeliveryTimeout: 1m0s needs retries, and MaxRetries is NoRetries`},
		{"idempotent without all acks",
			func(c *ProducerConfig) { c.EnableIdempotent, c.RequiredAcks = BoolPtr(true), WaitForLocal },
			`EnableIdempotent: true needs WaitForAll, and RequiredAcks is acks=1`},
		{"idempotent without retries",
			func(c *ProducerConfig) { c.EnableIdempotent, c.MaxRetries = BoolPtr(true), NoRetries },
			`EnableIdempotent: true needs retries, and MaxRetries is NoRetries`},
		{"message bytes negative", func(c *ProducerConfig) { c.MaxMessageBytes = -1 }, `MaxMessageBytes: -1 is negative`},
		{"message bytes above 100 MiB", func(c *ProducerConfig) { c.MaxMessageBytes = 1 << 30 },
			`MaxMessageBytes: 1073741824 is more than 100 MiB (104857600)`},
		{"neither sync nor async", func(c *ProducerConfig) { c.EnableSyncProducer = BoolPtr(false) },
			`EnableSyncProducer: is false, and EnableAsyncProducer is not true: nothing could be sent`},
		{"name with a line break", func(c *ProducerConfig) { c.Name = "a\nb" }, `Name: "a\nb" has a control character`},
		{"name with a slash", func(c *ProducerConfig) { c.Name = "a/b" }, `Name: "a/b" has a '/'`},
		{"client id", func(c *ProducerConfig) { c.ClientID = "a\x00b" }, `ClientID: "a\x00b" has a control character`},
		{"TLS", func(c *ProducerConfig) { c.TLS = &TLSConfig{KeyFile: "k"} }, `TLS.CertFile: is empty, and KeyFile is set`},
		{"SASL", func(c *ProducerConfig) { c.SASL = &SASLConfig{} },
			`SASL.Mechanism: is empty; want one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER`},
		{"several", func(c *ProducerConfig) {
			c.BootstrapServers, c.RequiredAcks, c.EnableIdempotent, c.RetryBackoff = ",", 3, BoolPtr(true), -1
		}, `BootstrapServers[0]: is empty
BootstrapServers[1]: is empty
RequiredAcks: 3 is none of WaitForAll, WaitForLocal, NoResponse
RetryBackoff: -1ns is negative`},
		{"idempotent with no acks and no retries", func(c *ProducerConfig) {
			c.EnableIdempotent, c.RequiredAcks, c.MaxRetries = BoolPtr(true), NoResponse, NoRetries
		}, `EnableIdempotent: true needs WaitForAll, and RequiredAcks is acks=0
EnableIdempotent: true needs retries, and MaxRetries is NoRetries`},
	})
}

func TestProducerDefaults(t *testing.T) {
	got, forDriver, err := resolveProducer(goodProducer(), "producer-1", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	want := ProducerConfig{
		BootstrapServers:    "host:9092",
		MaxRetries:          3,
		RetryBackoff:        100 * time.Millisecond,
		EnableIdempotent:    BoolPtr(true),
		MaxMessageBytes:     1 << 20,
		EnableSyncProducer:  BoolPtr(true),
		EnableAsyncProducer: BoolPtr(false),
		Name:                "producer-1",
		ClientID:            defaultClientID(programPath(), "producer-1"),
	}
	require.Equal(t, want, got)
	forDriver.Logger = nil
	wantForDriver := driver.ProducerConfig{
		Brokers:         []string{"host:9092"},
		ClientID:        defaultClientID(programPath(), "producer-1"),
		Idempotent:      true,
		MaxRetries:      3,
		RetryBackoff:    100 * time.Millisecond,
		MaxMessageBytes: 1 << 20,
	}
	require.Equal(t, wantForDriver, forDriver)
}

// Every value can be chosen, zero acks too, and idempotence yields to them where
// it was not asked for. NoRetries excludes DeliveryTimeout, so it comes alone.
func TestB34_EveryProducerFieldIsTaken(t *testing.T) {
	cfg := ProducerConfig{
		Name:                "orders",
		BootstrapServers:    "a:1",
		RequiredAcks:        NoResponse,
		Compression:         CompressionZSTD,
		MaxRetries:          7,
		RetryBackoff:        time.Second,
		DeliveryTimeout:     time.Minute,
		EnableIdempotent:    BoolPtr(false),
		MaxMessageBytes:     1,
		EnableSyncProducer:  BoolPtr(false),
		EnableAsyncProducer: BoolPtr(true),
		ClientID:            "client",
		TLS:                 &TLSConfig{ServerName: "kafka.example"},
		SASL:                &SASLConfig{Mechanism: SASLPlain, User: "u", Password: "p"},
	}
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		require.False(t, v.Field(i).IsZero(), "this test does not set %s", v.Type().Field(i).Name)
	}
	got, forDriver, err := resolveProducer(cfg, "producer-1", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, cfg, got)
	require.Equal(t, "kafka.example", forDriver.TLS.ServerName)
	require.Equal(t, &driver.SASL{Mechanism: SASLPlain, User: "u", Password: "p"}, forDriver.SASL)
	forDriver.TLS, forDriver.SASL, forDriver.Logger = nil, nil, nil
	require.Equal(t, driver.ProducerConfig{
		Brokers: []string{"a:1"}, ClientID: "client", RequiredAcks: NoResponse, Compression: CompressionZSTD,
		MaxRetries: 7, RetryBackoff: time.Second, DeliveryTimeout: time.Minute, MaxMessageBytes: 1,
	}, forDriver)
	cfg.MaxRetries, cfg.DeliveryTimeout = NoRetries, 0
	_, forDriver, err = resolveProducer(cfg, "producer-1", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Zero(t, forDriver.MaxRetries, "with NoRetries")
}

func TestIdempotenceIsOnWhereItIsPossible(t *testing.T) {
	for _, row := range []struct {
		acks    RequiredAcks
		retries int
		want    bool
	}{
		{WaitForAll, 0, true},
		{WaitForAll, 10000, true},
		{WaitForAll, NoRetries, false},
		{WaitForLocal, 0, false},
		{NoResponse, 5, false},
	} {
		cfg := goodProducer()
		cfg.RequiredAcks, cfg.MaxRetries = row.acks, row.retries
		got, forDriver, err := resolveProducer(cfg, "p", slog.New(slog.DiscardHandler))
		require.NoError(t, err, "%+v", row)
		require.Equal(t, row.want, *got.EnableIdempotent, "%+v", row)
		require.Equal(t, row.want, forDriver.Idempotent, "%+v", row)
	}
}
