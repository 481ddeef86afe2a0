package kafka

import (
	"bytes"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestB35_NamesAreChecked(t *testing.T) {
	const outside = `has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`
	long := strings.Repeat("x", 300)
	refuseConsumers(t, []badConsumer{
		{"job empty", func(c *ConsumerConfig) { c.JobName = "" }, `kafka: consumer "": JobName: is empty`},
		{"job of spaces", func(c *ConsumerConfig) { c.JobName = "  " },
			`kafka: consumer "  ": JobName: "  " begins or ends with white space`},
		{"job begins with a space", func(c *ConsumerConfig) { c.JobName = " a" },
			`kafka: consumer " a": JobName: " a" begins or ends with white space`},
		{"job ends with a line break", func(c *ConsumerConfig) { c.JobName = "a\n" },
			`kafka: consumer "a\n": JobName: "a\n" begins or ends with white space`},
		{"job with a control character", func(c *ConsumerConfig) { c.JobName = "a\x1b[2Jb" },
			`kafka: consumer "a\x1b[2Jb": JobName: "a\x1b[2Jb" has a control character`},
		{"job with a slash", func(c *ConsumerConfig) { c.JobName = "a/b" },
			`kafka: consumer "a/b": JobName: "a/b" has a '/'`},
		{"job not UTF-8", func(c *ConsumerConfig) { c.JobName = "a\xff" },
			`kafka: consumer "a\xff": JobName: "a\xff" is not valid UTF-8`},
		{"job too long", func(c *ConsumerConfig) { c.JobName = long },
			`kafka: consumer "` + long[:255] + `"...: JobName: is 300 bytes long, at most 255 are allowed`},

		{"no topic", func(c *ConsumerConfig) { c.Topic = "" }, `Topic: is empty, and so is Topics`},
		{"no topic in the list", func(c *ConsumerConfig) { c.Topic, c.Topics = "", []string{} },
			`Topic: is empty, and so is Topics`},
		{"topic empty in the list", func(c *ConsumerConfig) { c.Topics = []string{""} }, `Topics[0]: is empty`},
		{"topic with a space", func(c *ConsumerConfig) { c.Topic = "a b" }, `Topic: "a b" ` + outside},
		{"topic with an umlaut", func(c *ConsumerConfig) { c.Topic = "ä" }, `Topic: "ä" ` + outside},
		{"topic with a line break", func(c *ConsumerConfig) { c.Topic = "a\n" }, `Topic: "a\n" ` + outside},
		{"topic is a dot", func(c *ConsumerConfig) { c.Topic = "." }, `Topic: "." is not allowed`},
		{"topic is two dots", func(c *ConsumerConfig) { c.Topics = []string{"a", ".."} }, `Topics[1]: ".." is not allowed`},
		{"topic too long", func(c *ConsumerConfig) { c.Topic = long[:250] },
			`Topic: is 250 bytes long, at most 249 are allowed`},
		{"topic twice", func(c *ConsumerConfig) { c.Topics = []string{"a", "t", "a"} },
			"Topics[1]: \"t\" is named by Topic already\nTopics[2]: \"a\" is named by Topics[0] already"},
		{"internal topics", func(c *ConsumerConfig) { c.Topic, c.Topics = "__consumer_offsets", []string{"__transaction_state"} },
			"Topic: \"__consumer_offsets\" is internal to Kafka\nTopics[0]: \"__transaction_state\" is internal to Kafka"},

		{"group empty", func(c *ConsumerConfig) { c.ConsumerGroup = "" }, `ConsumerGroup: is empty`},
		{"group with a control character", func(c *ConsumerConfig) { c.ConsumerGroup = "a\tb" },
			`ConsumerGroup: "a\tb" has a control character`},
		{"group too long", func(c *ConsumerConfig) { c.ConsumerGroup = long[:256] },
			`ConsumerGroup: is 256 bytes long, at most 255 are allowed`},

		{"client id", func(c *ConsumerConfig) { c.ClientID = "a " }, `ClientID: "a " begins or ends with white space`},
		{"client id too long", func(c *ConsumerConfig) { c.ClientID = long },
			`ClientID: is 300 bytes long, at most 255 are allowed`},
		{"instance id", func(c *ConsumerConfig) { c.InstanceID = "pod/1" }, `InstanceID: "pod/1" ` + outside},
		{"instance id too long", func(c *ConsumerConfig) { c.InstanceID = long[:250] },
			`InstanceID: is 250 bytes long, at most 249 are allowed`},
		{"rack id", func(c *ConsumerConfig) { c.RackID = "a\u0085b" }, `RackID: "a\u0085b" has a control character`},
		{"rack id too long", func(c *ConsumerConfig) { c.RackID = long },
			`RackID: is 300 bytes long, at most 255 are allowed`},
	})
}

func TestB35_BootstrapServersAreChecked(t *testing.T) {
	rows := []struct{ servers, want string }{
		{"", `BootstrapServers: is empty`},
		{" ", `BootstrapServers: is empty`},
		{"a:1,", `BootstrapServers[1]: is empty`},
		{"a:1,,b:2", `BootstrapServers[1]: is empty`},
		{"host", `BootstrapServers[0]: "host": missing port in address`},
		{"10.0.0.1", `BootstrapServers[0]: "10.0.0.1": missing port in address`},
		{"host:", `BootstrapServers[0]: "host:": port must be 1..65535`},
		{"a:1,host:0", `BootstrapServers[1]: "host:0": port must be 1..65535`},
		{"host:99999", `BootstrapServers[0]: "host:99999": port must be 1..65535`},
		{"host:-1", `BootstrapServers[0]: "host:-1": port must be 1..65535`},
		{"host:kafka", `BootstrapServers[0]: "host:kafka": port must be 1..65535`},
		{":9092", `BootstrapServers[0]: ":9092": host is not valid`},
		{"a b:9092", `BootstrapServers[0]: "a": missing port in address`},
		{"a;b:9092", `BootstrapServers[0]: "a" is followed by ';'; separate brokers by commas`},
		{"a:1;b:2", `BootstrapServers[0]: "a:1" is followed by ';'; separate brokers by commas`},
		{"kafka://h:9092", `BootstrapServers[0]: "kafka://h:9092": want host:port without a scheme`},
		{"::1:9092", `BootstrapServers[0]: "::1:9092": an IPv6 host needs brackets, as in [::1]:9092`},
		{"[::1]", `BootstrapServers[0]: "[::1]": missing port in address`},
		{"u:hunter2@h:9092", `BootstrapServers[0]: has an '@'; credentials belong in SASL`},
		{"a:1,b:2, A:01", `BootstrapServers[2]: "A:01" is the same as [0]`},
	}
	var bad []badConsumer
	for _, row := range rows {
		bad = append(bad, badConsumer{row.servers, func(c *ConsumerConfig) { c.BootstrapServers = row.servers }, row.want})
	}
	refuseConsumers(t, bad)
}

func TestBootstrapServersAreTaken(t *testing.T) {
	for list, want := range map[string][]string{
		"host:9092":                       {"host:9092"},
		"10.0.0.1:1,10.0.0.1:65535":       {"10.0.0.1:1", "10.0.0.1:65535"},
		" a:1 ,\n b.example.com:2":        {"a:1", "b.example.com:2"},
		"a:1 b:2\nc:3\r\n\td:4,\n e:5":    {"a:1", "b:2", "c:3", "d:4", "e:5"},
		"[::1]:9092,[fe80::1%eth0]:9092":  {"[::1]:9092", "[fe80::1%eth0]:9092"},
		"kafka_1:9092,kafka-2.svc.:29092": {"kafka_1:9092", "kafka-2.svc.:29092"},
	} {
		cfg := goodConsumer()
		cfg.BootstrapServers = list
		_, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		assert.NoError(t, err, "%q", list)
		assert.Equal(t, want, forDriver.Brokers, "%q", list)
	}
}

func TestNamesAreTaken(t *testing.T) {
	for _, name := range []string{"orders", "Orders v2", "bestellungen-für-köln", "a:b|c", strings.Repeat("x", 255)} {
		assert.NoError(t, validName(name), "%q", name)
	}
	for _, topic := range []string{"a", "a.b_c-D9", "...", "__x", strings.Repeat("x", 249)} {
		assert.NoError(t, validTopic(topic), "%q", topic)
	}
}

func TestFault_F2_ConnectionStringsShowTheirHeadAtMost(t *testing.T) {
	const key = "S3cr3tK3yWithNoMercy"
	for list, want := range map[string]string{
		"Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=" + key + "=": `[0]: "Endpoint" is followed by '=': ` +
			"a connection string; want host:port, and credentials in SASL",
		"a:9092;SharedAccessKey=" + key + ",b:2": `[0]: "a:9092" is followed by ';': a connection string; want host:port, and credentials in SASL`,
		"a:9092,SharedAccessKey=x," + key:        `[1]: "SharedAccessKey" is followed by '=': a connection string; want host:port, and credentials in SASL`,
		"a:9092;" + key:                          `[0]: "a:9092" is followed by ';'; separate brokers by commas`,
		"kafka://user:" + key + "@h:9092":        "[0]: has an '@'; credentials belong in SASL",
		"a:1,user:" + key + "=@h:9092":           "[1]: has an '@'; credentials belong in SASL",
		"user:" + key + ";@h:9092":               "[0]: has an '@'; credentials belong in SASL",
	} {
		cfg := goodConsumer()
		cfg.BootstrapServers = list
		var logged bytes.Buffer
		_, _, err := resolveConsumer(&cfg, slog.New(slog.NewTextHandler(&logged, nil)), false)
		require.EqualError(t, err, `kafka: consumer "orders": BootstrapServers`+want)
		for how, out := range printings(t, err) {
			noSecret(t, []string{key}, out, "%s of the error of %q", how, list)
		}
		noSecret(t, []string{key}, logged.String(), "the log of %q", list)
	}
}

func TestFault_F3_BrokersAreSeparatedByCommasOrWhiteSpace(t *testing.T) {
	want := []string{"a:9092", "b:9092"}
	for _, list := range []string{"a:9092 b:9092", "a:9092\nb:9092\n", "a:9092\r\n\tb:9092", "a:9092, b:9092", " a:9092 ,\n b:9092"} {
		cfg := goodConsumer()
		cfg.BootstrapServers = list
		_, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		require.NoError(t, err, "%q", list)
		assert.Equal(t, want, forDriver.Brokers, "%q", list)
	}
	for _, list := range []string{"a:9092;b:9092", "a:9092; b:9092", "a:9092;\nb:9092"} {
		cfg := goodConsumer()
		cfg.BootstrapServers = list
		_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		assert.EqualError(t, err, `kafka: consumer "orders": BootstrapServers[0]: "a:9092" is followed by ';'; separate brokers by commas`)
	}
}

// An oversized is a configuration with something in it that is far too long.
type oversized struct {
	name  string
	spoil func(*ConsumerConfig)
	want  string
}

// A list of a million wrong elements, and a name of a megabyte, give an error of
// some kilobytes, and no more garbage per element than its parts. To compare each
// element with each would take an hour: the test would not end.
func TestFault_H12_ErrorsAreBoundedWhateverIsWrong(t *testing.T) {
	const million = 1_000_000
	long := strings.Repeat("\n", million)
	topics := make([]string, million)
	brokers := strings.Repeat("h,", million)
	unknown := make([]BalanceStrategy, million)
	for i := range unknown {
		unknown[i] = BalanceStrategy(i + 100)
	}
	for _, row := range []oversized{
		{"commas", func(c *ConsumerConfig) { c.BootstrapServers = strings.Repeat(",", million) },
			"BootstrapServers: 999996 more elements are wrong"},
		{"brokers", func(c *ConsumerConfig) { c.BootstrapServers = brokers }, "BootstrapServers: 999996 more elements are wrong"},
		{"broker", func(c *ConsumerConfig) { c.BootstrapServers = "h" + strings.Repeat("x", million) + ":1" }, "host is not valid"},
		{"topics", func(c *ConsumerConfig) { c.Topics = topics }, "Topics: 1999994 more elements are wrong"},
		{"strategies", func(c *ConsumerConfig) { c.BalanceStrategies = unknown }, "BalanceStrategies: 999995 more elements are wrong"},
		{"names", func(c *ConsumerConfig) {
			*c = ConsumerConfig{JobName: long, Topic: long, ConsumerGroup: long, ClientID: long, InstanceID: long, RackID: long, BootstrapServers: "a:1"}
		}, "RackID: is 1000000 bytes long, at most 255 are allowed"},
		{"security", func(c *ConsumerConfig) {
			c.TLS = &TLSConfig{CAFile: strings.Repeat("/x", maxPath/2), CertFile: long, KeyFile: strings.Repeat("x", maxPath+1), ServerName: long}
			c.SASL = &SASLConfig{Mechanism: SASLMechanism(long), User: long, Password: Secret(long)}
		}, "TLS.CAFile: open /x/x/x"},
	} {
		cfg := goodConsumer()
		row.spoil(&cfg)
		var err error
		size, objects := allocated(func() { _, _, err = resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false) })
		assert.Less(t, objects, uint64(20*million), "%s: objects", row.name)
		assert.Less(t, size, uint64(600*million), "%s: bytes", row.name)
		require.ErrorContains(t, err, row.want, row.name)
		assert.Less(t, len(err.Error()), 16<<10, row.name)
		for line := range strings.Lines(err.Error()) {
			assert.True(t, strings.HasPrefix(line, "kafka: consumer "), "%s: a line begins with %.40q", row.name, line)
		}
	}
}

// User text that would break a line is escaped.
func TestFault_H12_UserTextInConfigurationErrorsIsEscaped(t *testing.T) {
	const evil = "a\x1b[2J\nlevel=ERROR\u2028"
	const strange = "-----BEGIN \x1b[2J-----\nAAAA\n-----END \x1b[2J-----\n"
	consumer := func(spoil func(*ConsumerConfig)) error {
		cfg := goodConsumer()
		spoil(&cfg)
		_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		return err
	}
	for name, err := range map[string]error{
		"JobName":     consumer(func(c *ConsumerConfig) { c.JobName = evil }),
		"Topic":       consumer(func(c *ConsumerConfig) { c.Topic = evil }),
		"Topics":      consumer(func(c *ConsumerConfig) { c.Topics = []string{evil, evil} }),
		"Group":       consumer(func(c *ConsumerConfig) { c.ConsumerGroup = evil }),
		"Broker":      consumer(func(c *ConsumerConfig) { c.BootstrapServers = evil + ":1" }),
		"Zone":        consumer(func(c *ConsumerConfig) { c.BootstrapServers = "[fe80::1%a\u2028b]:0" }),
		"Zone alone":  consumer(func(c *ConsumerConfig) { c.BootstrapServers = "[fe80::1%a\x1b]:1" }),
		"InstanceID":  consumer(func(c *ConsumerConfig) { c.InstanceID = evil }),
		"CAFile":      consumer(func(c *ConsumerConfig) { c.TLS = &TLSConfig{CAFile: evil} }),
		"CAFile path": consumer(func(c *ConsumerConfig) { c.TLS = &TLSConfig{CAFile: "/\x1b[2J\u2028\t"} }),
		"KeyFile":     consumer(func(c *ConsumerConfig) { c.TLS = &TLSConfig{CertFile: "\x1b\u2028", KeyFile: "\x1b\u2028"} }),
		"PEM type":    consumer(func(c *ConsumerConfig) { c.TLS = &TLSConfig{CertFile: strange, KeyFile: strange} }),
		"ServerName":  consumer(func(c *ConsumerConfig) { c.TLS = &TLSConfig{ServerName: evil} }),
		"Mechanism":   consumer(func(c *ConsumerConfig) { c.SASL = &SASLConfig{Mechanism: evil} }),
		"User":        consumer(func(c *ConsumerConfig) { c.SASL = &SASLConfig{Mechanism: SASLPlain, User: evil} }),
	} {
		require.Error(t, err, name)
		for line := range strings.SplitSeq(err.Error(), "\n") {
			assert.True(t, strings.HasPrefix(line, "kafka: consumer "), "%s: raw line break: %q", name, err.Error())
			assert.False(t, strings.ContainsFunc(line, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }), "%s: %q", name, line)
		}
	}
}

// allocated returns what f allocates, and other goroutines meanwhile.
func allocated(f func()) (bytes, objects uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs
}
