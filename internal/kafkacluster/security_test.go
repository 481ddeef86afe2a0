package kafkacluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func TestSecurity(t *testing.T) {
	c := ForTest(t, Config{Security: &Security{
		Users:      map[string]string{"alice": "wonderland", "bob": "builder"},
		SuperUsers: []string{"User:alice", "User:CN=alice"},
	}})
	if err := c.CreateTopic(timeout(t, time.Minute), "orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
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
		ok       func(error) bool
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
			if err := describe(t, "orders", opts...); !test.ok(err) {
				t.Errorf("client of %s got %v", test.listener, err)
			}
		})
	}
}

// describe asks for the partitions of a topic.
func describe(t *testing.T, topic string, opts ...kgo.Opt) error {
	cl, err := newClient(nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	_, err = partitionsOf(timeout(t, 20*time.Second), cl, topic)
	return err
}

func succeeds(err error) bool { return err == nil }

func fails(err error) bool {
	return err != nil && !errors.Is(err, context.DeadlineExceeded)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isUnknownAuthority(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
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
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg
}
