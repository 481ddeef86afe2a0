package sarama

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// The main scenarios again, over a real Kafka.

func TestRealRebalance(t *testing.T) {
	t.Parallel()
	cluster := shared.ForTest(t)
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			topic := fmt.Sprintf("churn-%s-%d", strategy, time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, churnPartitions, nil))
			cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
			cfg.Group, cfg.Topics, cfg.BalanceStrategies = topic, []string{topic}, []driver.BalanceStrategy{strategy}
			churn(t, cfg)
		})
	}
}

func TestRealIdleCloseIsFast(t *testing.T) {
	cluster := shared.ForTest(t)
	topic := fmt.Sprintf("idle-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 8, nil))
	cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
	cfg.Group, cfg.Topics = topic, []string{topic}
	wantFastClose(t, cfg, 50*time.Millisecond)
}

func TestRealSecurity(t *testing.T) {
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
		consumer := consumerConfig(brokers)
		consumer.TLS, consumer.SASL = trusted, bob
		m := start(t, Driver{}, consumer, newRecorder())
		assert.ErrorIs(t, m.ranOut(t), driver.ErrPermanent, "Run")
		producer := producerConfig(brokers)
		producer.TLS, producer.SASL, producer.Idempotent = trusted, bob, false
		err := send(t, openProducer(t, producer), &driver.Message{Topic: "t", Partition: 0})
		assert.ErrorIs(t, err, driver.ErrPermanent)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
	})
}

// TestRealBrokerDies kills the broker that leads a partition and coordinates the
// group, while records are sent and consumed.
func TestRealBrokerDies(t *testing.T) {
	t.Parallel()
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Brokers: 3, Private: true})
	require.NoError(t, cluster.CreateTopic(t.Context(), "t", 3, nil))
	brokers := strings.Split(cluster.Bootstrap(), ",")
	r := newRecorder()
	start(t, Driver{}, consumerConfig(brokers), r)
	cfg := producerConfig(brokers)
	cfg.MaxRetries, cfg.RetryBackoff = 1000, 50*time.Millisecond
	p := openProducer(t, cfg)
	answers := newAcks()
	const n = 3000
	for i := range n {
		if i == n/3 {
			require.NoError(t, cluster.Broker(1).Kill())
		}
		m := &driver.Message{Topic: "t", Partition: int32(i % 3), Value: fmt.Append(nil, i), Acker: ack{answers, i}}
		require.NoError(t, p.Produce(within(t, time.Minute), m))
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, p.Flush(within(t, time.Minute)))
	for i := range n {
		require.Equal(t, []error{nil}, answers.of(i), "acknowledgements of message %d", i)
	}
	seen := map[string]bool{}
	r.wait(t, "all records", func() bool {
		for _, g := range r.records {
			seen[g.value] = true
		}
		return len(seen) == n
	})
}
