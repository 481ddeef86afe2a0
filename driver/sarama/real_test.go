package sarama

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// The main scenarios again, over a real Kafka.

func TestRealRebalance(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			topic := fmt.Sprintf("churn-%s-%d", strategy, time.Now().UnixNano())
			if err := cluster.CreateTopic(t.Context(), topic, churnPartitions, nil); err != nil {
				t.Fatal(err)
			}
			cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
			cfg.Group, cfg.Topics, cfg.BalanceStrategies = topic, []string{topic}, []driver.BalanceStrategy{strategy}
			churn(t, cfg)
		})
	}
}

func TestRealIdleCloseIsFast(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	topic := fmt.Sprintf("idle-%d", time.Now().UnixNano())
	if err := cluster.CreateTopic(t.Context(), topic, 8, nil); err != nil {
		t.Fatal(err)
	}
	cfg := consumerConfig(strings.Split(cluster.Bootstrap(), ","))
	cfg.Group, cfg.Topics = topic, []string{topic}
	wantFastClose(t, cfg, 50*time.Millisecond)
}

func TestRealSecurity(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Security: &kafkacluster.Security{
		Users:      map[string]string{"alice": "secret-alice", "bob": "secret-bob"},
		SuperUsers: []string{"User:alice"},
	}})
	if err := cluster.CreateTopic(t.Context(), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
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
			var de *driver.Error
			switch {
			case c.code == "" && err != nil:
				t.Errorf("err = %v", err)
			case c.code != "" && (!errors.As(err, &de) || de.Code != c.code):
				t.Errorf("err = %v, want %s", err, c.code)
			case err != nil && strings.Contains(err.Error(), "wrong-"):
				t.Errorf("the password shows in %v", err)
			}
			wantPermanent := c.code == "SASL_AUTHENTICATION_FAILED" || c.name == "untrusted authority" || c.name == "no client certificate"
			if wantPermanent && !errors.Is(err, driver.ErrPermanent) {
				t.Errorf("err = %v, want it to be permanent", err)
			}
		})
	}

	t.Run("not authorized", func(t *testing.T) {
		brokers := strings.Split(cluster.Addr("SASL_SSL"), ",")
		bob := user(driver.SASLScramSHA512, "bob", "secret-bob")
		consumer := consumerConfig(brokers)
		consumer.TLS, consumer.SASL = trusted, bob
		m := start(t, Driver{}, consumer, newRecorder())
		if err := m.ranOut(t); !errors.Is(err, driver.ErrPermanent) {
			t.Errorf("Run = %v, want it to be permanent", err)
		}
		producer := producerConfig(brokers)
		producer.TLS, producer.SASL, producer.Idempotent = trusted, bob, false
		err := send(t, openProducer(t, producer), &driver.Message{Topic: "t", Partition: 0})
		if !errors.Is(err, driver.ErrPermanent) || errors.Is(err, driver.ErrUnknownOutcome) {
			t.Errorf("ack = %v, want it to be permanent", err)
		}
	})
}

// TestRealBrokerDies kills the broker that leads a partition and coordinates the
// group, while records are sent and consumed.
func TestRealBrokerDies(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Brokers: 3, Private: true})
	if err := cluster.CreateTopic(t.Context(), "t", 3, nil); err != nil {
		t.Fatal(err)
	}
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
			if err := cluster.Broker(1).Kill(); err != nil {
				t.Fatal(err)
			}
		}
		m := &driver.Message{Topic: "t", Partition: int32(i % 3), Value: fmt.Append(nil, i), Acker: ack{answers, i}}
		if err := p.Produce(within(t, time.Minute), m); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := p.Flush(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got := answers.of(i); !slices.Equal(got, []error{nil}) {
			t.Fatalf("message %d: %v", i, got)
		}
	}
	seen := map[string]bool{}
	r.wait(t, "all records", func() bool {
		for _, g := range r.records {
			seen[g.value] = true
		}
		return len(seen) == n
	})
}
