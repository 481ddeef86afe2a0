package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) {
	// Sarama marks fetches in the global registry of go-metrics, whose one
	// goroutine lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestEmbedded(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-n", "7"}, &out); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		want := fmt.Sprintf("key %q, value %q, sender=quickstart", fmt.Sprint("key-", i), fmt.Sprint("message ", i))
		if n := strings.Count(out.String(), want); n != 1 {
			t.Errorf("%d lines with %s, want 1", n, want)
		}
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
		if err := run(ctx, args, &out); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// On a real Kafka the program's records are read by Kafka's own console
// consumer, the console producer's are handled, and the group's lag is 0.
func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("quickstart-%d", time.Now().UnixNano())
	if err := cluster.CreateTopic(ctx, topic, 3, nil); err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if want := fmt.Sprintf("sender:quickstart\tkey-%d\tmessage %d", i, i); !strings.Contains(read, want) {
			t.Errorf("the console consumer did not read %q:\n%s", want, read)
		}
	}

	_, err = cluster.ToolInput(ctx, strings.NewReader("h1:a,h2:b\tconsole\thello from the console\n"), "org.apache.kafka.tools.ConsoleProducer",
		"--bootstrap-server", cluster.Bootstrap(), "--topic", topic, "--property", "parse.key=true", "--property", "parse.headers=true")
	if err != nil {
		t.Fatal(err)
	}
	printed.await(ctx, t, `key "console", value "hello from the console", h1=a, h2=b`)

	interrupt()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	described, err := cluster.Tool(ctx, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", cluster.Bootstrap(),
		"--describe", "--group", topic)
	if err != nil {
		t.Fatal(err)
	}
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
		if f[5] != "0" {
			t.Errorf("lag is not 0: %s", line)
		}
	}
	if total != 6 {
		t.Errorf("committed offsets add up to %d, want 6", total)
	}
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
			t.Fatalf("%q was not printed, but:\n%s", piece, strings.Join(others, ""))
		}
	}
}
