package franz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
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

// opens returns the error of OpenProducer, and checks that it takes less than limit. A
// producer that was opened must also send.
func opens(t *testing.T, brokers []string, tlsConf *tls.Config, sasl *driver.SASL, limit time.Duration) error {
	t.Helper()
	cfg := producerConfig(brokers)
	cfg.TLS, cfg.SASL = tlsConf, sasl
	began := time.Now()
	p, err := Driver{}.OpenProducer(within(t, patienceTest), cfg)
	assert.LessOrEqual(t, time.Since(began), limit, "time to open")
	if err == nil {
		defer p.Close(within(t, patienceTest))
		assert.NoError(t, send(t, p.(*producer), &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")}))
	}
	return err
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

// A bouncer is a listener before a broker that asks for an OAUTHBEARER token, and
// lets in a client with a good one. Kfake has no such mechanism.
type bouncer struct {
	net.Listener
	refused *atomic.Int32
	mu      sync.Mutex
	open    map[net.Conn]bool
}

func (b *bouncer) Accept() (net.Conn, error) {
	client, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.open[client] = true
	b.mu.Unlock()
	broker, inside := net.Pipe()
	go func() { // both end when either side closes
		defer client.Close()
		defer inside.Close()
		b.admit(client, inside)
	}()
	go func() {
		defer client.Close()
		defer inside.Close()
		io.Copy(client, inside)
	}()
	return broker, nil
}

func (b *bouncer) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		c.Close()
	}
	clear(b.open)
}

// admit answers the requests about SASL, and passes on all others.
func (b *bouncer) admit(client, inside net.Conn) {
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		answer := append([]byte{}, body[4:8]...) // the correlation ID
		switch binary.BigEndian.Uint16(body) {
		case 17: // SaslHandshake 1
			answer = append(answer, 0, 0, 0, 0, 0, 1, 0, 11)
			answer = append(answer, "OAUTHBEARER"...)
		case 36: // SaslAuthenticate 2
			code := byte(0)
			if !strings.Contains(string(body), "Bearer good") {
				code = 58
				b.refused.Add(1)
			}
			answer = append(answer, 0, 0, code, 0, 1)
			answer = append(answer, make([]byte, 9)...)
		default:
			if _, err := inside.Write(append(head, body...)); err != nil {
				return
			}
			continue
		}
		if _, err := client.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// TestFault_C2_StaleTokenOfAProducerPasses: the source hands out stale tokens just when all
// connections have to be made again. The messages of that time are sent later.
func TestFault_C2_StaleTokenOfAProducerPasses(t *testing.T) {
	t.Parallel()
	var refused atomic.Int32
	var door *bouncer
	cluster := fake(t, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		door = &bouncer{Listener: l, refused: &refused, open: map[net.Conn]bool{}}
		return door, err
	}))
	var stale atomic.Bool
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.DeliveryTimeout = time.Minute
	cfg.SASL = &driver.SASL{Mechanism: driver.SASLOAuthBearer, TokenSource: func(context.Context) (driver.Token, error) {
		if stale.Load() {
			return driver.Token{Value: "stale"}, nil
		}
		return driver.Token{Value: "good"}, nil
	}}
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	stale.Store(true)
	door.cut()
	answers := hand(t, p, sized("t", 10, 1)...)
	require.Eventually(t, func() bool { return refused.Load() > 2 }, patienceTest, time.Millisecond, "no token was refused")
	stale.Store(false)
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i := range 10 {
		assert.Equal(t, []error{nil}, answers.of(i))
	}
	stale.Store(true)
	_, err := Driver{}.OpenProducer(within(t, patienceTest), cfg)
	wantError(t, err, "SASL_AUTHENTICATION_FAILED", false)
}

func TestRealProducerSecurity(t *testing.T) {
	t.Parallel()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Security: &kafkacluster.Security{
		Users:      map[string]string{"alice": "secret-alice", "bob": "secret-bob"},
		SuperUsers: []string{"User:alice"},
	}})
	require.NoError(t, cluster.CreateTopic(t.Context(), "t", 1, nil))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cluster.Authority().PEM())
	trusted := &tls.Config{RootCAs: pool}
	user := func(m driver.SASLMechanism, name string, password driver.Secret) *driver.SASL {
		return &driver.SASL{Mechanism: m, User: name, Password: password}
	}
	cases := []struct {
		name, listener string
		tls            *tls.Config
		sasl           *driver.SASL
		code           string // "" is success
	}{
		{"PLAIN", "SASL_SSL", trusted, user(driver.SASLPlain, "alice", "secret-alice"), ""},
		{"SCRAM-SHA-256", "SASL_SSL", trusted, user(driver.SASLScramSHA256, "alice", "secret-alice"), ""},
		{"SCRAM-SHA-512", "SASL_SSL", trusted, user(driver.SASLScramSHA512, "alice", "secret-alice"), ""},
		{"PLAIN, wrong password", "SASL_SSL", trusted, user(driver.SASLPlain, "alice", "wrong-alice"), "SASL_AUTHENTICATION_FAILED"},
		{"SCRAM, wrong password", "SASL_PLAINTEXT", nil, user(driver.SASLScramSHA512, "alice", "wrong-alice"), "SASL_AUTHENTICATION_FAILED"},
		{"SCRAM, unknown user", "SASL_PLAINTEXT", nil, user(driver.SASLScramSHA256, "nobody", "wrong-alice"), "SASL_AUTHENTICATION_FAILED"},
		{"untrusted authority", "SASL_SSL", &tls.Config{RootCAs: x509.NewCertPool()}, user(driver.SASLPlain, "alice", "secret-alice"), "TLS_HANDSHAKE_FAILED"},
		{"TLS to a plaintext port", "SASL_PLAINTEXT", trusted, user(driver.SASLPlain, "alice", "secret-alice"), "TLS_HANDSHAKE_FAILED"},
		{"plaintext to a TLS port", "SASL_SSL", nil, user(driver.SASLPlain, "alice", "secret-alice"), "CONNECTION_FAILED"},
		{"no client certificate", "SSL", trusted, nil, "TLS_HANDSHAKE_FAILED"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := opens(t, strings.Split(cluster.Addr(c.listener), ","), c.tls, c.sasl, dialer.HandshakeTimeout+time.Second)
			if c.code == "" {
				assert.NoError(t, err)
			} else if assert.Equal(t, c.code, testkit.Code(err), "code of %v", err) {
				assert.NotContains(t, err.Error(), "wrong-", "the password")
			}
			wantPermanent := c.code == "SASL_AUTHENTICATION_FAILED" || c.name == "untrusted authority" || c.name == "no client certificate"
			if wantPermanent {
				assert.ErrorIs(t, err, driver.ErrPermanent)
			}
		})
	}

	t.Run("not authorized", func(t *testing.T) {
		brokers := strings.Split(cluster.Addr("SASL_SSL"), ",")
		bob := user(driver.SASLScramSHA512, "bob", "secret-bob")
		producer := producerConfig(brokers)
		producer.TLS, producer.SASL, producer.Idempotent = trusted, bob, false
		err := send(t, openProducer(t, producer), &driver.Message{Topic: "t", Partition: 0})
		assert.ErrorIs(t, err, driver.ErrPermanent)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
	})
}
