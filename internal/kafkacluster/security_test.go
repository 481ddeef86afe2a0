package kafkacluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestSecurity(t *testing.T) {
	c := ForTest(t, Config{Security: &Security{
		Users:      map[string]string{"alice": "wonderland", "bob": "builder"},
		SuperUsers: []string{"User:alice", "User:CN=alice"},
	}})
	require.NoError(t, c.CreateTopic(testkit.Within(t, time.Minute), "orders", 1, nil))
	other, err := NewAuthority()
	require.NoError(t, err)
	plainly := func(user, password string) sasl.Mechanism {
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	}
	alice := scram.Auth{User: "alice", Pass: "wonderland"}
	anonymous := clientTLS(t, c.Authority(), nil, Certificate{})
	for _, test := range []struct {
		name     string
		listener string
		tls      *tls.Config
		sasl     sasl.Mechanism
		want     func(assert.TestingT, error)
	}{
		{"plaintext", "PLAINTEXT", nil, nil, succeeds},
		{"certificate", "SSL", clientTLS(t, c.Authority(), c.Authority(), Certificate{CommonName: "alice"}), nil, succeeds},
		{"certificate without grant", "SSL", clientTLS(t, c.Authority(), c.Authority(), Certificate{CommonName: "bob"}), nil, is(kerr.TopicAuthorizationFailed)},
		{"certificate of another authority", "SSL", clientTLS(t, c.Authority(), other, Certificate{CommonName: "alice"}), nil, fails},
		{"certificate that has expired", "SSL", clientTLS(t, c.Authority(), c.Authority(), Certificate{CommonName: "alice", NotAfter: time.Now().Add(-time.Hour)}), nil, fails},
		{"no certificate", "SSL", anonymous, nil, fails},
		{"other authority trusted", "SASL_SSL", clientTLS(t, other, nil, Certificate{}), plainly("alice", "wonderland"), isUnknownAuthority},
		{"PLAIN over TLS", "SASL_SSL", anonymous, plainly("alice", "wonderland"), succeeds},
		{"SCRAM-SHA-256 over TLS", "SASL_SSL", anonymous, alice.AsSha256Mechanism(), succeeds},
		{"SCRAM-SHA-512 over TLS", "SASL_SSL", anonymous, alice.AsSha512Mechanism(), succeeds},
		{"PLAIN", "SASL_PLAINTEXT", nil, plainly("alice", "wonderland"), succeeds},
		{"SCRAM-SHA-512", "SASL_PLAINTEXT", nil, alice.AsSha512Mechanism(), succeeds},
		{"user without grant", "SASL_PLAINTEXT", nil, plainly("bob", "builder"), is(kerr.TopicAuthorizationFailed)},
		{"wrong password", "SASL_SSL", anonymous, plainly("alice", "builder"), is(kerr.SaslAuthenticationFailed)},
		{"wrong password by SCRAM", "SASL_SSL", anonymous, scram.Auth{User: "alice", Pass: "builder"}.AsSha512Mechanism(), is(kerr.SaslAuthenticationFailed)},
		{"unknown user", "SASL_PLAINTEXT", nil, plainly("mallory", "builder"), is(kerr.SaslAuthenticationFailed)},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := []kgo.Opt{kgo.SeedBrokers(c.Addr(test.listener)), kgo.RequestRetries(0)}
			if test.tls != nil {
				opts = append(opts, kgo.DialTLSConfig(test.tls))
			}
			if test.sasl != nil {
				opts = append(opts, kgo.SASL(test.sasl))
			}
			test.want(t, describe(t, "orders", opts...))
		})
	}
}

// describe asks for the partitions of a topic.
func describe(t *testing.T, topic string, opts ...kgo.Opt) error {
	cl, err := newClient(nil, opts...)
	require.NoError(t, err)
	defer cl.Close()
	_, err = partitionsOf(testkit.Within(t, 20*time.Second), cl, topic)
	return err
}

func succeeds(t assert.TestingT, err error) { assert.NoError(t, err) }

func fails(t assert.TestingT, err error) {
	assert.Error(t, err)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
}

func is(target error) func(assert.TestingT, error) {
	return func(t assert.TestingT, err error) { assert.ErrorIs(t, err, target) }
}

func isUnknownAuthority(t assert.TestingT, err error) {
	var unknown x509.UnknownAuthorityError
	assert.ErrorAs(t, err, &unknown)
}

// clientTLS trusts one authority and, unless it is nil, presents a certificate
// of another.
func clientTLS(t *testing.T, trusted, issuer *Authority, c Certificate) *tls.Config {
	t.Helper()
	cfg := &tls.Config{RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AppendCertsFromPEM(trusted.PEM())
	if issuer == nil {
		return cfg
	}
	cert, key, err := issuer.Issue(c)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	cfg.Certificates = []tls.Certificate{pair}
	return cfg
}
