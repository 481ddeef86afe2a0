package differential

import (
	"context"
	"crypto/tls"
	"math"
	"path/filepath"
	"strings"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

// pointer is a consumer by pointer, of which nil is a typed nil.
type pointer struct{ kafka.Consumer }

func (p *pointer) GetConfig() *kafka.ConsumerConfig { return new(kafka.ConsumerConfig) }

func mistakes() []mistake {
	var all []mistake
	for _, part := range [][]mistake{
		callers(), names(), durations(), choices(), producers(), transport(), saramas(), messages(), lives(),
	} {
		all = append(all, part...)
	}
	return all
}

func callers() []mistake {
	return []mistake{
		{"nil consumer", []string{"handler is nil"}, func(u *user) error {
			return u.m.RegisterConsumer(context.Background(), nil)
		}},
		{"typed nil consumer", []string{"handler is nil"}, func(u *user) error {
			return u.m.RegisterConsumer(context.Background(), (*pointer)(nil))
		}},
		{"nil context", []string{"ctx is nil"}, func(u *user) error {
			cfg := kafka.ConsumerConfig{JobName: "orders", Topic: "t", BootstrapServers: u.brokers, ConsumerGroup: "g"}
			var none context.Context
			return u.m.RegisterConsumer(none, kafka.NewConsumer(cfg, ignore))
		}},
		{"nil context of a producer", []string{"ctx is nil"}, func(u *user) error {
			var none context.Context
			_, err := u.m.RegisterProducer(none, kafka.ProducerConfig{BootstrapServers: u.brokers})
			return err
		}},
		{"start before SetDefault", []string{"no driver", "SetDefault"}, func(*user) error {
			return kafka.StartAllConsumers(context.Background())
		}},
		{"switch before anything is registered", []string{`"orders"`, "registered"}, func(u *user) error {
			assert.False(u.t, kafka.GetConsumerSwitch("orders"), "it is on")
			return kafka.SetConsumerSwitch("orders", true)
		}},
		{"nil consumer of the default manager", []string{"handler is nil"}, func(*user) error {
			return kafka.RegisterConsumer(context.Background(), nil)
		}},
		{"a manager that New has not made", []string{"New"}, func(u *user) error {
			return consumer(func(*kafka.ConsumerConfig) {})(&user{t: u.t, m: new(kafka.Manager), brokers: u.brokers})
		}},
		{"a producer without a driver", []string{"no driver", "SetDefault"}, func(u *user) error {
			return producer(func(*kafka.ProducerConfig) {})(&user{t: u.t, m: manager(u.t, nil), brokers: u.brokers})
		}},
	}
}

func names() []mistake {
	job := func(name string) func(*user) error {
		return consumer(func(c *kafka.ConsumerConfig) { c.JobName = name })
	}
	brokers := func(list string) func(*user) error {
		return consumer(func(c *kafka.ConsumerConfig) { c.BootstrapServers = list })
	}
	topics := func(names ...string) func(*user) error {
		return consumer(func(c *kafka.ConsumerConfig) { c.Topic, c.Topics = "", names })
	}
	return []mistake{
		{"no name", []string{"JobName", "is empty"}, job("")},
		{"name of spaces", []string{"JobName", `"  "`, "white space"}, job("  ")},
		{"name with a space at its end", []string{"JobName", `"orders "`, "white space"}, job("orders ")},
		{"name of 256 bytes", []string{"JobName", "256", "255"}, job(strings.Repeat("n", 256))},
		{"name with a line break in it", []string{"JobName", `"or\nders"`, "control character"}, job("or\nders")},
		{"name that is not UTF-8", []string{"JobName", `"\xff"`, "UTF-8"}, job("\xff")},
		{"name with a slash", []string{"JobName", `"a/b"`, "'/'"}, job("a/b")},
		{"name twice", []string{`"orders"`, "registered already"}, twice("orders", "t")},
		{"name twice, in capitals", []string{`"ORDERS"`, "registered already"}, twice("ORDERS", "t")},
		{"two names in one group, with different topics", nil, twice("payments", "u")},

		{"no brokers", []string{"BootstrapServers", "is empty"}, brokers("")},
		{"broker left out", []string{"BootstrapServers[1]", "is empty"}, brokers("h:1,")},
		{"broker without a port", []string{"BootstrapServers[0]", `"host"`, "port"}, brokers("host")},
		{"port 0", []string{"BootstrapServers[0]", `"host:0"`, "1..65535"}, brokers("host:0")},
		{"port 99999", []string{"BootstrapServers[0]", `"host:99999"`, "1..65535"}, brokers("host:99999")},
		{"broker twice", []string{"BootstrapServers[1]", `"H:1"`, "same"}, brokers("h:1,H:1")},
		{"broker with a scheme", []string{"BootstrapServers[0]", `"kafka://h:9092"`, "scheme"}, brokers("kafka://h:9092")},
		{"broker with a password", []string{"BootstrapServers[0]", "'@'", "SASL"}, brokers("user:secret@h:9092")},
		{"brokers separated by semicolons", []string{"BootstrapServers[0]", `"a:1"`, "commas"}, brokers("a:1;b:2")},
		{"connection string", []string{"BootstrapServers[0]", `"Endpoint"`, "host:port", "SASL"}, brokers("Endpoint=sb://h/;SharedAccessKey=secret")},
		{"IPv6 without brackets", []string{"BootstrapServers[0]", `"::1"`, "brackets"}, brokers("::1")},

		{"no topic", []string{"Topic", "is empty"}, topics()},
		{"empty topic", []string{"Topics[0]", "is empty"}, topics("")},
		{"topic twice", []string{"Topics[1]", `"t"`, "already"}, topics("t", "t")},
		{"topic .", []string{"Topics[0]", `"."`, "not allowed"}, topics(".")},
		{"topic ..", []string{"Topics[0]", `".."`, "not allowed"}, topics("..")},
		{"topic of 250 bytes", []string{"Topics[0]", "250", "249"}, topics(strings.Repeat("t", 250))},
		{"topic with a space", []string{"Topics[0]", `"a b"`, "a-z"}, topics("a b")},
		{"topic of Kafka's own", []string{"Topics[0]", "__consumer_offsets", "internal"}, topics("__consumer_offsets")},
		{"no group", []string{"ConsumerGroup", "is empty"}, consumer(func(c *kafka.ConsumerConfig) { c.ConsumerGroup = "" })},
		{"instance with a space", []string{"InstanceID", `"a b"`, "a-z"}, consumer(func(c *kafka.ConsumerConfig) { c.InstanceID = "a b" })},
		{"client ID with a line break", []string{"ClientID", `"a\nb"`, "control character"}, consumer(func(c *kafka.ConsumerConfig) { c.ClientID = "a\nb" })},
		{"rack with a line break", []string{"RackID", `"a\nb"`, "control character"}, consumer(func(c *kafka.ConsumerConfig) { c.RackID = "a\nb" })},
	}
}

func durations() []mistake {
	var all []mistake
	for _, f := range []struct {
		field string
		of    func(c *kafka.ConsumerConfig) *time.Duration
	}{
		{"CommitInterval", func(c *kafka.ConsumerConfig) *time.Duration { return &c.CommitInterval }},
		{"SessionTimeout", func(c *kafka.ConsumerConfig) *time.Duration { return &c.SessionTimeout }},
		{"HeartbeatInterval", func(c *kafka.ConsumerConfig) *time.Duration { return &c.HeartbeatInterval }},
		{"RebalanceTimeout", func(c *kafka.ConsumerConfig) *time.Duration { return &c.RebalanceTimeout }},
		{"DrainTimeout", func(c *kafka.ConsumerConfig) *time.Duration { return &c.DrainTimeout }},
		{"MaxProcessingTime", func(c *kafka.ConsumerConfig) *time.Duration { return &c.MaxProcessingTime }},
		{"Backoff.Min", func(c *kafka.ConsumerConfig) *time.Duration { return &c.Backoff.Min }},
		{"Backoff.Max", func(c *kafka.ConsumerConfig) *time.Duration { return &c.Backoff.Max }},
	} {
		set := func(d time.Duration) func(*user) error {
			return consumer(func(c *kafka.ConsumerConfig) { *f.of(c) = d })
		}
		all = append(all,
			mistake{f.field + " negative", []string{f.field, "-1s", "negative"}, set(-time.Second)},
			mistake{f.field + " a bare number", []string{f.field, "10ns", "less than 1ms"}, set(10)},
			mistake{f.field + " of 600 hours", []string{f.field, "600h0m0s", "more than"}, set(600 * time.Hour)},
		)
	}
	timing := func(session, heartbeat, rebalance, drain time.Duration) func(*user) error {
		return consumer(func(c *kafka.ConsumerConfig) {
			c.SessionTimeout, c.HeartbeatInterval, c.RebalanceTimeout, c.DrainTimeout = session, heartbeat, rebalance, drain
		})
	}
	return append(all,
		mistake{"heartbeat above a third of the session", []string{"SessionTimeout", "10s", "3 x HeartbeatInterval (4s)"}, timing(10*time.Second, 4*time.Second, 0, 0)},
		mistake{"rebalance shorter than the session", []string{"RebalanceTimeout", "9s", "SessionTimeout (10s)"}, timing(10*time.Second, 0, 9*time.Second, 0)},
		mistake{"drain as long as the rebalance", []string{"DrainTimeout", "20s", "RebalanceTimeout (20s)"}, timing(0, 0, 20*time.Second, 20*time.Second)},
		mistake{"session shorter than brokers accept by default: a warning", nil, timing(2*time.Second, 100*time.Millisecond, 0, 0)},
	)
}

func choices() []mistake {
	return []mistake{
		{"initial offset in Sarama's numbers", []string{"InitialOffset", "-2", "OffsetOldest"}, consumer(func(c *kafka.ConsumerConfig) { c.InitialOffset = -2 })},
		{"unknown out-of-range policy", []string{"OutOfRange", "3", "OutOfRangeStop"}, consumer(func(c *kafka.ConsumerConfig) { c.OutOfRange = 3 })},
		{"unknown isolation level", []string{"IsolationLevel", "2", "ReadCommitted"}, consumer(func(c *kafka.ConsumerConfig) { c.IsolationLevel = 2 })},
		{"unknown balance strategy", []string{"BalanceStrategies[0]", "4", "CooperativeSticky"}, consumer(func(c *kafka.ConsumerConfig) { c.BalanceStrategies = []kafka.BalanceStrategy{4} })},
		{"balance strategy twice", []string{"BalanceStrategies[1]", "range", "[0]"}, consumer(func(c *kafka.ConsumerConfig) {
			c.BalanceStrategies = []kafka.BalanceStrategy{kafka.Range, kafka.Range}
		})},
		{"unknown group protocol", []string{"GroupProtocol", "2", "ConsumerProtocol"}, consumer(func(c *kafka.ConsumerConfig) { c.GroupProtocol = 2 })},
		{"balance strategies with the consumer protocol", []string{"BalanceStrategies", "[range]", "must be unset with ConsumerProtocol"}, consumer(func(c *kafka.ConsumerConfig) {
			c.GroupProtocol, c.BalanceStrategies = kafka.ConsumerProtocol, []kafka.BalanceStrategy{kafka.Range}
		})},
		{"heartbeats with the consumer protocol", []string{"HeartbeatInterval", "3s", "must be unset with ConsumerProtocol"}, consumer(func(c *kafka.ConsumerConfig) {
			c.GroupProtocol, c.HeartbeatInterval = kafka.ConsumerProtocol, 3*time.Second
		})},
		{"every zero value of the protocol", nil, consumer(func(c *kafka.ConsumerConfig) {
			c.IsolationLevel, c.InitialOffset = kafka.ReadUncommitted, kafka.OffsetOldest
		})},
		{"message bytes negative", []string{"MaxMessageBytes", "-1", "negative"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxMessageBytes = -1 })},
		{"message bytes above 100 MiB", []string{"MaxMessageBytes", "104857601", "100 MiB"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxMessageBytes = 100<<20 + 1 })},
		{"buffered messages negative", []string{"MaxBufferedMessages", "-1", "negative"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxBufferedMessages = -1 })},
		{"buffered bytes negative", []string{"MaxBufferedBytes", "-1", "negative"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxBufferedBytes = -1 })},
		{"batch size negative", []string{"MaxBatchSize", "-1", "negative"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxBatchSize = -1 })},
		{"consecutive errors negative", []string{"MaxConsecutiveErrors", "-2", "negative"}, consumer(func(c *kafka.ConsumerConfig) { c.MaxConsecutiveErrors = -2 })},
		{"backoff that begins above its end", []string{"Backoff.Min", "2m0s", "Backoff.Max (1m0s)"}, consumer(func(c *kafka.ConsumerConfig) {
			c.Backoff.Min, c.Backoff.Max = 2*time.Minute, time.Minute
		})},
		{"backoff that does not grow", []string{"Backoff.Multiplier", "1", "above 1"}, consumer(func(c *kafka.ConsumerConfig) { c.Backoff.Multiplier = 1 })},
		{"backoff by no number", []string{"Backoff.Multiplier", "NaN", "above 1"}, consumer(func(c *kafka.ConsumerConfig) { c.Backoff.Multiplier = math.NaN() })},
		{"jitter above 1", []string{"Backoff.Jitter", "1.5", "0..1"}, consumer(func(c *kafka.ConsumerConfig) { c.Backoff.Jitter = 1.5 })},
	}
}

func producers() []mistake {
	yes, no := kafka.BoolPtr(true), kafka.BoolPtr(false)
	return []mistake{
		{"producer without brokers", []string{"BootstrapServers", "is empty"}, producer(func(c *kafka.ProducerConfig) { c.BootstrapServers = "" })},
		{"unknown acks", []string{"RequiredAcks", "-1", "WaitForAll"}, producer(func(c *kafka.ProducerConfig) { c.RequiredAcks = -1 })},
		{"unknown compression", []string{"Compression", "5", "CompressionZSTD"}, producer(func(c *kafka.ProducerConfig) { c.Compression = 5 })},
		{"idempotent with one replica's word", []string{"EnableIdempotent", "true", "WaitForAll"}, producer(func(c *kafka.ProducerConfig) {
			c.EnableIdempotent, c.RequiredAcks = yes, kafka.WaitForLocal
		})},
		{"idempotent without retries", []string{"EnableIdempotent", "true", "NoRetries"}, producer(func(c *kafka.ProducerConfig) {
			c.EnableIdempotent, c.MaxRetries = yes, kafka.NoRetries
		})},
		{"retries negative", []string{"MaxRetries", "-2", "0..10000"}, producer(func(c *kafka.ProducerConfig) { c.MaxRetries = -2 })},
		{"unlimited retries", []string{"MaxRetries", "2147483647", "0..10000"}, producer(func(c *kafka.ProducerConfig) { c.MaxRetries = math.MaxInt32 })},
		{"retry backoff negative", []string{"RetryBackoff", "-1s", "negative"}, producer(func(c *kafka.ProducerConfig) { c.RetryBackoff = -time.Second })},
		{"message bytes of a producer negative", []string{"MaxMessageBytes", "-1", "negative"}, producer(func(c *kafka.ProducerConfig) { c.MaxMessageBytes = -1 })},
		{"message bytes of a producer above 100 MiB", []string{"MaxMessageBytes", "104857601", "100 MiB"}, producer(func(c *kafka.ProducerConfig) { c.MaxMessageBytes = 100<<20 + 1 })},
		{"neither sync nor async", []string{"EnableSyncProducer", "false", "nothing could be sent"}, producer(func(c *kafka.ProducerConfig) { c.EnableSyncProducer = no })},
	}
}

func transport() []mistake {
	encrypt := func(spoil func(u *user, c *kafka.TLSConfig)) func(*user) error {
		return register(func(u *user, c *kafka.ConsumerConfig) {
			c.TLS = &kafka.TLSConfig{}
			spoil(u, c.TLS)
		})
	}
	authority := func(name string) func(*user) error {
		return encrypt(func(u *user, c *kafka.TLSConfig) { c.CAFile = filepath.Join(u.dir, name) })
	}
	login := func(s kafka.SASLConfig) func(*user) error {
		return consumer(func(c *kafka.ConsumerConfig) { c.TLS, c.SASL = &kafka.TLSConfig{}, &s })
	}
	return []mistake{
		{"certificate without a key", []string{"TLS.KeyFile", "CertFile"}, encrypt(func(_ *user, c *kafka.TLSConfig) { c.CertFile = "c.pem" })},
		{"key without a certificate", []string{"TLS.CertFile", "KeyFile"}, encrypt(func(_ *user, c *kafka.TLSConfig) { c.KeyFile = "k.pem" })},
		{"authorities in no file", []string{"TLS.CAFile", "missing.pem", "no such file"}, authority("missing.pem")},
		{"authorities in an empty file", []string{"TLS.CAFile", `empty.pem`, "is empty"}, authority("empty.pem")},
		{"authorities in a file of something else", []string{"TLS.CAFile", `garbage.pem`, "is not PEM"}, authority("garbage.pem")},
		{"key pair of something else", []string{"TLS.CertFile", "garbage.pem"}, encrypt(func(u *user, c *kafka.TLSConfig) {
			c.CertFile, c.KeyFile = filepath.Join(u.dir, "garbage.pem"), filepath.Join(u.dir, "garbage.pem")
		})},
		{"client authentication, which is a server's", []string{"TLS.Config.ClientAuth", "servers"}, encrypt(func(_ *user, c *kafka.TLSConfig) {
			c.Config = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}
		})},
		{"server name with a port", []string{"TLS.ServerName", `"h:9093"`, "port"}, encrypt(func(_ *user, c *kafka.TLSConfig) { c.ServerName = "h:9093" })},
		{"oldest version above the newest", []string{"TLS.Config.MinVersion", "TLS 1.3", "TLS 1.2"}, encrypt(func(_ *user, c *kafka.TLSConfig) {
			c.Config = &tls.Config{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}
		})},

		{"key in place of a path", []string{"TLS.CAFile", "PEM text", "not shown"}, encrypt(func(_ *user, c *kafka.TLSConfig) { c.CAFile = "secret\nsecret" })},

		{"no mechanism", []string{"SASL.Mechanism", "is empty", "PLAIN"}, login(kafka.SASLConfig{User: "u", Password: "p"})},
		{"unknown mechanism", []string{"SASL.Mechanism", `"scram"`, "SCRAM-SHA-256"}, login(kafka.SASLConfig{Mechanism: "scram", User: "u", Password: "p"})},
		{"Kerberos", []string{"SASL.Mechanism", `"GSSAPI"`, "sarama.Driver.Configure"}, login(kafka.SASLConfig{Mechanism: "GSSAPI", User: "u", Password: "p"})},
		{"Amazon's IAM", []string{"SASL.Mechanism", `"AWS_MSK_IAM"`, "OAUTHBEARER"}, login(kafka.SASLConfig{Mechanism: "AWS_MSK_IAM"})},
		{"no user", []string{"SASL.User", "is empty"}, login(kafka.SASLConfig{Mechanism: kafka.SASLPlain, Password: "p"})},
		{"no password", []string{"SASL.Password", "is empty"}, login(kafka.SASLConfig{Mechanism: kafka.SASLPlain, User: "u"})},
		{"password with the file's line break", []string{"SASL.Password", "white space"}, login(kafka.SASLConfig{Mechanism: kafka.SASLPlain, User: "u", Password: "secret\n"})},
		{"token mechanism without a source", []string{"SASL.TokenSource", "is nil", "OAUTHBEARER"}, login(kafka.SASLConfig{Mechanism: kafka.SASLOAuthBearer})},
		{"password in the clear", []string{"SASL.AllowPlaintext", "false", "PLAIN without TLS"}, consumer(func(c *kafka.ConsumerConfig) {
			c.SASL = &kafka.SASLConfig{Mechanism: kafka.SASLPlain, User: "u", Password: "secret"}
		})},
	}
}

// saramas are mistakes of sarama.Driver.Configure.
func saramas() []mistake {
	onConsumer := func(change func(*ibm.Config)) func(*user) error {
		return func(u *user) error {
			return consumer(func(*kafka.ConsumerConfig) {})(&user{t: u.t, m: manager(u.t, configured(change)), brokers: u.brokers})
		}
	}
	onProducer := func(change func(*ibm.Config)) func(*user) error {
		return func(u *user) error {
			return producer(func(*kafka.ProducerConfig) {})(&user{t: u.t, m: manager(u.t, configured(change)), brokers: u.brokers})
		}
	}
	return []mistake{
		{"Sarama set to commit by itself", []string{"Configure", "Consumer.Offsets.AutoCommit.Enable", "true", "must stay false"},
			onConsumer(func(c *ibm.Config) { c.Consumer.Offsets.AutoCommit.Enable = true })},
		{"Sarama set to skip records that are too large", []string{"Configure", "Consumer.Fetch.Max", "1", "must stay 0"},
			onConsumer(func(c *ibm.Config) { c.Consumer.Fetch.Max = 1 })},
		{"Sarama with a negative fetch", []string{"Consumer.Fetch.Min"}, onConsumer(func(c *ibm.Config) { c.Consumer.Fetch.Min = -1 })},
		{"Sarama with a transactional ID", []string{"Configure", "Producer.Transaction.ID", "x"},
			onProducer(func(c *ibm.Config) { c.Producer.Transaction.ID = "x" })},
		{"Sarama with a version too old for idempotence", []string{"ersion"}, onProducer(func(c *ibm.Config) { c.Version = ibm.V0_10_0_0 })},
		{"Sarama set to drop idempotence", []string{"Configure", "Producer.Idempotent", "false", "must stay true"},
			onProducer(func(c *ibm.Config) { c.Producer.Idempotent = false })},
	}
}

func messages() []mistake {
	to := int32(-5)
	return []mistake{
		{"message without a topic", []string{"Topic", "is empty", "INVALID_TOPIC_EXCEPTION"}, sending(func(m *kafka.ProducerMessage) { m.Topic = "" })},
		{"message to a partition below 0", []string{"ToPartition", "-5", "negative"}, sending(func(m *kafka.ProducerMessage) { m.ToPartition = &to })},
		{"message above the bound", []string{"1048577", "MaxMessageBytes (1048576)"}, sending(func(m *kafka.ProducerMessage) { m.Value = make([]byte, 1<<20+1) })},
		{"message dated before 1970", []string{"Timestamp", "1969-12-31", "INVALID_TIMESTAMP"}, sending(func(m *kafka.ProducerMessage) { m.Timestamp = time.UnixMilli(-1).UTC() })},
		{"async message by a producer for sync ones", []string{"not enabled"}, func(u *user) error {
			p, err := manager(u.t, newMemory().Driver()).RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "memory:1"})
			if err != nil {
				return err
			}
			answer := make(chan error, 1)
			p.SendAsync(context.Background(), "t", nil, nil, func(_ *kafka.ProducerMessage, err error) { answer <- err })
			return <-answer
		}},
		{"message after Close", []string{"closed"}, func(u *user) error {
			p, err := manager(u.t, newMemory().Driver()).RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "memory:1"})
			if err != nil {
				return err
			}
			if err := p.Close(); err != nil {
				return err
			}
			return p.Send(context.Background(), "t", nil, nil)
		}},
		{"message whose context has ended", []string{"context canceled"}, func(u *user) error {
			p, err := manager(u.t, newMemory().Driver()).RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "memory:1"})
			if err != nil {
				return err
			}
			return p.Send(testkit.Ended(), "t", nil, nil)
		}},
	}
}

func lives() []mistake {
	return []mistake{
		{"switch of an unregistered consumer", []string{`"payments"`, "registered"}, func(u *user) error {
			return u.m.SetConsumerSwitch("payments", true)
		}},
		{"start without a context", []string{"ctx is nil"}, func(u *user) error {
			var none context.Context
			return u.m.StartAllConsumers(none)
		}},
		{"start without a driver", []string{"no driver", "SetDefault"}, func(u *user) error {
			return manager(u.t, nil).StartAllConsumers(context.Background())
		}},
		{"start twice", nil, func(u *user) error {
			if err := u.m.StartAllConsumers(context.Background()); err != nil {
				return err
			}
			return u.m.StartAllConsumers(context.Background())
		}},
		{"start after the end", []string{"closed"}, func(u *user) error {
			if err := u.m.Shutdown(context.Background()); err != nil {
				return err
			}
			return u.m.StartAllConsumers(context.Background())
		}},
		{"registration after the end", []string{`"orders"`, "closed"}, func(u *user) error {
			if err := u.m.Shutdown(context.Background()); err != nil {
				return err
			}
			return consumer(func(*kafka.ConsumerConfig) {})(u)
		}},
		{"end twice", nil, func(u *user) error {
			if err := u.m.Shutdown(context.Background()); err != nil {
				return err
			}
			return u.m.Shutdown(context.Background())
		}},
		{"end without a context", []string{"ctx is nil"}, func(u *user) error {
			var none context.Context
			return u.m.Shutdown(none)
		}},
		{"WaitStop before the start, which returns at once", nil, func(u *user) error {
			u.m.WaitStop()
			return nil
		}},
	}
}
