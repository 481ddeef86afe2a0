package kafkacluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(dieEnv) != "" {
		startAndWait()
	}
	testkit.NoLeaks(m)
}

// TestJars has a name of its own so that CI can download, and make brokers start faster,
// before it measures.
func TestJars(t *testing.T) {
	NotShort(t)
	for _, version := range []string{DefaultVersion, OldestVersion} {
		java, err := findJava(t.Context(), version)
		if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
			t.Skipf("skipped: %v", err)
		}
		require.NoError(t, err)
		found, _ := filepath.Glob(filepath.Join(java.jars, "kafka_2.13-"+version+".jar"))
		assert.Len(t, found, 1, "Kafka %s in %s", version, java.jars)
		require.NoError(t, makeArchive(t.Context(), version))
		assert.FileExists(t, java.archive)
	}
}

// TestOneBroker checks a cluster by Kafka's own programs.
func TestOneBroker(t *testing.T) {
	c := ForTest(t, Config{Private: true})
	ctx := testkit.Within(t, time.Minute)
	require.NoError(t, c.CreateTopic(ctx, "orders", 2, map[string]string{"retention.ms": "86400000"}))

	want := []string{"a", "b", "c"}
	produce(t, c, "orders", want...)
	ends, err := c.EndOffsets(ctx, "orders")
	require.NoError(t, err)
	assert.Len(t, ends, 2, "partitions")
	assert.Equal(t, int64(3), ends[0]+ends[1], "records")

	out, err := c.Tool(ctx, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", c.Bootstrap(),
		"--topic", "orders", "--group", "billing", "--from-beginning", "--max-messages", "3")
	require.NoError(t, err)
	assert.Equal(t, want, slices.Sorted(slices.Values(strings.Fields(out))), "what the console consumer read")
	committed, err := c.CommittedOffsets(ctx, "billing")
	require.NoError(t, err)
	assert.Equal(t, ends, committed["orders"], "committed offsets of orders")

	out, err = c.Tool(ctx, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", c.Bootstrap(), "--describe", "--topic", "orders")
	assert.NoError(t, err)
	assert.Contains(t, out, "retention.ms=86400000")
	assert.Error(t, c.CreateTopic(ctx, "orders", 2, nil), "a topic that exists")
	_, err = c.Tool(ctx, "no.such.Class")
	assert.ErrorContains(t, err, "no.such.Class")

	t.Run("External", func(t *testing.T) {
		t.Setenv("KAFKA_BROKERS", c.Bootstrap())
		c := ForTest(t, Config{})
		got, err := c.EndOffsets(ctx, "orders")
		assert.NoError(t, err)
		assert.Equal(t, ends, got)
		if b, err := c.Coordinator(ctx, "billing"); assert.NoError(t, err) {
			assert.EqualValues(t, 1, b.ID(), "coordinator")
		}
		assert.NoError(t, c.Ready(ctx))
		for name, do := range map[string]func() error{
			"Kill": c.Broker(1).Kill, "Stop": c.Broker(1).Stop,
			"Pause": c.Broker(1).Pause, "Continue": c.Broker(1).Continue,
			"Restart": func() error { return c.Broker(1).Restart(ctx) },
		} {
			assert.ErrorIs(t, do(), ErrExternal, name)
		}
		assert.NoError(t, c.Close())
	})

	pids := []int{c.Broker(1).PID(), c.janitor.cmd.Process.Pid}
	require.NoError(t, c.Close())
	for _, pid := range pids {
		assert.False(t, alive(pid), "process %d still runs after Close", pid)
	}
	assert.NoFileExists(t, c.dir)
	assert.NoDirExists(t, c.dir)
	assert.ErrorIs(t, c.Broker(1).Restart(ctx), ErrClosed, "after Close")
}

func TestThreeBrokers(t *testing.T) {
	c := ForTest(t, Config{Brokers: 3})
	ctx := testkit.Within(t, 3*startTimeout) // brokers start four times
	require.NoError(t, c.CreateTopic(ctx, "orders", 3, nil))
	produce(t, c, "orders", "a", "b", "c")
	ends, err := c.EndOffsets(ctx, "orders")
	require.NoError(t, err)
	intact := func(when string) {
		t.Helper()
		require.NoError(t, c.Ready(ctx), when)
		got, err := c.EndOffsets(ctx, "orders")
		require.NoError(t, err, when)
		require.Equal(t, ends, got, when)
	}

	victim := leader(t, c, "orders")
	require.NoError(t, victim.Kill())
	assert.Zero(t, victim.PID(), "after Kill")
	assert.Error(t, c.Ready(ctx), "with a broker down")
	awaitOtherLeader(t, c, victim)
	require.NoError(t, victim.Restart(ctx))
	intact("after a kill")

	frozen := leader(t, c, "orders")
	require.NoError(t, frozen.Pause())
	awaitOtherLeader(t, c, frozen)
	require.NoError(t, frozen.Continue())
	intact("after a pause")

	pid := c.Broker(2).PID()
	require.NoError(t, c.Broker(2).Restart(ctx), "of a broker that runs")
	assert.NotZero(t, c.Broker(2).PID())
	assert.NotEqual(t, pid, c.Broker(2).PID(), "after Restart")
	intact("after a restart")

	for _, b := range c.Brokers() {
		require.NoError(t, b.Kill())
	}
	var wg sync.WaitGroup
	for _, b := range c.Brokers() {
		wg.Go(func() {
			assert.NoError(t, b.Restart(ctx))
		})
	}
	wg.Wait()
	intact("after an outage")
}

func TestOldestVersion(t *testing.T) {
	c := ForTest(t, Config{Version: OldestVersion})
	ctx := testkit.Within(t, time.Minute)
	require.NoError(t, c.CreateTopic(ctx, "orders", 1, nil))
	offsets, err := c.CommittedOffsets(ctx, "billing")
	assert.NoError(t, err)
	assert.Empty(t, offsets)
	assert.NoError(t, c.Ready(ctx))
}

// TestAdvertise puts a proxy before every listener, and takes a port away from
// the first attempt.
func TestAdvertise(t *testing.T) {
	var (
		taken net.Listener
		used  = map[string]*atomic.Int32{}
	)
	c := ForTest(t, Config{Advertise: func(broker int, listener, addr string) string {
		if taken == nil {
			var err error
			taken, err = net.Listen("tcp", addr)
			require.NoError(t, err)
		}
		used[listener] = new(atomic.Int32)
		return proxy(t, addr, used[listener])
	}})
	defer taken.Close()
	ctx := testkit.Within(t, time.Minute)
	require.NoError(t, c.CreateTopic(ctx, "orders", 1, nil))
	assert.Zero(t, used["PLAINTEXT"].Load(), "connections of CreateTopic to a proxy")
	produce(t, c, "orders", "a")
	for _, listener := range []string{"PLAINTEXT", "CONTROLLER"} {
		assert.NotZero(t, used[listener].Load(), "connections to the proxy before %s", listener)
	}
}

func TestInvalidConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Brokers: 2},
		{Brokers: -1},
		{Security: &Security{Users: map[string]string{"alice": `"`}}},
		{Security: &Security{Users: map[string]string{"alice": ""}}},
	} {
		c, err := Start(t.Context(), cfg)
		if !assert.Error(t, err, "Start(%+v)", cfg) {
			c.Close()
		}
	}
}

func TestStartFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		props map[string]string
		limit time.Duration
		want  string
	}{
		{"bad property", map[string]string{"num.io.threads": "none"}, time.Minute, "num.io.threads"},
		{"no time", nil, time.Millisecond, context.DeadlineExceeded.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			NotShort(t)
			if _, err := findJava(t.Context(), DefaultVersion); err != nil {
				t.Skipf("skipped: %v", err) // TestJars fails in CI
			}
			dir := t.TempDir()
			_, err := Start(testkit.Within(t, test.limit), Config{Dir: dir, Properties: test.props})
			assert.ErrorContains(t, err, test.want)
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			assert.Empty(t, left, "files that Start left behind")
		})
	}
}

// Without java or mvn, Start says which is missing, and ForTest skips, or fails in
// CI. None of this needs a Kafka, so it holds with -short, too.
func TestUnavailable(t *testing.T) {
	testkit.SetShort(t, false)
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("KAFKA_BROKERS", "")
	t.Setenv("KAFKA_SKIP", "")
	for _, missing := range []string{"java", "mvn"} {
		_, err := Start(t.Context(), Config{})
		assert.ErrorIs(t, err, ErrUnavailable)
		assert.ErrorContains(t, err, missing)
		for ci, want := range map[string]string{"": "skip", "true": "fatal"} {
			t.Setenv("CI", ci)
			end := forTest(t, Config{})
			assert.True(t, strings.HasPrefix(end, want), "with CI=%q ForTest ends by %q, want %s", ci, end, want)
			assert.Contains(t, end, missing, "with CI=%q", ci)
		}
		require.NoError(t, os.WriteFile(filepath.Join(bin, missing), []byte("#!/bin/sh\n"), 0o755))
	}
}

// With -short a test that needs a Kafka is skipped, with its reason, before it looks for
// a Java or downloads anything. In CI it is not skipped.
func TestFault_G1_ShortSkipsWithAReasonAndCIDoesNot(t *testing.T) {
	testkit.SetShort(t, true)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("KAFKA_BROKERS", "")
	t.Setenv("KAFKA_SKIP", "")
	t.Setenv("CI", "")
	assert.Equal(t, "skip: skipped: needs a real Kafka, and -short is set", forTest(t, Config{}))
	t.Setenv("CI", "true")
	assert.Regexp(t, "^fatal: .*java", forTest(t, Config{}))
}

// A broker unpacks its libraries into the cluster's own directory, which Close removes.
func TestFault_G3_BrokersLeaveNoTemporaryFiles(t *testing.T) {
	system := t.TempDir()
	t.Setenv("TMPDIR", system)
	t.Setenv("JAVA_TOOL_OPTIONS", "-Djava.io.tmpdir="+system) // of a JVM that is given no other
	c := ForTest(t, Config{Private: true, Dir: t.TempDir()})
	ctx := testkit.Within(t, time.Minute)
	require.NoError(t, c.CreateTopic(ctx, "orders", 1, map[string]string{"compression.type": "snappy"}))
	produce(t, c, "orders", "a")
	unpacked, err := filepath.Glob(filepath.Join(c.java.tmp, "*snappy*"))
	require.NoError(t, err)
	assert.NotEmpty(t, unpacked, "the broker has unpacked no library for snappy, so this test shows nothing")
	left, err := os.ReadDir(system)
	require.NoError(t, err)
	for _, f := range left {
		assert.NotContains(t, f.Name(), "snappy")
		assert.NotContains(t, f.Name(), "lz4")
		assert.NotContains(t, f.Name(), "zstd")
	}
	require.NoError(t, c.Close())
	assert.NoDirExists(t, c.java.tmp)
}

// forTest runs ForTest on a test that only records how it ended.
func forTest(t *testing.T, cfg Config) string {
	fake := &fakeTest{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ForTest(fake, cfg)
	}()
	<-done
	return fake.end
}

type fakeTest struct {
	testing.TB
	end string
}

func (f *fakeTest) Skip(args ...any)                 { f.stop("skip", fmt.Sprint(args...)) }
func (f *fakeTest) Skipf(format string, args ...any) { f.stop("skip", fmt.Sprintf(format, args...)) }
func (f *fakeTest) Fatal(args ...any)                { f.stop("fatal", fmt.Sprint(args...)) }
func (f *fakeTest) stop(how, why string) {
	f.end = how + ": " + why
	runtime.Goexit()
}

// dieEnv makes the test program start a cluster, print that, and wait to be killed.
const dieEnv = "KAFKACLUSTER_TEST_DIE"

func startAndWait() {
	c, err := Start(context.Background(), Config{Dir: os.Getenv(dieEnv)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.Broker(1).PID())
	select {}
}

func TestDeath(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux kills the children of a process that dies")
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			NotShort(t)
			if _, err := findJava(t.Context(), DefaultVersion); err != nil {
				t.Skipf("skipped: %v", err) // TestJars fails in CI
			}
			dir := t.TempDir()
			broker, kill := startInChild(t, dir)
			require.True(t, alive(broker), "broker %d does not run", broker)
			kill(sig)
			// Without its files a broker gives up by itself, after 15 s.
			err := poll(testkit.Within(t, 5*time.Second), "end of broker", func(context.Context) (string, error) {
				if alive(broker) {
					return fmt.Sprintf("process %d", broker), nil
				}
				return "", nil
			})
			assert.NoError(t, err)
			err = poll(testkit.Within(t, 10*time.Second), "removal", func(context.Context) (string, error) {
				left, err := filepath.Glob(filepath.Join(dir, "*"))
				return strings.Join(left, " "), err
			})
			assert.NoError(t, err)
		})
	}
}

// startInChild has another process start a cluster in dir.
func startInChild(t *testing.T, dir string) (broker int, kill func(syscall.Signal)) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	child, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Env:   append(os.Environ(), dieEnv+"="+dir),
		Files: []*os.File{nil, w, os.Stderr},
	})
	w.Close()
	require.NoError(t, err)
	kill = func(sig syscall.Signal) {
		child.Signal(sig)
		child.Wait()
	}
	if _, err := fmt.Fscan(r, &broker); err != nil {
		rest, _ := io.ReadAll(r)
		kill(syscall.SIGKILL)
		require.NoError(t, err, "%s", rest)
	}
	return broker, kill
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil {
		return len(cmdline) > 0
	}
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

// produce sends values by the console producer.
func produce(t *testing.T, c *Cluster, topic string, values ...string) {
	t.Helper()
	in := strings.NewReader(strings.Join(values, "\n") + "\n")
	_, err := c.ToolInput(testkit.Within(t, time.Minute), in, "org.apache.kafka.tools.ConsoleProducer",
		"--bootstrap-server", c.Bootstrap(), "--topic", topic)
	require.NoError(t, err)
}

func leader(t *testing.T, c *Cluster, topic string) *Broker {
	t.Helper()
	b, err := c.Leader(testkit.Within(t, startTimeout), topic, 0)
	require.NoError(t, err)
	return b
}

func awaitOtherLeader(t *testing.T, c *Cluster, old *Broker) {
	t.Helper()
	begin := time.Now()
	err := poll(testkit.Within(t, startTimeout), "another leader", func(ctx context.Context) (string, error) {
		b, err := c.Leader(ctx, "orders", 0)
		if err != nil || b == old {
			return fmt.Sprintf("it is %v, %v", b, err), nil
		}
		return "", nil
	})
	require.NoError(t, err)
	t.Logf("another leader after %v", time.Since(begin).Round(time.Millisecond))
}

// proxy forwards connections to addr and counts them.
func proxy(t *testing.T, addr string, used *atomic.Int32) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	forward := func(dst, src net.Conn) {
		io.Copy(dst, src)
		dst.Close()
		src.Close()
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			used.Add(1)
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			wg.Go(func() { forward(in, out) })
			wg.Go(func() { forward(out, in) })
		}
	})
	return l.Addr().String()
}
