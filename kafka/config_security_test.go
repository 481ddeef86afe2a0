package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A badSecurity is a TLS or SASL setting that is refused. In its error
// DIR stands for the directory of the files.
type badSecurity struct {
	name string
	tls  *TLSConfig
	sasl *SASLConfig
	want string
}

// refuseSecurity checks each row for a consumer and for a producer.
func refuseSecurity(t *testing.T, dir string, rows []badSecurity) {
	t.Helper()
	var consumers []badConsumer
	var producers []badProducer
	for _, row := range rows {
		want := strings.ReplaceAll(row.want, "DIR", dir)
		consumers = append(consumers, badConsumer{row.name, func(c *ConsumerConfig) { c.TLS, c.SASL = row.tls, row.sasl }, want})
		producers = append(producers, badProducer{row.name, func(c *ProducerConfig) { c.TLS, c.SASL = row.tls, row.sasl }, want})
	}
	refuseConsumers(t, consumers)
	refuseProducers(t, producers)
}

func TestB06_TLSThatCanNotBeHonouredIsAnError(t *testing.T) {
	dir := t.TempDir()
	one, two := newTestPair(t, dir, "one"), newTestPair(t, dir, "two")
	file := func(name string, data ...[]byte) string { return writeTestFile(t, dir, name, bytes.Join(data, nil)) }
	empty, garbage := file("empty", []byte(" \n")), file("garbage", []byte("not a certificate"))
	truncated := file("truncated", one.certPEM, two.certPEM[:len(two.certPEM)/2])
	noDER := file("noder", one.certPEM, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))

	refuseSecurity(t, dir, []badSecurity{
		{"CA missing", &TLSConfig{CAFile: dir + "/none"}, nil, `TLS.CAFile: open DIR/none: no such file or directory`},
		{"CA a directory", &TLSConfig{CAFile: dir}, nil, `TLS.CAFile: read DIR: is a directory`},
		{"CA empty", &TLSConfig{CAFile: empty}, nil, `TLS.CAFile: "DIR/empty" is empty`},
		{"CA not PEM", &TLSConfig{CAFile: garbage}, nil, `TLS.CAFile: "DIR/garbage" is not PEM`},
		{"CA without certificate", &TLSConfig{CAFile: one.keyFile}, nil, `TLS.CAFile: "DIR/one.key" holds no CERTIFICATE`},
		{"CA truncated", &TLSConfig{CAFile: truncated}, nil,
			`TLS.CAFile: "DIR/truncated" is damaged: 1 of its 2 PEM blocks can be read`},
		{"CA with a bad certificate", &TLSConfig{CAFile: noDER}, nil,
			`TLS.CAFile: "DIR/noder": certificate 2: x509: malformed certificate`},
		{"CA twice", &TLSConfig{CAFile: one.certFile, Config: &tls.Config{RootCAs: x509.NewCertPool()}}, nil,
			`TLS.CAFile: is set, and so is Config.RootCAs`},

		{"certificate without key", &TLSConfig{CertFile: one.certFile}, nil, `TLS.KeyFile: is empty, and CertFile is set`},
		{"key without certificate", &TLSConfig{KeyFile: one.keyFile}, nil, `TLS.CertFile: is empty, and KeyFile is set`},
		{"certificate and key missing", &TLSConfig{CertFile: dir + "/c", KeyFile: dir + "/k"}, nil,
			"TLS.CertFile: open DIR/c: no such file or directory\nTLS.KeyFile: open DIR/k: no such file or directory"},
		{"key empty", &TLSConfig{CertFile: one.certFile, KeyFile: empty}, nil, `TLS.KeyFile: "DIR/empty" is empty`},
		{"key of another", &TLSConfig{CertFile: one.certFile, KeyFile: two.keyFile}, nil,
			`TLS.CertFile: "DIR/one.crt" with KeyFile "DIR/two.key": tls: private key does not match public key`},
		{"certificate garbage", &TLSConfig{CertFile: garbage, KeyFile: one.keyFile}, nil,
			`TLS.CertFile: "DIR/garbage" is not PEM`},
		{"key and certificate swapped", &TLSConfig{CertFile: one.keyFile, KeyFile: one.certFile}, nil,
			`TLS.CertFile: "DIR/one.key" with KeyFile "DIR/one.crt": tls: failed to find certificate PEM data in ` +
				`certificate input, but did find a private key; PEM inputs may have been switched`},
		{"certificate twice", &TLSConfig{CertFile: one.certFile, KeyFile: one.keyFile,
			Config: &tls.Config{Certificates: make([]tls.Certificate, 1)}}, nil,
			`TLS.CertFile: is set, and so is Config.Certificates or Config.GetClientCertificate`},

		{"server name with a port", &TLSConfig{ServerName: "kafka:9093"}, nil,
			`TLS.ServerName: "kafka:9093" is not a host name; a port does not belong to it`},
		{"server name twice", &TLSConfig{ServerName: "a", Config: &tls.Config{ServerName: "b"}}, nil,
			`TLS.ServerName: "a" is not Config.ServerName ("b")`},

		{"client auth", &TLSConfig{Config: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}}, nil,
			`TLS.Config.ClientAuth: is for servers and has no effect on a client`},
		{"client CAs for root CAs", &TLSConfig{Config: &tls.Config{ClientCAs: x509.NewCertPool()}}, nil,
			`TLS.Config.ClientCAs: is for servers and has no effect on a client`},
		{"a server's certificate", &TLSConfig{Config: &tls.Config{
			GetCertificate:     func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil },
		}}, nil, "TLS.Config.GetCertificate: is for servers and has no effect on a client\n" +
			"TLS.Config.GetConfigForClient: is for servers and has no effect on a client"},
		{"a server's sessions", &TLSConfig{Config: &tls.Config{
			WrapSession:                 func(tls.ConnectionState, *tls.SessionState) ([]byte, error) { return nil, nil },
			UnwrapSession:               func([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil },
			EncryptedClientHelloKeys:    []tls.EncryptedClientHelloKey{{}},
			GetEncryptedClientHelloKeys: func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) { return nil, nil },
		}}, nil, "TLS.Config.WrapSession: is for servers and has no effect on a client\n" +
			"TLS.Config.UnwrapSession: is for servers and has no effect on a client\n" +
			"TLS.Config.EncryptedClientHelloKeys: is for servers and has no effect on a client\n" +
			"TLS.Config.GetEncryptedClientHelloKeys: is for servers and has no effect on a client"},
		{"no version left", &TLSConfig{Config: &tls.Config{MaxVersion: tls.VersionTLS11}}, nil,
			`TLS.Config.MinVersion: TLS 1.2 is above the newest version allowed (TLS 1.1)`},
		{"no such version", &TLSConfig{Config: &tls.Config{MinVersion: 0x0305}}, nil,
			`TLS.Config.MinVersion: 0x0305 is above the newest version allowed (TLS 1.3)`},
	})
}

func TestTLSErrorsReachTheirCause(t *testing.T) {
	cfg := goodConsumer()
	cfg.TLS = &TLSConfig{CAFile: t.TempDir() + "/none"}
	_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	var cause *os.PathError
	require.ErrorAs(t, err, &cause)
}

// secure returns what the driver gets for a TLSConfig, and what was logged.
func secure(t *testing.T, c *TLSConfig) (cfg *tls.Config, logged string) {
	t.Helper()
	var out bytes.Buffer
	consumer := goodConsumer()
	consumer.TLS = c
	_, forDriver, err := resolveConsumer(&consumer, slog.New(slog.NewTextHandler(&out, nil)), false)
	require.NoError(t, err)
	return forDriver.TLS, out.String()
}

func TestTLSDefaults(t *testing.T) {
	cfg, _ := secure(t, nil)
	require.Nil(t, cfg, "without TLS")
	cfg, logged := secure(t, &TLSConfig{})
	require.NotNil(t, cfg)
	require.Nil(t, cfg.RootCAs, "the system's authorities")
	require.Equal(t, uint16(tls.VersionTLS12), cfg.MinVersion)
	require.False(t, cfg.InsecureSkipVerify)
	require.Empty(t, cfg.Certificates)
	require.Empty(t, logged)
}

func TestTLSConfigIsTheBaseAndIsNotChanged(t *testing.T) {
	one := newTestPair(t, t.TempDir(), "one")
	base := &tls.Config{NextProtos: []string{"x"}, MinVersion: tls.VersionTLS13}
	cfg, _ := secure(t, &TLSConfig{CAFile: one.certFile, CertFile: one.certFile, KeyFile: one.keyFile, ServerName: "one", Config: base})
	require.Equal(t, uint16(tls.VersionTLS13), cfg.MinVersion, "of the base")
	require.Equal(t, []string{"x"}, cfg.NextProtos, "of the base")
	require.NotNil(t, cfg.RootCAs)
	require.NotNil(t, cfg.GetClientCertificate)
	require.Equal(t, "one", cfg.ServerName)
	require.Nil(t, base.RootCAs, "the base was changed")
	require.Nil(t, base.GetClientCertificate, "the base was changed")
	require.Empty(t, base.ServerName, "the base was changed")
}

func TestWeakTLSWarns(t *testing.T) {
	for _, row := range []struct {
		name   string
		tls    *TLSConfig
		logged string
	}{
		{"field", &TLSConfig{InsecureSkipVerify: true}, "TLS.InsecureSkipVerify"},
		{"Config", &TLSConfig{Config: &tls.Config{InsecureSkipVerify: true}}, "TLS.InsecureSkipVerify"},
		{"version", &TLSConfig{Config: &tls.Config{MinVersion: tls.VersionTLS10}}, "TLS.Config.MinVersion: TLS 1.0"},
	} {
		_, logged := secure(t, row.tls)
		assert.Equal(t, 1, strings.Count(logged, "\n"), "%s: logged %q", row.name, logged)
		for _, part := range []string{"level=WARN", row.logged, "consumer=orders"} {
			assert.Contains(t, logged, part, row.name)
		}
	}
}

func TestARefusedConfigurationDoesNotWarn(t *testing.T) {
	var out bytes.Buffer
	cfg := ConsumerConfig{TLS: &TLSConfig{InsecureSkipVerify: true}}
	_, _, err := resolveConsumer(&cfg, slog.New(slog.NewTextHandler(&out, nil)), false)
	require.Error(t, err)
	require.Empty(t, out.String(), "logged")
}

// A configuration from files succeeds in a mutual handshake, and refuses a server of
// another authority.
func TestTLSFromFilesShakesHands(t *testing.T) {
	dir := t.TempDir()
	broker, client, other := newTestPair(t, dir, "broker"), newTestPair(t, dir, "client"), newTestPair(t, dir, "other")
	good, _ := secure(t, &TLSConfig{CAFile: broker.certFile, CertFile: client.certFile, KeyFile: client.keyFile, ServerName: "broker"})
	bad, _ := secure(t, &TLSConfig{CAFile: other.certFile, CertFile: client.certFile, KeyFile: client.keyFile, ServerName: "broker"})
	require.NoError(t, shakeHands(t, broker, client, good), "the right authority")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, shakeHands(t, broker, client, bad), &unknown, "another authority")
}

// shakeHands returns the error of the client, of the broker, or of both.
func shakeHands(t *testing.T, broker, client testPair, cfg *tls.Config) error {
	t.Helper()
	pair, err := tls.X509KeyPair(broker.certPEM, broker.keyPEM)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(client.certPEM)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	})
	require.NoError(t, err)
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(l) }()
	conn, err := tls.Dial("tcp", l.Addr().String(), cfg)
	if err == nil {
		defer conn.Close()
	}
	return errors.Join(err, <-served)
}

// serveOne takes one connection as far as the handshake.
func serveOne(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.(*tls.Conn).Handshake()
}

func TestB07_B08_SASLThatCanNotBeHonouredIsAnError(t *testing.T) {
	const known = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
	token := func(context.Context) (Token, error) { return Token{}, nil }
	good := func(change func(*SASLConfig)) *SASLConfig {
		s := &SASLConfig{Mechanism: SASLScramSHA256, User: "u", Password: "hunter2"}
		change(s)
		return s
	}
	rows := []badSecurity{
		{"mechanism empty", nil, good(func(s *SASLConfig) { s.Mechanism = "" }), `SASL.Mechanism: is empty; want one of ` + known},
		{"user empty", nil, good(func(s *SASLConfig) { s.User = "" }), `SASL.User: is empty`},
		{"password empty", nil, good(func(s *SASLConfig) { s.Password = "" }), `SASL.Password: is empty`},
		{"both empty", nil, &SASLConfig{Mechanism: SASLScramSHA512}, "SASL.User: is empty\nSASL.Password: is empty"},
		{"user with a space", nil, good(func(s *SASLConfig) { s.User = " u" }),
			`SASL.User: " u" begins or ends with white space`},
		{"user with a NUL", nil, good(func(s *SASLConfig) { s.User = "a\x00b" }), `SASL.User: "a\x00b" has a control character`},
		{"password from a file", nil, good(func(s *SASLConfig) { s.Password += "\n" }),
			`SASL.Password: begins or ends with white space`},
		{"password with a space", nil, good(func(s *SASLConfig) { s.Password = " " + s.Password }),
			`SASL.Password: begins or ends with white space`},
		{"password of two lines", nil, good(func(s *SASLConfig) { s.Password = "a\r\nb" }),
			`SASL.Password: has a control character`},
		{"password not UTF-8", nil, good(func(s *SASLConfig) { s.Password = "a\xff" }), `SASL.Password: is not valid UTF-8`},
		{"token beside a password", nil, good(func(s *SASLConfig) { s.TokenSource = token }),
			`SASL.TokenSource: has no effect with SCRAM-SHA-256`},
		{"PLAIN without TLS", nil, good(func(s *SASLConfig) { s.Mechanism = SASLPlain }),
			`SASL.AllowPlaintext: is false, and PLAIN without TLS shows its secret to anyone on the network path`},
		{"token without TLS", nil, &SASLConfig{Mechanism: SASLOAuthBearer, TokenSource: token},
			`SASL.AllowPlaintext: is false, and OAUTHBEARER without TLS shows its secret to anyone on the network path`},
		{"no token", &TLSConfig{}, &SASLConfig{Mechanism: SASLOAuthBearer},
			`SASL.TokenSource: is nil, and OAUTHBEARER needs it`},
		{"password beside a token", &TLSConfig{}, &SASLConfig{Mechanism: SASLOAuthBearer, User: "u", Password: "p", TokenSource: token},
			"SASL.User: has no effect with OAUTHBEARER\nSASL.Password: has no effect with OAUTHBEARER"},
		{"TLS was meant, but is wrong", &TLSConfig{CertFile: "c"}, good(func(s *SASLConfig) { s.Mechanism = SASLPlain }),
			`TLS.KeyFile: is empty, and CertFile is set`},
	}
	for _, m := range []string{"scram", "SCRAM-SHA-384", "SCRAM-SHA-256 ", "SCRAM-SHA-256-PLUS"} {
		rows = append(rows, badSecurity{m, nil, good(func(s *SASLConfig) { s.Mechanism = SASLMechanism(m) }),
			`SASL.Mechanism: "` + m + `" is none of ` + known})
	}
	for m, exact := range map[string]string{"plain": "PLAIN", "OAuthBearer": "OAUTHBEARER"} {
		rows = append(rows, badSecurity{m, nil, good(func(s *SASLConfig) { s.Mechanism = SASLMechanism(m) }),
			`SASL.Mechanism: "` + m + `" is written ` + exact})
	}
	refuseSecurity(t, t.TempDir(), rows)
}

func TestSASLIsTaken(t *testing.T) {
	token := func(context.Context) (Token, error) { return Token{Value: "v"}, nil }
	for _, row := range []struct {
		name string
		tls  *TLSConfig
		sasl SASLConfig
	}{
		{"PLAIN over TLS", &TLSConfig{}, SASLConfig{Mechanism: SASLPlain, User: "u", Password: "p q ä"}},
		{"PLAIN in the clear", nil, SASLConfig{Mechanism: SASLPlain, User: "u", Password: "p", AllowPlaintext: true}},
		{"SCRAM in the clear", nil, SASLConfig{Mechanism: SASLScramSHA512, User: "u", Password: "p"}},
		{"OAUTHBEARER over TLS", &TLSConfig{}, SASLConfig{Mechanism: SASLOAuthBearer, TokenSource: token}},
		{"OAUTHBEARER in the clear", nil, SASLConfig{Mechanism: SASLOAuthBearer, TokenSource: token, AllowPlaintext: true}},
	} {
		cfg := goodProducer()
		cfg.TLS, cfg.SASL = row.tls, &row.sasl
		_, forDriver, err := resolveProducer(cfg, "p", slog.New(slog.DiscardHandler))
		if !assert.NoError(t, err, row.name) {
			continue
		}
		s := forDriver.SASL
		assert.Equal(t, row.sasl.Mechanism, s.Mechanism, row.name)
		assert.Equal(t, row.sasl.User, s.User, row.name)
		assert.Equal(t, row.sasl.Password, s.Password, row.name)
		assert.Equal(t, row.sasl.TokenSource == nil, s.TokenSource == nil, row.name)
		assert.Equal(t, row.tls == nil, forDriver.TLS == nil, row.name)
	}
}
