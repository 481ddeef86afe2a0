package wiretest

import (
	"crypto/tls"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
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

// userPatience bounds the wait for an outcome that a user must see.
const userPatience = 20 * time.Second

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

// SecurityTable tries right, wrong and changing settings on a real broker. The driver that loud
// returns prints all that its client prints, also to debug, to a writer: no secret may show in
// it.
func (Suite) SecurityTable(t *testing.T, loud func(*testing.T, io.Writer) driver.Driver) {
	t.Parallel()
	s := newSecured(t, loud)
	t.Run("start", s.testStart)
	t.Run("running", s.testRunning)
	t.Run("re-authentication", s.testReauthentication)
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
		{name: "SCRAM-SHA-512, unknown user", listener: "SASL_PLAINTEXT", sasl: login(kafka.SASLScramSHA512, "stranger", wrongPassword), disabled: "SASL_AUTHENTICATION_FAILED"},
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
