package differential

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

var update = flag.Bool("update", false, "write the table of messages into testdata")

// A mistake is one that a user makes.
type mistake struct {
	what string

	// says lists texts of the message: field, value and rule, as far as the mistake
	// has them. Without texts the configuration is accepted.
	says []string

	// make commits the mistake on a manager of its own.
	make func(u *user) error
}

// A user has a manager of its own, and files.
type user struct {
	t       *testing.T
	m       *kafka.Manager
	brokers string
	dir     string
}

// TestBadConfiguration makes each mistake on both drivers. Both give the same
// answer, nothing is dialled, nothing is registered, and testdata has the message.
func TestBadConfiguration(t *testing.T) {
	dials, brokers := listen(t)
	dir := files(t)
	var table strings.Builder
	made := 0
	for _, m := range mistakes() {
		t.Run(m.what, func(t *testing.T) {
			answers := map[string]error{}
			for name, d := range map[string]driver.Driver{"memory": memory.NewBroker(), "sarama": sarama.Driver{}} {
				u := &user{t: t, m: manager(t, d), brokers: brokers, dir: dir}
				answers[name] = m.make(u)
			}
			message := shown(answers["memory"], dir)
			assert.Equal(t, message, shown(answers["sarama"], dir), "the answer of Sarama's driver beside that of memory's")
			t.Log(message)
			assert.Equal(t, len(m.says) == 0, answers["memory"] == nil, "got %q, want it to say %q", message, m.says)
			for _, want := range m.says {
				assert.Contains(t, message, want)
			}
			made++
			fmt.Fprintf(&table, "| %s | %s |\n", m.what, cell(message))
		})
	}
	assert.Zero(t, dials.Load(), "connections that were opened")
	if made == len(mistakes()) && !t.Failed() { // and not chosen by -run
		golden(t, filepath.Join("testdata", "bad_configuration.md"), "| mistake | answer |\n|---|---|\n"+table.String())
	}
}

func manager(t *testing.T, d driver.Driver) *kafka.Manager {
	m := kafka.New(d, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
	return m
}

// listen returns the address of a listener that counts its connections.
func listen(t *testing.T) (dials *atomic.Int32, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dials = new(atomic.Int32)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		accepting.Wait()
	})
	return dials, l.Addr().String()
}

// files writes what a TLS configuration may name by mistake.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{"empty.pem": "\n", "garbage.pem": "not a certificate"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

// shown returns the text of an error, without the directory of this run's files.
func shown(err error, dir string) string {
	if err == nil {
		return "accepted"
	}
	return strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")
}

// cell writes a message for a table, cut where it quotes something long.
func cell(message string) string {
	lines := strings.Split(message, "\n")
	for i, l := range lines {
		if len(l) > 200 {
			l = l[:120] + "…" + l[len(l)-60:]
		}
		lines[i] = "`" + strings.ReplaceAll(l, "|", `\|`) + "`"
	}
	return strings.Join(lines, "<br>")
}

// golden compares a file of testdata with want, or writes want to it.
func golden(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(want), 0o644))
	}
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(got), want, "%s is not up to date; go test ./internal/differential -run %s -args -update", name, t.Name())
}

// register registers a consumer whose configuration was good before it was
// spoiled, and checks that one that is refused is not registered.
func register(spoil func(u *user, c *kafka.ConsumerConfig)) func(*user) error {
	return func(u *user) error {
		cfg := kafka.ConsumerConfig{JobName: "orders", Topic: "t", BootstrapServers: u.brokers, ConsumerGroup: "g"}
		spoil(u, &cfg)
		before := len(u.m.Consumers())
		err := u.m.RegisterConsumer(context.Background(), kafka.NewConsumer(cfg, ignore))
		if err != nil {
			assert.Len(u.t, u.m.Consumers(), before, "a consumer that was refused is registered")
		}
		return err
	}
}

func ignore(context.Context, *kafka.Message) error { return nil }

// consumer is register for mistakes that need no user.
func consumer(spoil func(c *kafka.ConsumerConfig)) func(*user) error {
	return register(func(_ *user, c *kafka.ConsumerConfig) { spoil(c) })
}

func producer(spoil func(c *kafka.ProducerConfig)) func(*user) error {
	return func(u *user) error {
		cfg := kafka.ProducerConfig{BootstrapServers: u.brokers}
		spoil(&cfg)
		_, err := u.m.RegisterProducer(context.Background(), cfg)
		return err
	}
}

// sending sends by a producer of a broker in memory: a message that the core
// refuses reaches no driver.
func sending(spoil func(m *kafka.ProducerMessage)) func(*user) error {
	return func(u *user) error {
		broker := memory.NewBroker()
		if err := broker.CreateTopic("t", 1); err != nil {
			return err
		}
		p, err := manager(u.t, broker).RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "memory:1"})
		if err != nil {
			return err
		}
		m := &kafka.ProducerMessage{Topic: "t", Value: []byte("v")}
		spoil(m)
		err = p.SendMessage(context.Background(), m)
		if _, end, _ := broker.Offsets("t", 0); err != nil {
			assert.Zero(u.t, end, "a message that was refused is in the log")
		}
		return err
	}
}

// configured is a mistake in Sarama's own configuration.
func configured(change func(c *ibm.Config)) driver.Driver { return sarama.Driver{Configure: change} }

// twice registers a second consumer beside "orders".
func twice(name, topic string) func(*user) error {
	return func(u *user) error {
		if err := consumer(func(*kafka.ConsumerConfig) {})(u); err != nil {
			return err
		}
		return consumer(func(c *kafka.ConsumerConfig) { c.JobName, c.Topic = name, topic })(u)
	}
}

// TestOneNameAtOnce registers one name from a hundred goroutines.
func TestOneNameAtOnce(t *testing.T) {
	m := manager(t, memory.NewBroker())
	cfg := kafka.ConsumerConfig{JobName: "orders", Topic: "t", BootstrapServers: "memory:1", ConsumerGroup: "g"}
	var accepted, duplicates atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			switch err := m.RegisterConsumer(context.Background(), kafka.NewConsumer(cfg, ignore)); {
			case err == nil:
				accepted.Add(1)
			case errors.Is(err, kafka.ErrDuplicate):
				duplicates.Add(1)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, accepted.Load(), "registrations that were accepted")
	assert.EqualValues(t, 99, duplicates.Load(), "registrations that were duplicates")
	assert.Len(t, m.Consumers(), 1)
}
