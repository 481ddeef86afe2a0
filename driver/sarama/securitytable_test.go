package sarama_test

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// These tests show users' view of right, wrong and changing security settings: the whole
// stack, from kafka.Manager to a real broker with TLS, SASL and an authorizer.
// Each row of the tables in docs/runs is a case; with -v this prints the tables.

const (
	passwordOfAlice = "alice-7Kq2vXz9" // may do everything
	passwordOfBob   = "bob-h4Wt8Lm3pR" // may do what a test grants
	wrongPassword   = "wrong-c6Nf1Yd5"
	tokenSubject    = "carol-x9Tb2Vw6"
)

const oauthLogin = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"

// patience bounds the wait for an outcome that a user must see.
const patience = 20 * time.Second

// A secured cluster, each of whose listeners is behind a tap.
type secured struct {
	*kafkacluster.Cluster
	taps map[string]*tap
	seen *everything
	ca   []byte
	dir  string
}

// everything is all text that was logged or printed.
type everything struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *everything) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(b)
}

// A relay passes on what Sarama logs, while a test wants it. Sarama's two loggers
// are variables that its goroutines read, so they are set before there are any.
type relay struct{ to atomic.Pointer[everything] }

func (r *relay) Write(b []byte) (int, error) {
	if e := r.to.Load(); e != nil {
		return e.Write(b)
	}
	return len(b), nil
}

var saramaSays relay

func init() {
	ibm.Logger, ibm.DebugLogger = log.New(&saramaSays, "", 0), log.New(&saramaSays, "", 0)
}

// note prints v in every way.
func (e *everything) note(v any) {
	js, _ := json.Marshal(v)
	fmt.Fprintf(e, "%v\n%+v\n%#v\n%s\n", v, v, v, js)
}

func (e *everything) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

func newSecured(t *testing.T) *secured {
	s := &secured{taps: map[string]*tap{}, seen: &everything{}, dir: t.TempDir()}
	saramaSays.to.Store(s.seen)
	t.Cleanup(func() { saramaSays.to.Store(nil) })
	s.Cluster = kafkacluster.ForTest(t, kafkacluster.Config{
		Security: &kafkacluster.Security{
			Users:      map[string]string{"alice": passwordOfAlice, "bob": passwordOfBob},
			SuperUsers: []string{"User:alice", "User:CN=alice", "User:" + tokenSubject},
		},
		Properties: map[string]string{
			"group.min.session.timeout.ms":                              "1000",
			"sasl.enabled.mechanisms":                                   "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
			"listener.name.sasl_ssl.oauthbearer.sasl.jaas.config":       oauthLogin,
			"listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": oauthLogin,
		},
		Advertise: func(_ int, listener, addr string) string {
			if listener == "BROKER" || listener == "CONTROLLER" {
				return addr
			}
			s.taps[listener] = newTap(t, addr)
			return s.taps[listener].addr()
		},
	})
	s.ca = s.Authority().PEM()
	require.NoError(t, s.CreateTopic(t.Context(), "t", 1, nil))
	return s
}

// file writes a file and returns its path.
func (s *secured) file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// A user is a manager with one consumer and one producer, as a service has them.
type user struct {
	s        *secured
	manager  *kafka.Manager
	producer *kafka.Producer
	began    time.Time
}

// newUser registers a consumer and a producer, starts, and returns the errors of the
// registrations.
func (s *secured) newUser(t *testing.T, addr, group string, tlsConf *kafka.TLSConfig, sasl *kafka.SASLConfig) (u *user, consumerErr, producerErr error) {
	t.Helper()
	level := &slog.HandlerOptions{Level: slog.LevelDebug}
	u = &user{s: s, began: time.Now(), manager: kafka.New(sarama.Driver{}, kafka.WithLogger(slog.New(slog.NewJSONHandler(s.seen, level))))}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, u.manager.Shutdown(ctx))
	})
	consumer := kafka.ConsumerConfig{
		JobName: "job", BootstrapServers: addr, Topic: "t", ConsumerGroup: group, TLS: tlsConf, SASL: sasl,
		SessionTimeout: 3 * time.Second, HeartbeatInterval: time.Second, RebalanceTimeout: 10 * time.Second,
		Backoff: kafka.Backoff{Min: 200 * time.Millisecond, Max: time.Second}, MaxConsecutiveErrors: 3,
	}
	producer := kafka.ProducerConfig{BootstrapServers: addr, TLS: tlsConf, SASL: sasl}
	s.seen.note(consumer)
	s.seen.note(producer)
	consumerErr = u.manager.RegisterConsumer(t.Context(), kafka.NewConsumer(consumer, func(context.Context, *kafka.Message) error { return nil }))
	if consumerErr == nil {
		u.switchOn(t)
		require.NoError(t, u.manager.StartAllConsumers(context.Background()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // it tries until then, unless the refusal is permanent
	defer cancel()
	u.producer, producerErr = u.manager.RegisterProducer(ctx, producer)
	s.seen.note(consumerErr)
	s.seen.note(producerErr)
	return u, consumerErr, producerErr
}

func (u *user) switchOn(t *testing.T) {
	t.Helper()
	require.NoError(t, u.manager.SetConsumerSwitch("job", true))
}

// settled waits until the consumer runs or has been disabled, and returns its
// status and how long that took.
func (u *user) settled(t *testing.T) (kafka.ConsumerStatus, time.Duration) {
	return u.until(t, "comes to run or is disabled", func(s kafka.ConsumerStatus) bool {
		return s.State == kafka.StateRunning || s.State == kafka.StateDisabled
	})
}

func (u *user) until(t *testing.T, what string, is func(kafka.ConsumerStatus) bool) (kafka.ConsumerStatus, time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		s, err := u.manager.Consumer("job")
		require.NoError(t, err)
		u.s.seen.note(s)
		if is(s) {
			return s, time.Since(began)
		}
		require.LessOrEqual(t, time.Since(began), patience, "the consumer never %s; status %+v", what, s)
		time.Sleep(5 * time.Millisecond)
	}
}

func (u *user) send(t *testing.T) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	err := u.producer.Send(ctx, "t", nil, []byte("v"))
	u.s.seen.note(err)
	return time.Since(began), err
}

// wantHidden looks for a secret in all that was printed, in every form.
func (e *everything) wantHidden(t *testing.T, secrets ...string) {
	t.Helper()
	out := e.String()
	assert.NotEmpty(t, out, "nothing was printed")
	for _, secret := range secrets {
		for _, form := range disguises(secret) {
			i := strings.Index(out, form)
			assert.Negative(t, i, "%q shows as %q in …%s…", secret, form, out[max(0, i-200):min(len(out), max(0, i)+200)])
		}
	}
}

// disguises returns encodings of a secret, which must not show either: for base64, at
// the three positions in a group of bytes, without characters that depend on its
// neighbours.
func disguises(secret string) []string {
	forms := []string{
		secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		fmt.Sprintf("% x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			s := enc.EncodeToString(append(make([]byte, shift), secret...))
			forms = append(forms, s[shift+1:len(s)-1])
		}
	}
	return forms
}

func (s *secured) clientPair(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key, err := s.Authority().Issue(kafkacluster.Certificate{CommonName: name})
	require.NoError(t, err)
	return s.file(t, name+".pem", cert), s.file(t, name+".key", key)
}

// bearer gives unsecured tokens (KIP-255), which the broker of this test accepts,
// good for some time.
func bearer(subject string, good time.Duration) *kafka.SASLConfig {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, subject, time.Now().Add(-2*time.Hour).Unix(), time.Now().Add(good).Unix())
	token := kafka.Token{Value: kafka.Secret(part(`{"alg":"none"}`) + "." + part(claims) + ".")}
	return &kafka.SASLConfig{
		Mechanism: kafka.SASLOAuthBearer, AllowPlaintext: true,
		TokenSource: func(context.Context) (kafka.Token, error) { return token, nil },
	}
}

func login(m kafka.SASLMechanism, name, password string) *kafka.SASLConfig {
	return &kafka.SASLConfig{Mechanism: m, User: name, Password: kafka.Secret(password), AllowPlaintext: true}
}

// acl grants or withdraws an operation of bob, and returns when the broker applies it.
func (s *secured) acl(t *testing.T, grant bool, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	if grant {
		req := kmsg.NewPtrCreateACLsRequest()
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:bob", "*", op, kmsg.ACLPermissionTypeAllow
		req.Creations = append(req.Creations, c)
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
		}
		require.NoError(t, err)
		s.awaitACL(t, true, kind, name, op)
		return
	}
	req := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	principal := "User:bob"
	f.ResourceType, f.ResourceName, f.ResourcePatternType = kind, &name, kmsg.ACLResourcePatternTypeLiteral
	f.Principal, f.Operation, f.PermissionType = &principal, op, kmsg.ACLPermissionTypeAny
	req.Filters = append(req.Filters, f)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
	}
	require.NoError(t, err)
	require.NotEmpty(t, resp.Results[0].MatchingACLs, "ACLs that were withdrawn")
	s.awaitACL(t, false, kind, name, op)
}

// password changes the SCRAM-SHA-512 password of a user, and returns when the broker
// asks for it.
func (s *secured) password(t *testing.T, name, password string) {
	t.Helper()
	const scramSHA512, iterations = 2, 4096
	salt := []byte("salt of a test")
	salted, err := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	require.NoError(t, err)
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = name, scramSHA512, iterations, salt, salted
	req.Upsertions = append(req.Upsertions, u)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
	}
	require.NoError(t, err)
	s.awaitLogin(t, name, password)
}

// certify replaces the certificate of the broker's listeners while it runs.
func (s *secured) certify(t *testing.T, authority *kafkacluster.Authority, name string) {
	t.Helper()
	cert, key, err := authority.Issue(kafkacluster.Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1", "localhost"}})
	require.NoError(t, err)
	path := s.file(t, name, slices.Concat(cert, key))
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	for _, listener := range []string{"ssl", "sasl_ssl"} {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = "listener.name."+listener+".ssl.keystore.location", kmsg.IncrementalAlterConfigOpSet, &path
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		if err = kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil && resp.Resources[0].ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *resp.Resources[0].ErrorMessage)
		}
	}
	require.NoError(t, err)
	s.awaitCertificate(t, cert)
}

// awaitCertificate returns when both listeners show the certificate: the broker
// answers before they do, and each gets it for itself.
func (s *secured) awaitCertificate(t *testing.T, want []byte) {
	t.Helper()
	block, _ := pem.Decode(want)
	const always = 10 // times in a row: each of a listener's threads learns of it for itself
	for _, listener := range []string{"SSL", "SASL_SSL"} {
		n := 0
		await(t, "the new certificate on "+listener, func() error {
			c, err := tls.Dial("tcp", s.taps[listener].addr(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				return err
			}
			defer c.Close()
			if n++; !bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, block.Bytes) {
				n = 0
			}
			if n < always {
				return fmt.Errorf("shown %d times in a row", n)
			}
			return nil
		})
	}
}

// await returns when a broker has applied a change, that is, when try returns nil. The controller answers a change of a password, an ACL or a
// certificate before the broker that serves clients has heard of it.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		require.LessOrEqual(t, time.Since(began), patience, "waited for %s: %v", what, err)
	}
}

// awaitLogin returns when the broker accepts the password and with it, since
// there is only one, no earlier one.
func (s *secured) awaitLogin(t *testing.T, name, password string) {
	t.Helper()
	await(t, "the new password of "+name, func() error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.taps["SASL_PLAINTEXT"].addr()), kgo.RequestRetries(0), kgo.DisableClientMetrics(),
			kgo.SASL(scram.Auth{User: name, Pass: password}.AsSha512Mechanism()))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return cl.Ping(ctx)
	})
}

// awaitACL returns when the broker's authorizer knows the ACL, or no longer does.
func (s *secured) awaitACL(t *testing.T, granted bool, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrDescribeACLsRequest()
	principal := "User:bob"
	req.ResourceType, req.ResourceName, req.ResourcePatternType = kind, &name, kmsg.ACLResourcePatternTypeLiteral
	req.Principal, req.Operation, req.PermissionType = &principal, op, kmsg.ACLPermissionTypeAny
	await(t, fmt.Sprintf("%v of %s, granted: %t", op, name, granted), func() error {
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil && (len(resp.Resources) > 0) != granted {
			err = fmt.Errorf("the broker names %d", len(resp.Resources))
		}
		return err
	})
}

// A row is one configuration, and the outcome that it must have.
type row struct {
	name     string
	listener string
	addr     string // instead of a listener
	tls      *kafka.TLSConfig
	sasl     *kafka.SASLConfig

	refused   string // part of the error at registration; then nothing is dialed
	disabled  string // part of why the consumer is disabled and the producer fails; "" if both work
	handshake int    // see tlsApplication
	most      int    // application bytes of one connection
}

// A client of TLS 1.3 is done before the broker has looked at its certificate, and
// a port that wants SASL does not ask for it: the client may have sent one request
// by then, which holds the client's name only.
const lonelyRequest = 120

func TestRealSecurityTable(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	t.Run("start", s.testStart)
	t.Run("running", s.testRunning)
	s.seen.wantHidden(t, passwordOfAlice, passwordOfBob, wrongPassword, tokenSubject)
}

// testStart tries settings that are right or wrong from the beginning.
func (s *secured) testStart(t *testing.T) {
	foreign, err := kafkacluster.NewAuthority()
	require.NoError(t, err)
	ca := s.file(t, "ca.pem", s.ca)
	foreignCA := s.file(t, "foreign-ca.pem", foreign.PEM())
	certFile, keyFile := s.clientPair(t, "alice")
	_, otherKey := s.clientPair(t, "other")
	fcert, fkey, err := foreign.Issue(kafkacluster.Certificate{CommonName: "alice"})
	require.NoError(t, err)
	foreignCert, foreignKey := s.file(t, "f.pem", fcert), s.file(t, "f.key", fkey)
	trusted := &kafka.TLSConfig{CAFile: ca}
	alice := login(kafka.SASLScramSHA512, "alice", passwordOfAlice)
	plain := func(name, password string) *kafka.SASLConfig { return login(kafka.SASLPlain, name, password) }
	noPlaintext := *plain("alice", passwordOfAlice)
	noPlaintext.AllowPlaintext = false
	const started = 10 * time.Second // a busy machine included

	rows := []row{
		{name: "mutual TLS", listener: "SSL", tls: &kafka.TLSConfig{CAFile: ca, CertFile: certFile, KeyFile: keyFile}},
		{name: "PLAIN over TLS", listener: "SASL_SSL", tls: trusted, sasl: plain("alice", passwordOfAlice)},
		{name: "SCRAM-SHA-256 over TLS", listener: "SASL_SSL", tls: trusted, sasl: login(kafka.SASLScramSHA256, "alice", passwordOfAlice)},
		{name: "SCRAM-SHA-512 over TLS", listener: "SASL_SSL", tls: trusted, sasl: alice},
		{name: "OAUTHBEARER over TLS", listener: "SASL_SSL", tls: trusted, sasl: bearer(tokenSubject, time.Hour)},
		{name: "any certificate accepted (InsecureSkipVerify)", listener: "SASL_SSL", tls: &kafka.TLSConfig{InsecureSkipVerify: true}, sasl: alice},

		{name: "unknown authority", listener: "SASL_SSL", tls: &kafka.TLSConfig{CAFile: foreignCA}, sasl: alice, disabled: "unknown authority", handshake: 1},
		{name: "other host name", listener: "SASL_SSL", tls: &kafka.TLSConfig{CAFile: ca, ServerName: "example.org"}, sasl: alice, disabled: "example.org", handshake: 1},
		{name: "expired certificate", addr: expired(t, s.Authority()), tls: trusted, sasl: alice, disabled: "expired", handshake: 1},
		{name: "no client certificate", listener: "SSL", tls: trusted, disabled: "TLS_HANDSHAKE_FAILED", handshake: 2, most: lonelyRequest},
		{name: "no client certificate, TLS 1.2", listener: "SSL", tls: &kafka.TLSConfig{CAFile: ca, Config: &tls.Config{MaxVersion: tls.VersionTLS12}}, disabled: "TLS_HANDSHAKE_FAILED"},
		{name: "client certificate of a foreign authority", listener: "SSL", tls: &kafka.TLSConfig{CAFile: ca, CertFile: foreignCert, KeyFile: foreignKey}, disabled: "TLS_HANDSHAKE_FAILED", handshake: 3, most: lonelyRequest},
		{name: "TLS to a plaintext port", listener: "SASL_PLAINTEXT", tls: trusted, sasl: alice, disabled: "does this port speak TLS"},
		{name: "plaintext to a TLS port", listener: "SASL_SSL", sasl: alice, disabled: "does this port want TLS"},

		{name: "PLAIN, wrong password", listener: "SASL_PLAINTEXT", sasl: plain("alice", wrongPassword), disabled: "SASL_AUTHENTICATION_FAILED"},
		{name: "SCRAM-SHA-256, wrong password", listener: "SASL_PLAINTEXT", sasl: login(kafka.SASLScramSHA256, "alice", wrongPassword), disabled: "SASL_AUTHENTICATION_FAILED"},
		{name: "SCRAM-SHA-512, unknown user", listener: "SASL_PLAINTEXT", sasl: login(kafka.SASLScramSHA512, "nobody", wrongPassword), disabled: "SASL_AUTHENTICATION_FAILED"},
		{name: "OAUTHBEARER, a token that has expired", listener: "SASL_PLAINTEXT", sasl: bearer(tokenSubject, -time.Hour), disabled: "SASL_AUTHENTICATION_FAILED"},
		{name: "no SASL on a SASL port", listener: "SASL_PLAINTEXT", disabled: "does this port want TLS or SASL", most: lonelyRequest},

		{name: "CA file missing", listener: "SASL_SSL", tls: &kafka.TLSConfig{CAFile: filepath.Join(s.dir, "missing")}, sasl: alice, refused: "TLS.CAFile"},
		{name: "CA file empty", listener: "SASL_SSL", tls: &kafka.TLSConfig{CAFile: s.file(t, "empty", nil)}, sasl: alice, refused: "TLS.CAFile"},
		{name: "CA file not PEM", listener: "SASL_SSL", tls: &kafka.TLSConfig{CAFile: s.file(t, "text", []byte("hello"))}, sasl: alice, refused: "TLS.CAFile"},
		{name: "certificate without key", listener: "SSL", tls: &kafka.TLSConfig{CAFile: ca, CertFile: certFile}, refused: "TLS.KeyFile"},
		{name: "key of another certificate", listener: "SSL", tls: &kafka.TLSConfig{CAFile: ca, CertFile: certFile, KeyFile: otherKey}, refused: "TLS.CertFile"},
		{name: "unknown mechanism", listener: "SASL_SSL", tls: trusted, sasl: login("SCRAM", "alice", passwordOfAlice), refused: "SASL.Mechanism"},
		{name: "empty user", listener: "SASL_SSL", tls: trusted, sasl: plain("", passwordOfAlice), refused: "SASL.User"},
		{name: "empty password", listener: "SASL_SSL", tls: trusted, sasl: plain("alice", ""), refused: "SASL.Password"},
		{name: "PLAIN without TLS", listener: "SASL_PLAINTEXT", sasl: &noPlaintext, refused: "SASL.AllowPlaintext"},
	}
	t.Log("| tried | the consumer | after | the producer | after | application bytes sent |")
	t.Log("|---|---|---|---|---|---|")
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) { s.try(t, i, r, started) })
	}
	assert.True(t, strings.Contains(s.seen.String(), "certificates are not verified"), "no log warns of InsecureSkipVerify")
}

// try runs a row with one consumer and one producer.
func (s *secured) try(t *testing.T, i int, r row, limit time.Duration) {
	addr, taps := r.addr, []*tap{}
	if addr == "" {
		p := s.taps[r.listener]
		p.reset()
		addr, taps = p.addr(), append(taps, p)
	}
	began := time.Now()
	u, consumerErr, producerErr := s.newUser(t, addr, fmt.Sprintf("row-%d", i), r.tls, r.sasl)
	producerTook := time.Since(began)
	seen, consumerTook := "", time.Duration(0)
	if r.refused != "" {
		assert.ErrorContains(t, consumerErr, r.refused)
		assert.ErrorContains(t, producerErr, r.refused)
		assert.Zero(t, taps[0].dialed(), "connections")
		s.line(t, "| %s | refused at registration: %s | 0 s | the same | 0 s | 0, nothing is dialed |", r.name, brief(consumerErr))
		return
	}
	require.NoError(t, consumerErr)
	status, _ := u.settled(t)
	consumerTook = status.Since.Sub(u.began)
	if producerErr == nil {
		producerTook, producerErr = u.send(t)
	}
	if r.disabled == "" {
		require.Equal(t, kafka.StateRunning, status.State, "state of the consumer: %v", status.Reason)
		require.NoError(t, producerErr)
		s.line(t, "| %s | runs | %s | sent | %s | |", r.name, short(consumerTook), short(producerTook))
		return
	}
	assert.Equal(t, kafka.StateDisabled, status.State, "state of the consumer: %v", status.Reason)
	assert.ErrorContains(t, status.Reason, r.disabled)
	assert.ErrorContains(t, producerErr, r.disabled)
	assert.LessOrEqual(t, consumerTook, limit, "time of the consumer")
	assert.LessOrEqual(t, producerTook, limit, "time of the producer")
	if status.State == kafka.StateDisabled {
		seen = "disabled: " + brief(status.Reason)
	}
	application, introduced := 0, ""
	for _, p := range taps {
		var names []string
		var err error
		if r.tls != nil {
			application, err = tlsApplication(p.sent(), r.handshake)
		} else if application, names = plainApplication(p.sent()); len(names) > 0 {
			introduced = " (" + strings.Join(names, ", ") + " before)"
		}
		assert.NoError(t, err)
		assert.LessOrEqual(t, application, r.most*p.dialed(), "bytes of application data that left the machine")
	}
	s.line(t, "| %s | %s | %s | %s | %s | %d%s |", r.name, seen, short(consumerTook), brief(producerErr), short(producerTook), application, introduced)
}

func short(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// brief returns the text of an error as one cell of a table.
func brief(err error) string {
	if err == nil {
		return "-"
	}
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), "|", "/"), "\n", "; ")
}

// expired serves TLS with a certificate that was good until an hour ago.
func expired(t *testing.T, authority *kafkacluster.Authority) string {
	t.Helper()
	cert, key, err := authority.Issue(kafkacluster.Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1"}, NotAfter: time.Now().Add(-time.Hour)})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return newTap(t, l.Addr().String()).addr()
}

// line writes a line of the table.
func (s *secured) line(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Log(strings.ReplaceAll(fmt.Sprintf(format, args...), s.dir+"/", ""))
}

// cut closes all connections of clients.
func (s *secured) cut() {
	for _, p := range s.taps {
		p.cut()
	}
}

// wantDisabled waits until the consumer is disabled, and returns how long that
// took and why it is.
func (u *user) wantDisabled(t *testing.T, code string) (string, time.Duration) {
	t.Helper()
	status, took := u.until(t, "is disabled", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateDisabled })
	assert.ErrorContains(t, status.Reason, code)
	return brief(status.Reason), took
}

// wantRunning switches the consumer on, if it is off, and waits until it has the
// partition.
func (u *user) wantRunning(t *testing.T) time.Duration {
	t.Helper()
	u.switchOn(t)
	_, took := u.until(t, "runs", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateRunning && len(s.Partitions) == 1 })
	return took
}

func (u *user) wantSent(t *testing.T) time.Duration {
	t.Helper()
	took, err := u.send(t)
	require.NoError(t, err)
	return took
}

func (u *user) wantRefused(t *testing.T, code string) (string, time.Duration) {
	t.Helper()
	took, err := u.send(t)
	assert.ErrorContains(t, err, code)
	return brief(err), took
}

// testRunning changes permissions, passwords and certificates while a consumer and a
// producer run.
func (s *secured) testRunning(t *testing.T) {
	ca := s.file(t, "ca.pem", s.ca)
	bob := login(kafka.SASLScramSHA512, "bob", passwordOfBob)
	trusted := &kafka.TLSConfig{CAFile: ca}
	addr := s.taps["SASL_SSL"].addr()
	u, _, producerErr := s.newUser(t, addr, "bobs", trusted, bob)
	s.line(t, "| changed | the consumer | after | the producer | after |")
	s.line(t, "|---|---|---|---|---|")
	say := func(what, consumer string, consumerTook time.Duration, producer string, producerTook time.Duration) {
		s.line(t, "| %s | %s | %s | %s | %s |", what, consumer, short(consumerTook), producer, short(producerTook))
	}
	refused := func(what, consumerCode, producerCode string) {
		seen, took := u.wantDisabled(t, consumerCode)
		u.send(t) // a message in flight when the connection was cut may have an unknown outcome
		sent, sendTook := u.wantRefused(t, producerCode)
		say(what, seen, took, sent, sendTook)
	}
	works := func(what string) {
		took := u.wantRunning(t)
		say(what, "runs", took, "sent", u.wantSent(t))
	}
	const topic, group = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	const read, write = kmsg.ACLOperationRead, kmsg.ACLOperationWrite

	seen, took := u.wantDisabled(t, "_AUTHORIZATION_FAILED")
	assert.ErrorContains(t, producerErr, "CLUSTER_AUTHORIZATION_FAILED")
	say("nothing is granted", seen, took, brief(producerErr), 0)
	s.acl(t, true, topic, "t", read)
	s.acl(t, true, topic, "t", write)
	u, _, producerErr = s.newUser(t, addr, "bobs", trusted, bob)
	require.NoError(t, producerErr)
	seen, took = u.wantDisabled(t, "GROUP_AUTHORIZATION_FAILED")
	say("topic granted, group not", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, group, "bobs", read)
	works("group granted, switched on")

	s.acl(t, false, topic, "t", write)
	seen, took = u.wantRefused(t, "TOPIC_AUTHORIZATION_FAILED")
	say("write withdrawn", "runs", 0, seen, took)
	s.acl(t, true, topic, "t", write)
	works("write granted again")

	s.acl(t, false, topic, "t", read)
	seen, took = u.wantDisabled(t, "TOPIC_AUTHORIZATION_FAILED")
	say("read withdrawn", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, topic, "t", read)
	works("read granted again, switched on")

	s.acl(t, false, group, "bobs", read)
	seen, took = u.wantDisabled(t, "GROUP_AUTHORIZATION_FAILED")
	say("group withdrawn", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, group, "bobs", read)
	works("group granted again, switched on")

	s.password(t, "bob", passwordOfBob+"-new")
	works("password rotated, connections live on")
	s.cut()
	refused("connections cut after that", "SASL_AUTHENTICATION_FAILED", "SASL_AUTHENTICATION_FAILED")
	renewed, _, _ := s.newUser(t, addr, "bobs", trusted, login(kafka.SASLScramSHA512, "bob", passwordOfBob+"-new"))
	took = renewed.wantRunning(t)
	say("another service with the new password", "runs", took, "sent", renewed.wantSent(t))
	require.NoError(t, renewed.manager.SetConsumerSwitch("job", false))
	s.password(t, "bob", passwordOfBob)
	works("password rotated back, switched on")

	foreign, err := kafkacluster.NewAuthority()
	require.NoError(t, err)
	s.certify(t, s.Authority(), "second.pem")
	s.cut()
	works("broker's certificate replaced, connections cut")
	s.certify(t, foreign, "foreign.pem")
	s.cut()
	refused("replaced by one of a foreign authority, connections cut", "TLS_HANDSHAKE_FAILED", "TLS_HANDSHAKE_FAILED")
	s.certify(t, s.Authority(), "third.pem")
	works("replaced by a good one, switched on")

	s.testClientCertificate(t, foreign, &u, works, refused)
}

// testClientCertificate replaces the certificate of a client that runs, as a
// service does whose certificates live for hours only. It makes that client *u.
func (s *secured) testClientCertificate(t *testing.T, foreign *kafkacluster.Authority, u **user, works func(string), refused func(what, consumer, producer string)) {
	t.Helper()
	conf := &kafka.TLSConfig{CAFile: filepath.Join(s.dir, "ca.pem")}
	issue := func(a *kafkacluster.Authority) {
		cert, key, err := a.Issue(kafkacluster.Certificate{CommonName: "alice"})
		require.NoError(t, err)
		conf.CertFile, conf.KeyFile = s.file(t, "renewed.pem", cert), s.file(t, "renewed.key", key)
	}
	issue(s.Authority())
	var err error
	*u, _, err = s.newUser(t, s.taps["SSL"].addr(), "certified", conf, nil)
	require.NoError(t, err)
	works("mutual TLS")
	issue(foreign)
	s.cut()
	refused("client's certificate replaced by one of a foreign authority, connections cut", "TLS_HANDSHAKE_FAILED", "TLS_HANDSHAKE_FAILED")
	issue(s.Authority())
	works("replaced by a good one, switched on")
}
