package kafka

import (
	"log/slog"
	"reflect"
	"testing"
	"time"

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
	got, told, err := resolveProducer(goodProducer(), "producer-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := ProducerConfig{
		BootstrapServers:    "host:9092",
		MaxRetries:          3,
		RetryBackoff:        100 * time.Millisecond,
		EnableIdempotent:    BoolPtr(true),
		MaxMessageBytes:     1 << 20,
		EnableSyncProducer:  BoolPtr(true),
		EnableAsyncProducer: BoolPtr(false),
		ClientID:            "producer-1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	told.Logger = nil
	wantTold := driver.ProducerConfig{
		Brokers:         []string{"host:9092"},
		ClientID:        "producer-1",
		Idempotent:      true,
		MaxRetries:      3,
		RetryBackoff:    100 * time.Millisecond,
		MaxMessageBytes: 1 << 20,
	}
	if !reflect.DeepEqual(told, wantTold) {
		t.Errorf("the driver is told %+v\nwant %+v", told, wantTold)
	}
}

// Every value can be chosen, zero acks too, and idempotence yields to them where
// it was not asked for. NoRetries excludes DeliveryTimeout, so it comes alone.
func TestB34_EveryProducerFieldIsTaken(t *testing.T) {
	cfg := ProducerConfig{
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
		if v.Field(i).IsZero() {
			t.Fatalf("this test does not set %s", v.Type().Field(i).Name)
		}
	}
	got, told, err := resolveProducer(cfg, "producer-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, cfg) {
		t.Errorf("got  %+v\nwant %+v", got, cfg)
	}
	if told.RequiredAcks != NoResponse || told.MaxRetries != 7 || told.Idempotent || told.Compression != CompressionZSTD ||
		told.RetryBackoff != time.Second || told.DeliveryTimeout != time.Minute || told.MaxMessageBytes != 1 || told.ClientID != "client" ||
		told.TLS.ServerName != "kafka.example" || told.SASL.Password != "p" {
		t.Errorf("the driver is told %+v", told)
	}
	cfg.MaxRetries, cfg.DeliveryTimeout = NoRetries, 0
	if _, told, err = resolveProducer(cfg, "producer-1", slog.New(slog.DiscardHandler)); err != nil || told.MaxRetries != 0 {
		t.Errorf("with NoRetries the driver is told %+v, %v", told, err)
	}
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
		got, told, err := resolveProducer(cfg, "p", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%+v: %v", row, err)
		}
		if *got.EnableIdempotent != row.want || told.Idempotent != row.want {
			t.Errorf("%+v: got %t, and the driver is told %t", row, *got.EnableIdempotent, told.Idempotent)
		}
	}
}
