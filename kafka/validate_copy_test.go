package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"reflect"
	"testing"
)

// entangled has everything in it that a shallow copy would share.
func entangled() ConsumerConfig {
	cfg := full()
	cfg.TLS.Config = &tls.Config{
		NextProtos:                     []string{"a"},
		Certificates:                   []tls.Certificate{{OCSPStaple: []byte("a")}},
		CipherSuites:                   []uint16{1},
		CurvePreferences:               []tls.CurveID{1},
		EncryptedClientHelloConfigList: []byte("a"),
	}
	return cfg
}

func disentangle(cfg *ConsumerConfig) {
	cfg.Topics[0] = "changed"
	cfg.BalanceStrategies[0] = Sticky
	c := cfg.TLS.Config
	c.NextProtos[0], c.CipherSuites[0], c.CurvePreferences[0], c.EncryptedClientHelloConfigList[0] = "b", 2, 2, 'b'
	c.Certificates[0] = tls.Certificate{}
	c.ServerName, c.InsecureSkipVerify = "changed", true
	*cfg.TLS, *cfg.SASL = TLSConfig{InsecureSkipVerify: true}, SASLConfig{User: "changed"}
	*cfg = ConsumerConfig{}
}

func TestWhatTheCallerChangesLaterHasNoEffectOnAConsumer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg, untouched := entangled(), entangled()
	got, told, err := resolveConsumer(&cfg, log)
	want, wantTold, err2 := resolveConsumer(&untouched, log)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if !reflect.DeepEqual(untouched, entangled()) {
		t.Errorf("the caller's configuration was changed: %+v", untouched)
	}
	disentangle(&cfg)
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(got.TLS.Config, want.TLS.Config) {
		t.Errorf("the copy is now\n%+v, was\n%+v", got, want)
	}
	if !reflect.DeepEqual(told, wantTold) {
		t.Errorf("the driver is told\n%+v, was told\n%+v", told, wantTold)
	}
	told.Topics[0], told.BalanceStrategies[0], told.SASL.User, told.TLS.NextProtos[0] = "x", Sticky, "x", "x"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("what the driver does to its own changes the copy to\n%+v, was\n%+v", got, want)
	}
}

func TestWhatTheCallerChangesLaterHasNoEffectOnAProducer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	sync, async, idempotent := true, true, true
	cfg := ProducerConfig{
		BootstrapServers: "a:1", EnableSyncProducer: &sync, EnableAsyncProducer: &async, EnableIdempotent: &idempotent,
		TLS: entangled().TLS, SASL: entangled().SASL,
	}
	got, told, err := resolveProducer(cfg, "p", log)
	if err != nil {
		t.Fatal(err)
	}
	sync, async, idempotent = false, false, false
	cfg.TLS.Config.NextProtos[0] = "b"
	*cfg.TLS, *cfg.SASL = TLSConfig{}, SASLConfig{}
	if !*got.EnableSyncProducer || !*got.EnableAsyncProducer || !*got.EnableIdempotent {
		t.Errorf("a pointer is shared: %+v", got)
	}
	if !reflect.DeepEqual(got.TLS, entangled().TLS) || !reflect.DeepEqual(got.SASL, entangled().SASL) {
		t.Errorf("security is shared: %+v", got)
	}
	if told.TLS.NextProtos[0] != "a" || told.SASL.User != "u" {
		t.Errorf("the driver is told %+v", told)
	}
}

func TestAuthoritiesAddedLaterAreNotTrusted(t *testing.T) {
	one := newTestPair(t, t.TempDir(), "one")
	pool := x509.NewCertPool()
	cfg, _ := secure(t, &TLSConfig{Config: &tls.Config{RootCAs: pool}})
	if pool.AppendCertsFromPEM(one.certPEM); !cfg.RootCAs.Equal(x509.NewCertPool()) {
		t.Error("an authority that was added after registration is trusted")
	}
}
