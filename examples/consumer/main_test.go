package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// TestRealKafka runs the program as a process of its own against a real Kafka.
func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	program := build(ctx, t)
	t.Run("Interrupt", func(t *testing.T) { testInterrupt(ctx, t, cluster, program) })
	t.Run("Kill", func(t *testing.T) { testKill(ctx, t, cluster, program) })
}

// SIGINT while handlers run: they finish and send their results, the offsets
// are committed, the group is left, and the process exits with 0 within 2s.
func testInterrupt(ctx context.Context, t *testing.T, cluster *kafkacluster.Cluster, program string) {
	e := newEnv(ctx, t, cluster, 4)
	e.send(ctx, t, 0, 40)
	p := e.start(ctx, t, program, "-work", "400ms")
	p.await(ctx, t, func(o *output) bool { return len(o.handled) >= 4 && len(o.started) > len(o.handled) })
	began := time.Now()
	p.signal(t, os.Interrupt)
	require.NoError(t, p.cmd.Wait(), "exit:\n%s", p.stderr)
	took := time.Since(began)
	<-p.read
	assert.LessOrEqual(t, took, 2*time.Second, "the time until the exit")
	assert.Len(t, p.out.handled, len(p.out.started), "orders that were handled of those that were started")
	committed := e.committed(ctx, t)
	assert.Equal(t, len(p.out.handled), committed, "committed, of those that were handled")
	results := e.ends(ctx, t, e.results)
	assert.Equal(t, len(p.out.handled), results, "results")
	members, err := cluster.Tool(ctx, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", cluster.Bootstrap(),
		"--describe", "--group", e.group, "--state")
	require.NoError(t, err)
	assert.Contains(t, members, "Empty", "the state of the group")
	t.Logf("handled %d, committed %d, exit after %v", len(p.out.handled), committed, took)
}

// kill -9 in the middle of handling, ten times: every order is handled at least
// once, and at no time is one committed that was not handled.
func testKill(ctx context.Context, t *testing.T, cluster *kafkacluster.Cluster, program string) {
	const kills, orders = 10, 600
	e := newEnv(ctx, t, cluster, 4)
	e.send(ctx, t, 0, orders)
	handled := map[string]int{}
	for kill := range kills {
		p := e.start(ctx, t, program, "-work", "20ms", "-session", "6s") // the group waits that long for the one before
		p.await(ctx, t, func(o *output) bool { return len(o.handled) >= 5+kill && len(o.started) > len(o.handled) })
		p.signal(t, syscall.SIGKILL)
		_ = p.cmd.Wait() // killed, of course
		<-p.read
		merge(handled, p.out.handled)
		e.checkCommitted(ctx, t, handled)
	}
	p := e.start(ctx, t, program, "-work", "1ms")
	p.await(ctx, t, func(o *output) bool {
		all := map[string]int{}
		merge(all, handled)
		merge(all, o.handled)
		return len(all) == orders
	})
	p.signal(t, os.Interrupt)
	assert.NoError(t, p.cmd.Wait(), "exit:\n%s", p.stderr)
	<-p.read
	merge(handled, p.out.handled)
	e.checkCommitted(ctx, t, handled)
	again := 0
	for _, n := range handled {
		again += n - 1
	}
	assert.Equal(t, orders, e.committed(ctx, t), "committed")
	assert.Len(t, handled, orders)
	t.Logf("%d kills: %d orders handled, %d handled again", kills, len(handled), again)
}

func merge(into, from map[string]int) {
	for order, n := range from {
		into[order] += n
	}
}

func build(ctx context.Context, t *testing.T) string {
	program := filepath.Join(t.TempDir(), "consumer")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "build:\n%s", out)
	return program
}

// An env is one pair of topics and the group that consumes the first.
type env struct {
	cluster               *kafkacluster.Cluster
	client                *kgo.Client
	topic, results, group string
	partitions            int32
}

func newEnv(ctx context.Context, t *testing.T, cluster *kafkacluster.Cluster, partitions int32) *env {
	t.Helper()
	name := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	e := &env{cluster: cluster, topic: name, results: name + "-results", group: name, partitions: partitions}
	for topic, n := range map[string]int32{e.topic: partitions, e.results: 1} {
		require.NoError(t, cluster.CreateTopic(ctx, topic, int(n), nil))
	}
	client, err := cluster.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	e.client = client
	return e
}

// send sends orders whose value is partition/offset, so that what was handled
// can be held against what is committed.
func (e *env) send(ctx context.Context, t *testing.T, from, count int) {
	t.Helper()
	for i := from; i < from+count; i++ {
		p := int32(i) % e.partitions
		r := &kgo.Record{Topic: e.topic, Partition: p, Value: fmt.Appendf(nil, "%d/%d", p, int32(i)/e.partitions)}
		e.client.Produce(ctx, r, nil)
	}
	require.NoError(t, e.client.Flush(ctx))
}

// checkCommitted fails if an order below a committed offset was not handled.
func (e *env) checkCommitted(ctx context.Context, t *testing.T, handled map[string]int) {
	t.Helper()
	offsets, err := e.cluster.CommittedOffsets(ctx, e.group)
	require.NoError(t, err)
	for p, committed := range offsets[e.topic] {
		for o := range committed {
			order := fmt.Sprintf("%d/%d", p, o)
			require.NotZero(t, handled[order], "partition %d is committed at %d, but order %s was not handled", p, committed, order)
		}
	}
}

func (e *env) committed(ctx context.Context, t *testing.T) int {
	t.Helper()
	offsets, err := e.cluster.CommittedOffsets(ctx, e.group)
	require.NoError(t, err)
	return sum(offsets[e.topic])
}

func (e *env) ends(ctx context.Context, t *testing.T, topic string) int {
	t.Helper()
	offsets, err := e.cluster.EndOffsets(ctx, topic)
	require.NoError(t, err)
	return sum(offsets)
}

func sum(offsets map[int32]int64) int {
	total := 0
	for _, o := range offsets {
		total += int(max(o, 0))
	}
	return total
}

// A process is one run of the program, whose output is read to its end.
type process struct {
	cmd     *exec.Cmd
	stderr  *strings.Builder
	read    chan struct{} // closed when stdout has been read to its end
	changed chan struct{}

	mu  sync.Mutex
	out output
}

// An output counts the orders that were started and handled.
type output struct{ started, handled map[string]int }

func (e *env) start(ctx context.Context, t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{
		cmd: exec.CommandContext(ctx, program, append(args, "-brokers", e.cluster.Bootstrap(),
			"-topic", e.topic, "-results", e.results, "-group", e.group)...),
		stderr:  new(strings.Builder),
		read:    make(chan struct{}),
		changed: make(chan struct{}, 1),
		out:     output{map[string]int{}, map[string]int{}},
	}
	p.cmd.Stderr = p.stderr
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = w
	require.NoError(t, p.cmd.Start())
	_ = w.Close() // the process has its own
	go p.follow(r)
	return p
}

func (p *process) follow(r io.ReadCloser) {
	defer close(p.read)
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		what, order, _ := strings.Cut(s.Text(), " ")
		p.mu.Lock()
		switch what {
		case "start":
			p.out.started[order]++
		case "handled":
			p.out.handled[order]++
		}
		p.mu.Unlock()
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
}

// await waits until the output is as wanted.
func (p *process) await(ctx context.Context, t *testing.T, wanted func(*output) bool) {
	t.Helper()
	for {
		p.mu.Lock()
		ok := wanted(&p.out)
		started, handled := len(p.out.started), len(p.out.handled)
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-p.changed:
		case <-p.read:
			require.FailNow(t, "the program ended", p.stderr.String())
		case <-ctx.Done():
			require.FailNow(t, "not within the time of the test", "%d orders started and %d handled", started, handled)
		}
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}
