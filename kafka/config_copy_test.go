package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestLaterChangesByTheCallerHaveNoEffectOnAConsumer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg, untouched := entangled(), entangled()
	got, forDriver, err := resolveConsumer(&cfg, log, false)
	want, wantForDriver, err2 := resolveConsumer(&untouched, log, false)
	require.NoError(t, err)
	require.NoError(t, err2)
	require.Equal(t, entangled(), untouched, "the caller's configuration was changed")
	disentangle(&cfg)
	require.Equal(t, want, got)
	require.Equal(t, want.TLS.Config, got.TLS.Config)
	require.Equal(t, wantForDriver, forDriver)
	forDriver.Topics[0], forDriver.BalanceStrategies[0], forDriver.SASL.User, forDriver.TLS.NextProtos[0] = "x", Sticky, "x", "x"
	require.Equal(t, want, got, "what the driver does to its own changes the copy")
}

func TestLaterChangesByTheCallerHaveNoEffectOnAProducer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	sync, async, idempotent := true, true, true
	cfg := ProducerConfig{
		BootstrapServers: "a:1", EnableSyncProducer: &sync, EnableAsyncProducer: &async, EnableIdempotent: &idempotent,
		TLS: entangled().TLS, SASL: entangled().SASL,
	}
	got, forDriver, err := resolveProducer(cfg, "p", log)
	require.NoError(t, err)
	sync, async, idempotent = false, false, false
	cfg.TLS.Config.NextProtos[0] = "b"
	*cfg.TLS, *cfg.SASL = TLSConfig{}, SASLConfig{}
	require.True(t, *got.EnableSyncProducer, "the pointer is shared")
	require.True(t, *got.EnableAsyncProducer, "the pointer is shared")
	require.True(t, *got.EnableIdempotent, "the pointer is shared")
	require.Equal(t, entangled().TLS, got.TLS)
	require.Equal(t, entangled().SASL, got.SASL)
	require.Equal(t, []string{"a"}, forDriver.TLS.NextProtos)
	require.Equal(t, "u", forDriver.SASL.User)
}

func TestAuthoritiesAddedLaterAreNotTrusted(t *testing.T) {
	one := newTestPair(t, t.TempDir(), "one")
	pool := x509.NewCertPool()
	cfg, _ := secure(t, &TLSConfig{Config: &tls.Config{RootCAs: pool}})
	require.True(t, pool.AppendCertsFromPEM(one.certPEM))
	require.True(t, cfg.RootCAs.Equal(x509.NewCertPool()), "an authority that was added after registration is trusted")
}
