package simulation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// A flaw makes a configuration one that is refused because of a field.
type flaw[C any] struct {
	field string
	make  func(*C)
}

type (
	consumerFlaw = flaw[kafka.ConsumerConfig]
	producerFlaw = flaw[kafka.ProducerConfig]
)

// refusesConsumer reports whether a consumer with the flaw is refused, with the
// field's name, and leaves nothing behind.
func (n *node) refusesConsumer(f consumerFlaw) bool {
	cfg := n.classic(n.groups[0])
	cfg.JobName = "flawed"
	f.make(&cfg)
	err := n.manager.RegisterConsumer(context.Background(), n.consumer(cfg))
	_, unknown := n.manager.Consumer(cfg.JobName)
	return names(err, f.field) && unknown != nil
}

// refusesProducer is the same for a producer.
func (n *node) refusesProducer(f producerFlaw) bool {
	cfg := kafka.ProducerConfig{BootstrapServers: "localhost:9092"}
	f.make(&cfg)
	p, err := n.manager.RegisterProducer(context.Background(), cfg)
	return names(err, f.field) && p == nil
}

func names(err error, field string) bool {
	var e *kafka.FieldError
	return errors.As(err, &e) && strings.HasPrefix(e.Field, field)
}

func consumerFlaws() []consumerFlaw {
	var all []consumerFlaw
	for _, some := range [][]consumerFlaw{namesOfConsumers(), numbersOfConsumers(), tlsFlaws(), saslFlaws()} {
		all = append(all, some...)
	}
	return all
}

func namesOfConsumers() (all []consumerFlaw) {
	add := func(field string, set func(*kafka.ConsumerConfig, string), values ...string) {
		for _, v := range values {
			all = append(all, consumerFlaw{field, func(c *kafka.ConsumerConfig) { set(c, v) }})
		}
	}
	add("JobName", func(c *kafka.ConsumerConfig, v string) { c.JobName = v },
		"", "  ", " a", "a/b", "a\nb", "\xff", strings.Repeat("n", 256))
	add("BootstrapServers", func(c *kafka.ConsumerConfig, v string) { c.BootstrapServers = v },
		"", "h:1,", "h", "h:0", "h:99999", "h:1,H:1", "kafka://h:1", "user:secret@h:1", "::1", "a b:1", ":1")
	add("Topic", func(c *kafka.ConsumerConfig, v string) { c.Topic, c.Topics = v, nil },
		"", ".", "..", "a b", "__consumer_offsets", strings.Repeat("t", 250))
	add("Topics[1]", func(c *kafka.ConsumerConfig, v string) { c.Topic, c.Topics = "", []string{"t", v} }, "t", "")
	add("ConsumerGroup", func(c *kafka.ConsumerConfig, v string) { c.ConsumerGroup = v }, "", " g", "\xff")
	add("ClientID", func(c *kafka.ConsumerConfig, v string) { c.ClientID = v }, "a\nb")
	add("InstanceID", func(c *kafka.ConsumerConfig, v string) { c.InstanceID = v }, "a b", ".", strings.Repeat("i", 250))
	add("RackID", func(c *kafka.ConsumerConfig, v string) { c.RackID = v }, "a\nb")
	return all
}

func numbersOfConsumers() []consumerFlaw {
	all := []consumerFlaw{
		{"InitialOffset", func(c *kafka.ConsumerConfig) { c.InitialOffset = 99 }},
		{"OutOfRange", func(c *kafka.ConsumerConfig) { c.OutOfRange = -1 }},
		{"IsolationLevel", func(c *kafka.ConsumerConfig) { c.IsolationLevel = 99 }},
		{"BalanceStrategies[0]", func(c *kafka.ConsumerConfig) { c.BalanceStrategies = []kafka.BalanceStrategy{99} }},
		{"BalanceStrategies[1]", func(c *kafka.ConsumerConfig) {
			c.BalanceStrategies = []kafka.BalanceStrategy{kafka.Range, kafka.Range}
		}},
		{"GroupProtocol", func(c *kafka.ConsumerConfig) { c.GroupProtocol = 99 }},
		{"BalanceStrategies", func(c *kafka.ConsumerConfig) {
			c.GroupProtocol, c.HeartbeatInterval = kafka.ConsumerProtocol, 0
			c.BalanceStrategies = []kafka.BalanceStrategy{kafka.Range}
		}},
		{"HeartbeatInterval", func(c *kafka.ConsumerConfig) { c.GroupProtocol, c.BalanceStrategies = kafka.ConsumerProtocol, nil }},
		{"SessionTimeout", func(c *kafka.ConsumerConfig) { c.HeartbeatInterval = c.SessionTimeout / 2 }},
		{"RebalanceTimeout", func(c *kafka.ConsumerConfig) { c.RebalanceTimeout, c.DrainTimeout = c.SessionTimeout/2, time.Second }},
		{"DrainTimeout", func(c *kafka.ConsumerConfig) { c.DrainTimeout = c.RebalanceTimeout }},
		{"MaxMessageBytes", func(c *kafka.ConsumerConfig) { c.MaxMessageBytes = 1 << 30 }},
		{"MaxBufferedMessages", func(c *kafka.ConsumerConfig) { c.MaxBufferedMessages = -1 }},
		{"MaxConsecutiveErrors", func(c *kafka.ConsumerConfig) { c.MaxConsecutiveErrors = -2 }},
		{"Backoff.Min", func(c *kafka.ConsumerConfig) { c.Backoff.Min, c.Backoff.Max = time.Minute, time.Second }},
		{"Backoff.Multiplier", func(c *kafka.ConsumerConfig) { c.Backoff.Multiplier = math.NaN() }},
		{"Backoff.Jitter", func(c *kafka.ConsumerConfig) { c.Backoff.Jitter = 2 }},
	}
	for _, d := range []time.Duration{-1, 1, math.MaxInt64} {
		all = append(all, consumerFlaw{"CommitInterval", func(c *kafka.ConsumerConfig) { c.CommitInterval = d }})
	}
	return all
}

func tlsFlaws() (all []consumerFlaw) {
	const missing, notPEM, empty = "no such file", "flaws_test.go", "/dev/null"
	add := func(field string, configs ...kafka.TLSConfig) {
		for _, t := range configs {
			all = append(all, consumerFlaw{field, func(c *kafka.ConsumerConfig) { c.TLS = &t }})
		}
	}
	add("TLS.CAFile", kafka.TLSConfig{CAFile: missing}, kafka.TLSConfig{CAFile: notPEM}, kafka.TLSConfig{CAFile: empty},
		kafka.TLSConfig{CAFile: notPEM, Config: &tls.Config{RootCAs: x509.NewCertPool()}})
	add("TLS.CertFile", kafka.TLSConfig{CertFile: missing, KeyFile: missing}, kafka.TLSConfig{CertFile: notPEM, KeyFile: notPEM},
		kafka.TLSConfig{KeyFile: notPEM},
		kafka.TLSConfig{CertFile: notPEM, KeyFile: notPEM, Config: &tls.Config{Certificates: make([]tls.Certificate, 1)}})
	add("TLS.KeyFile", kafka.TLSConfig{CertFile: notPEM})
	add("TLS.ServerName", kafka.TLSConfig{ServerName: "h:1"}, kafka.TLSConfig{ServerName: "a", Config: &tls.Config{ServerName: "b"}})
	add("TLS.Config.ClientAuth", kafka.TLSConfig{Config: &tls.Config{ClientAuth: tls.RequestClientCert}})
	add("TLS.Config.MinVersion", kafka.TLSConfig{Config: &tls.Config{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}})
	return all
}

func saslFlaws() (all []consumerFlaw) {
	token := func(context.Context) (kafka.Token, error) { return kafka.Token{}, nil }
	add := func(field string, configs ...kafka.SASLConfig) {
		for _, s := range configs {
			all = append(all, consumerFlaw{field, func(c *kafka.ConsumerConfig) { c.TLS, c.SASL = nil, &s }})
		}
	}
	add("SASL.Mechanism", kafka.SASLConfig{User: "u", Password: "p"}, kafka.SASLConfig{Mechanism: "plain", User: "u", Password: "p"})
	add("SASL.User", kafka.SASLConfig{Mechanism: kafka.SASLScramSHA256, Password: "p"},
		kafka.SASLConfig{Mechanism: kafka.SASLScramSHA256, User: " u", Password: "p"},
		kafka.SASLConfig{Mechanism: kafka.SASLOAuthBearer, User: "u", TokenSource: token, AllowPlaintext: true})
	add("SASL.Password", kafka.SASLConfig{Mechanism: kafka.SASLScramSHA512, User: "u"},
		kafka.SASLConfig{Mechanism: kafka.SASLScramSHA512, User: "u", Password: "p\n"},
		kafka.SASLConfig{Mechanism: kafka.SASLOAuthBearer, Password: "p", TokenSource: token, AllowPlaintext: true})
	add("SASL.TokenSource", kafka.SASLConfig{Mechanism: kafka.SASLOAuthBearer, AllowPlaintext: true},
		kafka.SASLConfig{Mechanism: kafka.SASLScramSHA256, User: "u", Password: "p", TokenSource: token})
	add("SASL.AllowPlaintext", kafka.SASLConfig{Mechanism: kafka.SASLPlain, User: "u", Password: "p"})
	return all
}

func producerFlaws() []producerFlaw {
	return []producerFlaw{
		{"BootstrapServers", func(c *kafka.ProducerConfig) { c.BootstrapServers = "h" }},
		{"RequiredAcks", func(c *kafka.ProducerConfig) { c.RequiredAcks = 99 }},
		{"Compression", func(c *kafka.ProducerConfig) { c.Compression = 99 }},
		{"MaxRetries", func(c *kafka.ProducerConfig) { c.MaxRetries = -5 }},
		{"RetryBackoff", func(c *kafka.ProducerConfig) { c.RetryBackoff = -1 }},
		{"MaxMessageBytes", func(c *kafka.ProducerConfig) { c.MaxMessageBytes = -1 }},
		{"EnableIdempotent", func(c *kafka.ProducerConfig) {
			c.EnableIdempotent, c.RequiredAcks = kafka.BoolPtr(true), kafka.WaitForLocal
		}},
		{"EnableIdempotent", func(c *kafka.ProducerConfig) {
			c.EnableIdempotent, c.MaxRetries = kafka.BoolPtr(true), kafka.NoRetries
		}},
		{"EnableSyncProducer", func(c *kafka.ProducerConfig) { c.EnableSyncProducer = kafka.BoolPtr(false) }},
		{"ClientID", func(c *kafka.ProducerConfig) { c.ClientID = "a\nb" }},
		{"TLS.CAFile", func(c *kafka.ProducerConfig) { c.TLS = &kafka.TLSConfig{CAFile: "no such file"} }},
		{"SASL.Mechanism", func(c *kafka.ProducerConfig) { c.SASL = &kafka.SASLConfig{User: "u", Password: "p"} }},
	}
}
