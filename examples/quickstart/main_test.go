package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaksBesideSarama(m) }

func TestEmbedded(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-n", "7"}, &out))
	for i := range 7 {
		want := fmt.Sprintf("key %q, value %q, sender=quickstart", fmt.Sprint("key-", i), fmt.Sprint("message ", i))
		assert.Equal(t, 1, strings.Count(out.String(), want), "lines with %s", want)
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestBadFlagsAndNoBroker(t *testing.T) {
	testkit.Slow(t, "waits for a broker that is not there")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, args := range [][]string{{"-nonsense"}, {"-topic", "no topic"}, {"-brokers", "127.0.0.1:1"}} {
		var out bytes.Buffer
		assert.Error(t, run(ctx, args, &out), "%v", args)
	}
}

// On a real Kafka the program's records are read by Kafka's own console
// consumer, the console producer's are handled, and the group's lag is 0.
func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("quickstart-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(ctx, topic, 3, nil))
	printed := make(lines, 1000)
	ended := make(chan error, 1)
	follow, interrupt := context.WithCancel(ctx)
	defer interrupt()
	go func() {
		ended <- run(follow, []string{"-brokers", cluster.Bootstrap(), "-topic", topic, "-group", topic, "-follow"}, printed)
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

// await waits until something with piece in it is written. What else comes
// first goes back to the end of the line, since it may be waited for next.
func (l lines) await(ctx context.Context, t *testing.T, piece string) {
	t.Helper()
	var others []string
	for {
		select {
		case s := <-l:
			if strings.Contains(s, piece) {
				for _, s := range others {
					l <- s
				}
				return
			}
			others = append(others, s)
		case <-ctx.Done():
			require.FailNow(t, "not printed: "+piece, strings.Join(others, ""))
		}
	}
}
