package kafkacluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(dieEnv) != "" {
		startAndWait()
	}
	goleak.VerifyTestMain(m)
}

// TestJars has a name of its own so that CI can download before it measures.
func TestJars(t *testing.T) {
	NotShort(t)
	for _, version := range []string{DefaultVersion, OldestVersion} {
		java, err := findJava(t.Context(), version)
		if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
			t.Skipf("skipped: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if found, _ := filepath.Glob(filepath.Join(java.jars, "kafka_2.13-"+version+".jar")); len(found) != 1 {
			t.Errorf("no Kafka %s in %s", version, java.jars)
		}
	}
}

// TestOneBroker lets Kafka's own programs judge.
func TestOneBroker(t *testing.T) {
	c := ForTest(t, Config{Private: true})
	ctx := timeout(t, time.Minute)
	if err := c.CreateTopic(ctx, "orders", 2, map[string]string{"retention.ms": "86400000"}); err != nil {
		t.Fatal(err)
	}

	want := []string{"a", "b", "c"}
	produce(t, c, "orders", want...)
	ends, err := c.EndOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if len(ends) != 2 || ends[0]+ends[1] != 3 {
		t.Errorf("EndOffsets = %v, want two that add up to 3", ends)
	}

	out, err := c.Tool(ctx, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", c.Bootstrap(),
		"--topic", "orders", "--group", "billing", "--from-beginning", "--max-messages", "3")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(strings.Fields(out))); !slices.Equal(got, want) {
		t.Errorf("the console consumer read %q, want %q", got, want)
	}
	committed, err := c.CommittedOffsets(ctx, "billing")
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(committed["orders"], ends) {
		t.Errorf("CommittedOffsets = %v, want those of orders to be %v", committed, ends)
	}

	out, err = c.Tool(ctx, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", c.Bootstrap(), "--describe", "--topic", "orders")
	if err != nil || !strings.Contains(out, "retention.ms=86400000") {
		t.Errorf("the topic command says %q, %v, want retention.ms=86400000", out, err)
	}
	if err := c.CreateTopic(ctx, "orders", 2, nil); err == nil {
		t.Error("CreateTopic of a topic that exists succeeded")
	}
	if out, err := c.Tool(ctx, "no.such.Class"); err == nil || !strings.Contains(err.Error(), "no.such.Class") {
		t.Errorf("Tool of a class that does not exist = %q, %v", out, err)
	}

	t.Run("External", func(t *testing.T) {
		t.Setenv("KAFKA_BROKERS", c.Bootstrap())
		c := ForTest(t, Config{})
		if got, err := c.EndOffsets(ctx, "orders"); err != nil || !maps.Equal(got, ends) {
			t.Errorf("EndOffsets = %v, %v, want %v", got, err, ends)
		}
		if b, err := c.Coordinator(ctx, "billing"); err != nil || b.ID() != 1 {
			t.Errorf("Coordinator = %v, %v, want broker 1", b, err)
		}
		if err := c.Ready(ctx); err != nil {
			t.Errorf("Ready = %v", err)
		}
		for name, do := range map[string]func() error{
			"Kill": c.Broker(1).Kill, "Stop": c.Broker(1).Stop,
			"Pause": c.Broker(1).Pause, "Continue": c.Broker(1).Continue,
			"Restart": func() error { return c.Broker(1).Restart(ctx) },
		} {
			if err := do(); !errors.Is(err, ErrExternal) {
				t.Errorf("%s = %v, want ErrExternal", name, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})

	pids := []int{c.Broker(1).PID(), c.janitor.cmd.Process.Pid}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d still runs after Close", pid)
		}
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("stat of the directory after Close: %v, want that it does not exist", err)
	}
	if err := c.Broker(1).Restart(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Restart after Close = %v, want ErrClosed", err)
	}
}

func TestThreeBrokers(t *testing.T) {
	c := ForTest(t, Config{Brokers: 3})
	ctx := timeout(t, 2*time.Minute)
	if err := c.CreateTopic(ctx, "orders", 3, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, c, "orders", "a", "b", "c")
	ends, err := c.EndOffsets(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	intact := func(when string) {
		t.Helper()
		if err := c.Ready(ctx); err != nil {
			t.Fatalf("Ready %s: %v", when, err)
		}
		if got, err := c.EndOffsets(ctx, "orders"); err != nil || !maps.Equal(got, ends) {
			t.Fatalf("EndOffsets %s = %v, %v, want %v", when, got, err, ends)
		}
	}

	victim := leader(t, c, "orders")
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	if pid := victim.PID(); pid != 0 {
		t.Errorf("PID after Kill = %d, want 0", pid)
	}
	if err := c.Ready(ctx); err == nil {
		t.Error("Ready with a broker down succeeded")
	}
	awaitOtherLeader(t, c, victim)
	if err := victim.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	intact("after a kill")

	frozen := leader(t, c, "orders")
	if err := frozen.Pause(); err != nil {
		t.Fatal(err)
	}
	awaitOtherLeader(t, c, frozen)
	if err := frozen.Continue(); err != nil {
		t.Fatal(err)
	}
	intact("after a pause")

	pid := c.Broker(2).PID()
	if err := c.Broker(2).Restart(ctx); err != nil { // of a broker that runs
		t.Fatal(err)
	}
	if now := c.Broker(2).PID(); now == 0 || now == pid {
		t.Errorf("PID after Restart = %d, was %d", now, pid)
	}
	intact("after a restart")

	for _, b := range c.Brokers() {
		if err := b.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, b := range c.Brokers() {
		wg.Go(func() {
			if err := b.Restart(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	intact("after an outage")
}

func TestOldestVersion(t *testing.T) {
	c := ForTest(t, Config{Version: OldestVersion})
	ctx := timeout(t, time.Minute)
	if err := c.CreateTopic(ctx, "orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	if offsets, err := c.CommittedOffsets(ctx, "billing"); err != nil || len(offsets) != 0 {
		t.Errorf("CommittedOffsets = %v, %v, want none", offsets, err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Error(err)
	}
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
			if taken, err = net.Listen("tcp", addr); err != nil {
				t.Fatal(err)
			}
		}
		used[listener] = new(atomic.Int32)
		return proxy(t, addr, used[listener])
	}})
	defer taken.Close()
	ctx := timeout(t, time.Minute)
	if err := c.CreateTopic(ctx, "orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	if n := used["PLAINTEXT"].Load(); n != 0 {
		t.Errorf("CreateTopic used a proxy (%d connections)", n)
	}
	produce(t, c, "orders", "a")
	for _, listener := range []string{"PLAINTEXT", "CONTROLLER"} {
		if used[listener].Load() == 0 {
			t.Errorf("nobody used the proxy before %s", listener)
		}
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
		if err == nil {
			c.Close()
			t.Errorf("Start(%+v) succeeded", cfg)
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
			_, err := Start(timeout(t, test.limit), Config{Dir: dir, Properties: test.props})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start = %v, want an error with %q", err, test.want)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("Start left behind %q", left)
			}
		})
	}
}

// Without java or mvn, Start says which is missing, and ForTest skips, or fails in
// CI. None of this needs a Kafka, so it holds with -short, too.
func TestUnavailable(t *testing.T) {
	setShort(t, false)
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("KAFKA_BROKERS", "")
	t.Setenv("KAFKA_SKIP", "")
	for _, missing := range []string{"java", "mvn"} {
		_, err := Start(t.Context(), Config{})
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), missing) {
			t.Errorf("Start = %v, want ErrUnavailable with %q", err, missing)
		}
		for ci, want := range map[string]string{"": "skip", "true": "fatal"} {
			t.Setenv("CI", ci)
			if got := forTest(t, Config{}); !strings.HasPrefix(got, want) || !strings.Contains(got, missing) {
				t.Errorf("with CI=%q ForTest ends by %q, want %s with %q", ci, got, want, missing)
			}
		}
		if err := os.WriteFile(filepath.Join(bin, missing), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// setShort sets the flag -short for one test.
func setShort(t *testing.T, short bool) {
	t.Helper()
	f := flag.Lookup("test.short")
	before := f.Value.String()
	require.NoError(t, f.Value.Set(strconv.FormatBool(short)))
	t.Cleanup(func() { f.Value.Set(before) })
}

// With -short a test that needs a Kafka is skipped with its reason before anything
// is looked for, let alone downloaded; in CI it is not.
func TestFault_G1_ShortSkipsWithAReasonAndCIDoesNot(t *testing.T) {
	setShort(t, true)
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

// What a broker unpacks lies in the cluster's own directory, and goes with it.
func TestFault_G3_BrokersLeaveNoTemporaryFiles(t *testing.T) {
	system := t.TempDir()
	t.Setenv("TMPDIR", system)
	t.Setenv("JAVA_TOOL_OPTIONS", "-Djava.io.tmpdir="+system) // of a JVM that is given no other
	c := ForTest(t, Config{Private: true, Dir: t.TempDir()})
	ctx := timeout(t, time.Minute)
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

// dieEnv makes the test program start a cluster, say so and wait for its death.
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
			if !alive(broker) {
				t.Fatalf("broker %d does not run", broker)
			}
			kill(sig)
			// Without its files a broker gives up by itself, after 15 s.
			err := poll(timeout(t, 5*time.Second), "end of broker", func(context.Context) (string, error) {
				if alive(broker) {
					return fmt.Sprintf("process %d", broker), nil
				}
				return "", nil
			})
			if err != nil {
				t.Error(err)
			}
			err = poll(timeout(t, 10*time.Second), "removal", func(context.Context) (string, error) {
				left, err := filepath.Glob(filepath.Join(dir, "*"))
				return strings.Join(left, " "), err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// startInChild has another process start a cluster in dir.
func startInChild(t *testing.T, dir string) (broker int, kill func(syscall.Signal)) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	child, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Env:   append(os.Environ(), dieEnv+"="+dir),
		Files: []*os.File{nil, w, os.Stderr},
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	kill = func(sig syscall.Signal) {
		child.Signal(sig)
		child.Wait()
	}
	if _, err := fmt.Fscan(r, &broker); err != nil {
		rest, _ := io.ReadAll(r)
		kill(syscall.SIGKILL)
		t.Fatalf("%v: %s", err, rest)
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

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// produce sends values by the console producer.
func produce(t *testing.T, c *Cluster, topic string, values ...string) {
	t.Helper()
	in := strings.NewReader(strings.Join(values, "\n") + "\n")
	_, err := c.ToolInput(timeout(t, time.Minute), in, "org.apache.kafka.tools.ConsoleProducer",
		"--bootstrap-server", c.Bootstrap(), "--topic", topic)
	if err != nil {
		t.Fatal(err)
	}
}

func leader(t *testing.T, c *Cluster, topic string) *Broker {
	t.Helper()
	b, err := c.Leader(timeout(t, 20*time.Second), topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func awaitOtherLeader(t *testing.T, c *Cluster, old *Broker) {
	t.Helper()
	begin := time.Now()
	err := poll(timeout(t, 30*time.Second), "another leader", func(ctx context.Context) (string, error) {
		b, err := c.Leader(ctx, "orders", 0)
		if err != nil || b == old {
			return fmt.Sprintf("it is %v, %v", b, err), nil
		}
		return "", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("another leader after %v", time.Since(begin).Round(time.Millisecond))
}

// proxy forwards connections to addr and counts them.
func proxy(t *testing.T, addr string, used *atomic.Int32) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
