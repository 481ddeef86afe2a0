package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

func TestMain(m *testing.M) { testkit.NoLeaksBesideSarama(m) }

func TestEmbedded(t *testing.T) {
	for _, args := range [][]string{nil, {"-driver", "memory"}} {
		handlesItsOwn(t, args)
	}
}

// TestChangeOfDriver: the same group goes on with the other driver where the one before
// has stopped, and the other way round. Each run handles what it has sent, and no more.
func TestChangeOfDriver(t *testing.T) {
	brokers := fake(t)
	for _, args := range [][]string{{"-driver", "sarama"}, {"-driver", "franz"}, nil, {"-driver", "franz"}} {
		handlesItsOwn(t, append(args, "-brokers", brokers))
	}
}

// TestRollingChangeOfDriver: a member with the other driver joins the group, both share the
// partitions, and the older member leaves.
func TestRollingChangeOfDriver(t *testing.T) {
	testkit.Slow(t, "waits for heartbeats, by which members learn of each other")
	for _, names := range [][2]string{{"sarama", "franz"}, {"franz", "sarama"}} {
		t.Run(names[0]+" to "+names[1], func(t *testing.T) {
			t.Parallel()
			rollingChange(t, fake(t), "quickstart", names[0], names[1])
		})
	}
}

// fake starts a broker with the topic quickstart and returns its address.
func fake(t *testing.T) string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "quickstart"),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return strings.Join(cluster.ListenAddrs(), ",")
}

// rollingChange sends messages before, while and after two members with different drivers
// are in one group. Each message must be handled once.
func rollingChange(t *testing.T, brokers, topic, before, after string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	printed := make(lines, 1000)
	follow := func(name string) (stop func()) {
		ctx, interrupt := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, []string{"-driver", name, "-brokers", brokers, "-topic", topic, "-group", topic, "-n", "0", "-follow"}, member{name, printed})
		}()
		t.Cleanup(interrupt)
		printed.await(ctx, t, name+`: level=INFO msg="kafka: partitions assigned" consumer=quickstart partitions=`)
		return func() {
			interrupt()
			require.NoError(t, <-ended, name)
		}
	}
	const count = 30
	seen := map[string]bool{}
	handled := func() map[string]int {
		m := kafka.New(sarama.Driver{})
		require.NoError(t, send(ctx, m, options{brokers: brokers, topic: topic, count: count}, io.Discard))
		by := map[string]int{}
		for range count {
			line := printed.await(ctx, t, ": handled ")
			name, rest, _ := strings.Cut(line, ": handled ")
			place, _, _ := strings.Cut(rest, ":")
			assert.False(t, seen[place], "%s was handled before: %s", place, line)
			seen[place] = true
			by[name]++
		}
		return by
	}

	stopBefore := follow(before)
	assert.Equal(t, map[string]int{before: count}, handled())
	stopAfter := follow(after)
	both := handled()
	assert.Positive(t, both[before], "messages that %s handled beside %s", before, after)
	assert.Positive(t, both[after], "messages that %s handled beside %s", after, before)
	stopBefore()
	assert.Equal(t, map[string]int{after: count}, handled())
	stopAfter()
	assert.Len(t, seen, 3*count)
	for len(printed) > 0 {
		assert.NotContains(t, <-printed, ": handled ", "one more message than were sent")
	}
}

// handlesItsOwn runs the program. It must handle each of the messages that it sends once,
// and no other.
func handlesItsOwn(t *testing.T, args []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, run(ctx, append([]string{"-n", "7"}, args...), &out), "%v", args)
	for i := range 7 {
		want := fmt.Sprintf("key %q, value %q, sender=quickstart", fmt.Sprint("key-", i), fmt.Sprint("message ", i))
		assert.Equal(t, 1, strings.Count(out.String(), want), "%v: lines with %s", args, want)
	}
	assert.Equal(t, 7, strings.Count(out.String(), "handled "), "%v: messages that were handled", args)
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestChooseDriver(t *testing.T) {
	for _, test := range []struct {
		driver, brokers string
		want            driver.Driver
	}{
		{"", "", &memory.Broker{}},
		{"memory", "", &memory.Broker{}},
		{"", "h:1", sarama.Driver{}},
		{"sarama", "h:1", sarama.Driver{}},
		{"franz", "h:1", franz.Driver{}},
	} {
		got, err := chooseDriver(&options{driver: test.driver, brokers: test.brokers, topic: "quickstart"})
		require.NoError(t, err, "%+v", test)
		assert.IsType(t, test.want, got, "%+v", test)
	}
	for _, test := range []struct{ driver, brokers, want string }{
		{"memory", "h:1", "takes no -brokers"},
		{"sarama", "", "-driver sarama needs -brokers"},
		{"franz", "", "-driver franz needs -brokers"},
		{"kgo", "h:1", `-driver "kgo" is none of memory, sarama, franz`},
	} {
		_, err := chooseDriver(&options{driver: test.driver, brokers: test.brokers, topic: "quickstart"})
		assert.ErrorContains(t, err, test.want, "%+v", test)
	}
}

func TestBadFlagsAndNoBroker(t *testing.T) {
	testkit.Slow(t, "waits for a broker that is not there")
	for _, args := range [][]string{{"-nonsense"}, {"-topic", "no topic"}, {"-brokers", "127.0.0.1:1"}, {"-brokers", "127.0.0.1:1", "-driver", "franz"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		assert.Error(t, run(ctx, args, io.Discard), "%v", args)
		cancel()
	}
}

// On a real Kafka the program's records are read by Kafka's own console
// consumer, the console producer's are handled, and the group's lag is 0.
func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	for _, name := range []string{"sarama", "franz"} {
		t.Run(name, func(t *testing.T) { realKafka(t, cluster, name) })
	}
	for _, names := range [][2]string{{"sarama", "franz"}, {"franz", "sarama"}} {
		t.Run(names[0]+" to "+names[1], func(t *testing.T) {
			topic := fmt.Sprintf("quickstart-%d", time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, 3, nil))
			rollingChange(t, cluster.Bootstrap(), topic, names[0], names[1])
		})
	}
}

func realKafka(t *testing.T, cluster *kafkacluster.Cluster, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("quickstart-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(ctx, topic, 3, nil))
	printed := make(lines, 1000)
	ended := make(chan error, 1)
	follow, interrupt := context.WithCancel(ctx)
	defer interrupt()
	go func() {
		ended <- run(follow, []string{"-driver", name, "-brokers", cluster.Bootstrap(), "-topic", topic, "-group", topic, "-follow"}, printed)
	}()
	for i := range 5 {
		printed.await(ctx, t, fmt.Sprintf("value %q", fmt.Sprint("message ", i)))
	}

	read, err := cluster.Tool(ctx, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", cluster.Bootstrap(),
		"--topic", topic, "--from-beginning", "--max-messages", "5", "--property", "print.key=true", "--property", "print.headers=true")
	require.NoError(t, err)
	for i := range 5 {
		assert.Contains(t, read, fmt.Sprintf("sender:quickstart\tkey-%d\tmessage %d", i, i), "what the console consumer has read")
	}

	_, err = cluster.ToolInput(ctx, strings.NewReader("h1:a,h2:b\tconsole\thello from the console\n"), "org.apache.kafka.tools.ConsoleProducer",
		"--bootstrap-server", cluster.Bootstrap(), "--topic", topic, "--property", "parse.key=true", "--property", "parse.headers=true")
	require.NoError(t, err)
	printed.await(ctx, t, `key "console", value "hello from the console", h1=a, h2=b`)

	interrupt()
	require.NoError(t, <-ended)
	described, err := cluster.Tool(ctx, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", cluster.Bootstrap(),
		"--describe", "--group", topic)
	require.NoError(t, err)
	t.Log(described)
	total := 0
	for line := range strings.Lines(described) {
		f := strings.Fields(line) // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
		if len(f) < 6 || f[1] != topic {
			continue
		}
		var committed int
		fmt.Sscan(f[3], &committed)
		total += committed
		assert.Equal(t, "0", f[5], "the lag: %s", line)
	}
	require.Equal(t, 6, total, "the sum of the committed offsets")
}

// lines is a writer whose writes can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// await waits until something with piece in it is written, and returns it. What else comes
// first goes back to the end of the line, since it may be waited for next.
func (l lines) await(ctx context.Context, t *testing.T, piece string) string {
	t.Helper()
	var others []string
	for {
		select {
		case s := <-l:
			if strings.Contains(s, piece) {
				for _, s := range others {
					l <- s
				}
				return s
			}
			others = append(others, s)
		case <-ctx.Done():
			require.FailNow(t, "not printed: "+piece, strings.Join(others, ""))
		}
	}
}

// member is a writer that puts a name before each line.
type member struct {
	name string
	to   lines
}

func (m member) Write(p []byte) (int, error) {
	m.to <- m.name + ": " + string(p)
	return len(p), nil
}
