package sarama

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// certificate returns a server's certificate for 127.0.0.1 and a pool that
// trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// opens returns the error of OpenConsumer, and checks that OpenProducer and it
// take less than limit.
func opens(t *testing.T, brokers []string, tlsConf *tls.Config, sasl *driver.SASL, limit time.Duration) error {
	t.Helper()
	consumer, producer := consumerConfig(brokers), producerConfig(brokers)
	consumer.TLS, consumer.SASL, producer.TLS, producer.SASL = tlsConf, sasl, tlsConf, sasl
	began := time.Now()
	c, consumerErr := Driver{}.OpenConsumer(within(t, patienceTest), consumer)
	p, producerErr := Driver{}.OpenProducer(within(t, patienceTest), producer)
	assert.LessOrEqual(t, time.Since(began), 2*limit, "time to open both")
	assert.Equal(t, consumerErr == nil, producerErr == nil, "consumer: %v, producer: %v", consumerErr, producerErr)
	if consumerErr == nil {
		defer c.Close(within(t, patienceTest))
	}
	if producerErr == nil {
		defer p.Close(within(t, patienceTest))
		answers := newAcks()
		m := &driver.Message{Topic: "t", Partition: -1, Value: []byte("v"), Acker: ack{answers, 0}}
		require.NoError(t, p.Produce(t.Context(), m))
		assert.NoError(t, p.Flush(within(t, patienceTest)))
		assert.NoError(t, answers.of(0)[0])
	}
	return consumerErr
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, pool := certificate(t)
	_, foreign := certificate(t)
	secure := fake(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})).ListenAddrs()
	mutual := fake(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})).ListenAddrs()
	plain := fake(t).ListenAddrs()
	cases := []struct {
		name      string
		brokers   []string
		conf      *tls.Config
		want      string // part of the error; "" is success
		permanent bool
	}{
		{"trusted", secure, &tls.Config{RootCAs: pool}, "", false},
		{"unknown authority", secure, &tls.Config{RootCAs: foreign}, "unknown authority", true},
		{"other name", secure, &tls.Config{RootCAs: pool, ServerName: "example.org"}, "example.org", true},
		{"no client certificate", mutual, &tls.Config{RootCAs: pool}, "TLS_HANDSHAKE_FAILED", true},
		{"client certificate", mutual, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, "", false},
		{"plaintext to a TLS port", secure, nil, "CONNECTION_FAILED", false},
		{"TLS to a plaintext port", plain, &tls.Config{RootCAs: pool}, "TLS", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "TLS to a plaintext port" {
				testkit.Slow(t, "waits for a handshake to time out")
			}
			err := opens(t, c.brokers, c.conf, nil, dialer.HandshakeTimeout+time.Second)
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
			assert.Equal(t, c.permanent, isPermanent(err), "permanent: %v", err)
		})
	}
}

// TestTLSNeverBecomesPlaintext looks at the bytes that come to a plaintext port.
func TestTLSNeverBecomesPlaintext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var first []byte
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			io.ReadFull(c, b)
			mu.Lock()
			first = append(first, b...)
			mu.Unlock()
			c.Close()
		}
	})
	sasl := &driver.SASL{Mechanism: driver.SASLPlain, User: "u", Password: "hunter2"}
	assert.Error(t, opens(t, []string{l.Addr().String()}, &tls.Config{}, sasl, dialer.HandshakeTimeout), "a port that does not speak TLS was accepted")
	l.Close()
	wg.Wait()
	const handshakeRecord = 22
	assert.NotEmpty(t, first, "no connection was made")
	for _, b := range first {
		assert.EqualValues(t, handshakeRecord, b, "first byte of a connection")
	}
}

func TestSASL(t *testing.T) {
	t.Parallel()
	brokers := fake(t, kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "alice", "secret-a"),
		kfake.Superuser("SCRAM-SHA-256", "bob", "secret-b"),
		kfake.Superuser("SCRAM-SHA-512", "carol", "secret-c")).ListenAddrs()
	cases := []struct {
		name string
		sasl *driver.SASL
		ok   bool
	}{
		{"PLAIN", &driver.SASL{Mechanism: driver.SASLPlain, User: "alice", Password: "secret-a"}, true},
		{"PLAIN, wrong password", &driver.SASL{Mechanism: driver.SASLPlain, User: "alice", Password: "wrong-a"}, false},
		{"SCRAM-SHA-256", &driver.SASL{Mechanism: driver.SASLScramSHA256, User: "bob", Password: "secret-b"}, true},
		{"SCRAM-SHA-256, wrong password", &driver.SASL{Mechanism: driver.SASLScramSHA256, User: "bob", Password: "wrong-b"}, false},
		{"SCRAM-SHA-512", &driver.SASL{Mechanism: driver.SASLScramSHA512, User: "carol", Password: "secret-c"}, true},
		{"SCRAM-SHA-512, unknown user", &driver.SASL{Mechanism: driver.SASLScramSHA512, User: "nobody", Password: "wrong-c"}, false},
		{"no authentication", nil, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := opens(t, brokers, nil, c.sasl, 3*time.Second)
			assert.Equal(t, c.ok, err == nil, "success: %v", err)
			if err != nil {
				assert.NotContains(t, err.Error(), "wrong-", "the password")
			}
		})
	}
}

func TestTokenSource(t *testing.T) {
	cases := []struct {
		name   string
		source driver.TokenSource
		want   string
	}{
		{"good", func(context.Context) (driver.Token, error) {
			return driver.Token{Value: "abc", Extensions: map[string]string{"k": "v"}}, nil
		}, ""},
		{"failing", func(context.Context) (driver.Token, error) { return driver.Token{}, errors.New("no idea") }, "no idea"},
		{"empty", func(context.Context) (driver.Token, error) { return driver.Token{}, nil }, "empty"},
		{"panicking", func(context.Context) (driver.Token, error) { panic("boom") }, "panic in the source: string"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			token, err := tokens{c.source}.Token()
			if c.want == "" {
				require.NoError(t, err)
				assert.Equal(t, "abc", token.Token)
				assert.Equal(t, "v", token.Extensions["k"])
				return
			}
			assert.ErrorIs(t, err, credentials.ErrToken)
			assert.ErrorContains(t, err, c.want)
		})
	}
	tokens{func(ctx context.Context) (driver.Token, error) {
		_, ok := ctx.Deadline()
		assert.True(t, ok, "the context of a token source has no deadline")
		return driver.Token{Value: "v"}, nil
	}}.Token()
}
