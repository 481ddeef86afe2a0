package kafka_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// redriveVictimEnv makes the test program a process that redrives: its value is the topic,
// the brokers, the number of acknowledged sends after which it kills itself, or 0, and
// "start" for the first run.
const redriveVictimEnv = "GOPKG_REDRIVE_VICTIM"

func init() {
	if args := strings.Fields(os.Getenv(redriveVictimEnv)); len(args) > 0 {
		die, _ := strconv.ParseInt(args[2], 10, 64)
		redriveVictim(args[0], args[1], die, len(args) > 3)
	}
}

const victimRate = 250

// redriveVictim makes a run, and prints its report.
func redriveVictim(topic, brokers string, die int64, fromStart bool) {
	m := kafka.New(realDriver(), kafka.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))), kafka.WithHook(&suicide{after: die}))
	err := m.RegisterConsumer(context.Background(), kafka.NewConsumer(redrivenConfig(topic, brokers), handleNothing))
	var report kafka.RedriveReport
	if err == nil {
		report, err = m.Redrive(context.Background(), kafka.RedriveConfig{JobName: "redriven", Rate: victimRate, FromStart: fromStart})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(report)
	os.Exit(0)
}

// A suicide kills its process, as kill -9 does, when so many sends are acknowledged.
type suicide struct {
	kafka.NopHook
	after, acked int64
}

func (h *suicide) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	return ctx, h
}

func (h *suicide) End(_ kafka.OpToken, op *kafka.Op) {
	if op.Kind != kafka.OpSend || op.Err != nil || atomic.AddInt64(&h.acked, 1) != h.after {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // until it is dead
}

func redrivenConfig(topic, brokers string) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "redriven", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second, Order: kafka.OrderNone,
		Failure: kafka.FailurePolicy{
			Then: kafka.FailureDeadLetter, MaxAttempts: 1, DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"},
			RetryTopics: []kafka.RetryTopic{{Delay: time.Second}},
		},
	}
}

// 1,000 dead letters are redriven at a rate by a process that is killed twice, between the
// answers to a round and its commit. Each arrives, and only those have a second copy that
// were under way when it was killed. Then their consumer handles them.
func TestRealRedrive(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	const letters = 1000
	topic := fmt.Sprintf("redriven-%d", time.Now().UnixNano())
	w := &realRedrive{cluster: cluster, outside: outside.Of(strings.Split(cluster.Bootstrap(), ",")...), topic: topic, dlq: topic + ".dlq", retry: topic + "." + topic + ".retry.1s"}
	for name, partitions := range map[string]int{topic: 2, w.dlq: 3, w.retry: 4} {
		require.NoError(t, cluster.CreateTopic(t.Context(), name, partitions, nil))
	}
	w.bury(t, letters)

	underWay := map[string]bool{}
	for kill, sends := range []int{307, 412} {
		p := w.start(t, sends, kill == 0)
		w.await(t, p)
		require.False(t, p.cmd.ProcessState.Exited(), "it was killed: %s", &p.stderr)
		sent := w.settled(t)
		before := w.committed(t)
		n := 0
		for value := range sent {
			if !before[value] {
				underWay[value] = true
				n++
			}
		}
		assert.LessOrEqual(t, n, victimRate/10, "under way when it was killed")
		assert.Positive(t, n)
		t.Logf("killed: %d are in the topic, %d of them not committed", len(sent), n)
	}
	p := w.start(t, 0, false)
	w.await(t, p)
	require.True(t, p.cmd.ProcessState.Success(), "%s", &p.stderr)
	var report kafka.RedriveReport
	require.NoError(t, json.Unmarshal(p.stdout.Bytes(), &report), "%s", &p.stdout)

	sent := w.settled(t)
	assert.Len(t, sent, letters, "each arrives")
	assert.Len(t, w.committed(t), letters)
	twice := 0
	for value, n := range sent {
		if n > 1 {
			twice++
			assert.True(t, underWay[value] && n == 2, "%s is there %d times", value, n)
		}
	}
	t.Logf("the last run has sent %d; %d dead letters are there twice", report.Sent, twice)
	w.consume(t, sent)
}

type realRedrive struct {
	cluster           *kafkacluster.Cluster
	outside           outside.Client
	topic, dlq, retry string
}

// bury sends dead letters by a client that is not ours.
func (w *realRedrive) bury(t *testing.T, n int) {
	t.Helper()
	client, err := w.cluster.Client(kgo.DefaultProduceTopic(w.dlq))
	require.NoError(t, err)
	defer client.Close()
	for i := range n {
		r := &kgo.Record{Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}
		for _, h := range deadHeaders(w.topic, w.topic, i) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		client.Produce(context.Background(), r, func(_ *kgo.Record, err error) { assert.NoError(t, err) })
	}
	require.NoError(t, client.Flush(t.Context()))
}

// A redriveProcess is one run of the victim.
type redriveProcess struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan struct{}
}

func (w *realRedrive) start(t *testing.T, die int, first bool) *redriveProcess {
	t.Helper()
	args := fmt.Sprint(w.topic, " ", w.cluster.Bootstrap(), " ", die)
	if first {
		args += " start"
	}
	p := &redriveProcess{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), redriveVictimEnv+"="+args)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p
}

// await waits until a run has ended.
func (w *realRedrive) await(t *testing.T, p *redriveProcess) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		require.NoError(t, p.cmd.Process.Kill())
		<-p.done
		require.FailNow(t, "it has not ended", "%s", &p.stderr)
	}
}

func (w *realRedrive) count(t *testing.T) (n int64) {
	t.Helper()
	ends, err := w.cluster.EndOffsets(t.Context(), w.retry)
	require.NoError(t, err)
	for _, end := range ends {
		n += end
	}
	return n
}

// settled returns how often each dead letter is in the retry topic, when nothing comes any
// longer.
func (w *realRedrive) settled(t *testing.T) map[string]int {
	t.Helper()
	for n := int64(-1); n != w.count(t); time.Sleep(500 * time.Millisecond) {
		n = w.count(t)
	}
	sent := map[string]int{}
	w.read(t, w.retry, func(_ int32, r *kafka.Message) {
		sent[string(r.Value)]++
		assert.Equal(t, "1", string(r.Header(kafka.HeaderRedrives)))
		assert.Equal(t, string(r.Value), string(r.Header(kafka.HeaderRetryOffset)))
		assert.Nil(t, r.Header(kafka.HeaderErrorTopic))
	})
	return sent
}

// committed returns the dead letters below the committed positions.
func (w *realRedrive) committed(t *testing.T) map[string]bool {
	t.Helper()
	offsets, err := w.cluster.CommittedOffsets(t.Context(), w.topic+".redrive")
	require.NoError(t, err)
	below := map[string]bool{}
	w.read(t, w.dlq, func(p int32, r *kafka.Message) {
		if r.Offset < offsets[w.dlq][p] {
			below[string(r.Value)] = true
		}
	})
	return below
}

func (w *realRedrive) read(t *testing.T, topic string, each func(int32, *kafka.Message)) {
	t.Helper()
	ends, err := w.cluster.EndOffsets(t.Context(), topic)
	require.NoError(t, err)
	for p := range ends {
		records, err := w.outside.Read(t.Context(), topic, p)
		require.NoError(t, err)
		for _, r := range records {
			each(p, &kafka.Message{Topic: topic, Partition: p, Offset: r.Offset, Value: r.Value, Headers: r.Headers})
		}
	}
}

// consume lets the consumer of the dead letters handle what was sent. It makes dry runs
// beside it, which move nothing.
func (w *realRedrive) consume(t *testing.T, sent map[string]int) {
	t.Helper()
	handled := make(chan string, 2000)
	m := newManager(t, realDriver())
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(redrivenConfig(w.topic, w.cluster.Bootstrap()), func(_ context.Context, r *kafka.Message) error {
		assert.Equal(t, w.topic, r.Source().Topic)
		handled <- string(r.Value)
		return nil
	})))
	require.NoError(t, m.SetConsumerSwitch("redriven", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	report, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "redriven", DryRun: true, FromStart: true, Limit: 900})
	require.NoError(t, err)
	assert.Equal(t, kafka.RedriveReport{Read: 900, Sent: 900, Again: true}, report)
	report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "redriven", DryRun: true, Since: time.Now().Add(-time.Hour)})
	require.NoError(t, err)
	assert.Equal(t, kafka.RedriveReport{Read: len(sent), Sent: len(sent), Again: true}, report)
	report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "redriven"})
	require.NoError(t, err)
	assert.Equal(t, kafka.RedriveReport{}, report)
	got := map[string]int{}
	for n := 0; n < total(maps.Values(sent)); n++ {
		select {
		case value := <-handled:
			got[value]++
		case <-time.After(time.Minute):
			require.Len(t, got, len(sent), "not within a minute")
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(sent)), slices.Sorted(maps.Keys(got)))
}

func total(ns iter.Seq[int]) (sum int) {
	for n := range ns {
		sum += n
	}
	return sum
}
