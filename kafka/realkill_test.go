package kafka_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

const (
	killedEnv         = "GOPKG_KILLED" // brokers, topic, "metadata" if commits carry it, and "stuck" or "free"
	killedParallelism = 64
	killedKeys        = 1000
	killedRecords     = 60_000
)

// The test binary is the process that is killed, too.
func init() {
	if args := strings.Fields(os.Getenv(killedEnv)); len(args) == 4 {
		if err := consumeUntilKilled(args[0], args[1], args[2] == "metadata", args[3] == "stuck"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// consumeUntilKilled handles 64 records at once, in order of their keys, and prints a line
// when a call begins and when it has handled its record, and when a commit begins and is
// acknowledged. If it is stuck, the calls for one key do not return, so that all that is
// finished is above the position. It ends in good order when its standard input does.
func consumeUntilKilled(brokers, topic string, metadata, stuck bool) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	m := kafka.New(realDriver(), kafka.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))), kafka.WithHook(commitLines{}))
	return m.Run(ctx, kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "killed", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
		InstanceID:     "killed", // so that the next process need not wait for the end of a session
		CommitInterval: 200 * time.Millisecond,
		Order:          kafka.OrderByKey, Parallelism: killedParallelism, NoCommitMetadata: !metadata,
	}, func(ctx context.Context, m *kafka.Message) error {
		fmt.Printf("start %d\n", m.Offset)
		if stuck && keyOf(m.Offset) == 0 {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		time.Sleep(time.Duration(5+m.Offset%7) * time.Millisecond)
		fmt.Printf("done %d\n", m.Offset)
		return nil
	}))
}

// commitLines is a hook that prints when a commit begins, and when it is acknowledged.
type commitLines struct{ kafka.NopHook }

func (commitLines) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	if op.Kind != kafka.OpCommit {
		return ctx, nil
	}
	fmt.Println("commit 0")
	return ctx, commitLines{}
}

func (commitLines) End(_ kafka.OpToken, op *kafka.Op) {
	if op.Err == nil {
		fmt.Println("committed 0")
	}
}

func keyOf(offset int64) int64 { return offset * 7919 % killedKeys }

// A process that handles 64 records of a partition at once is killed ten times. Nothing is
// lost, the first deliveries of each key are in order, one key has one handler at a time,
// and after each kill no more records are handed out again than were in flight, or had been
// finished since the last acknowledged commit.
func TestRealKilledWithManyAtOnce(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	again := map[string]int{}
	for _, commits := range []string{"metadata", "none"} {
		t.Run(commits, func(t *testing.T) { again[commits] = killTenTimes(t, cluster, commits) })
	}
	if !t.Failed() {
		assert.Less(t, again["metadata"], again["none"], "handed out again")
	}
}

func killTenTimes(t *testing.T, cluster *kafkacluster.Cluster, commits string) (again int) {
	topic := fmt.Sprintf("killed-%s-%d", commits, time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
	client, err := cluster.Client(kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	defer client.Close()
	for i := range int64(killedRecords) {
		client.Produce(t.Context(), &kgo.Record{Key: fmt.Appendf(nil, "customer-%d", keyOf(i)), Value: []byte("order")}, nil)
	}
	require.NoError(t, client.Flush(t.Context()))

	h := &history{started: map[int64]bool{}, done: map[int64]bool{}, latest: map[int64]int64{}}
	most := 0 // records that the next process may get again
	for kill := range 10 {
		p := startKilled(t, cluster.Bootstrap(), topic, commits, "stuck")
		p.followUntil(t, h, func() bool { return h.finished >= 2500+311*kill })
		require.NoError(t, p.cmd.Process.Kill())
		p.followUntil(t, h, nil)
		t.Logf("kill %d: %d records finished, %d in flight, %d finished since the last acknowledged commit; %d of the records before again, of %d allowed",
			kill+1, h.finished, len(h.flying), h.finished-h.acknowledged, h.again, most)
		if commits == "metadata" {
			assert.LessOrEqual(t, h.again, most)
		}
		again += h.again
		// A record whose line came before that of a commit may not be part of it: its
		// handler has printed, and has not returned.
		most = len(h.flying) + h.finished - h.acknowledged + killedParallelism
		h.nextProcess()
	}
	p := startKilled(t, cluster.Bootstrap(), topic, commits, "free")
	p.followUntil(t, h, func() bool { return len(h.done) == killedRecords })
	require.NoError(t, p.in.Close())
	p.followUntil(t, h, nil)
	again += h.again
	assert.Empty(t, h.broken)
	committed, err := cluster.CommittedOffsets(t.Context(), topic)
	require.NoError(t, err)
	assert.EqualValues(t, killedRecords, committed[topic][0], "committed")
	t.Logf("%d records, %d handed out again after 10 kills", killedRecords, again)
	return again
}

// A history is what the processes have printed.
type history struct {
	started, done map[int64]bool
	latest        map[int64]int64 // by key: the last record that was handed out for the first time
	broken        []string

	// Of the process at hand:
	finished, acknowledged int             // records, and those that an acknowledged commit may name
	committing             int             // finished when the commit began
	again                  int             // records handed out that a process before had got
	flying                 map[int64]int64 // by key
	mine                   map[int64]bool  // handed out
}

func (h *history) nextProcess() {
	h.finished, h.acknowledged, h.committing, h.again = 0, 0, 0, 0
	h.flying, h.mine = map[int64]int64{}, map[int64]bool{}
}

func (h *history) line(what string, offset int64) {
	key := keyOf(offset)
	switch what {
	case "start":
		if other, flies := h.flying[key]; flies {
			h.broken = append(h.broken, fmt.Sprintf("%d is handed out while %d, of the same key, is with a handler", offset, other))
		}
		h.flying[key] = offset
		if h.mine[offset] {
			h.broken = append(h.broken, fmt.Sprintf("%d is handed out twice by one process", offset))
		}
		h.mine[offset] = true
		if h.started[offset] {
			h.again++
			return
		}
		h.started[offset] = true
		if last, any := h.latest[key]; any && last > offset {
			h.broken = append(h.broken, fmt.Sprintf("%d is handed out after %d of the same key", offset, last))
		}
		h.latest[key] = offset
	case "done":
		delete(h.flying, key)
		h.done[offset] = true
		h.finished++
	case "commit":
		h.committing = h.finished
	case "committed":
		h.acknowledged = h.committing
	}
}

// A killedProcess is one that runs consumeUntilKilled.
type killedProcess struct {
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
}

func startKilled(t *testing.T, args ...string) *killedProcess {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { // for a test that has failed
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &killedProcess{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
}

// followUntil reads lines until enough holds, or until the process has ended.
func (p *killedProcess) followUntil(t *testing.T, h *history, enough func() bool) {
	t.Helper()
	if h.mine == nil {
		h.nextProcess()
	}
	for enough == nil || !enough() {
		if !p.lines.Scan() {
			require.Nil(t, enough, "the process has ended by itself")
			_ = p.cmd.Wait()
			return
		}
		var what string
		var offset int64
		if _, err := fmt.Sscanf(p.lines.Text(), "%s %d", &what, &offset); err == nil { // the last line may be cut off
			h.line(what, offset)
		}
	}
}
