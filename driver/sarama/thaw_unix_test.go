//go:build unix

package sarama

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A process is a victim, and what it has printed.
type process struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
}

func startVictim(t *testing.T, brokers []string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	p.cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join(brokers, ","))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		p.cmd.Process.Kill()
		<-read
		p.cmd.Wait()
	})
	return p
}

// said returns what was printed from the line with number from on.
func (p *process) said(from int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines[min(from, len(p.lines)):])
}

func (p *process) await(t *testing.T, from int, line string) {
	t.Helper()
	require.Eventually(t, func() bool { return slices.Contains(p.said(from), line) }, 2*patienceTest, 5*time.Millisecond,
		"the process does not print %q", line)
}

// TestFault_E1_ThawedMemberHandsOutNothingOfItsOldClaim: the process of a member is
// stopped for longer than its session, and another member handles what comes meanwhile.
// When the process goes on, the same records lie in its sockets, and its claim is the old
// one: it hands out none of them.
func TestFault_E1_ThawedMemberHandsOutNothingOfItsOldClaim(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	cluster := fake(t)
	brokers := cluster.ListenAddrs()
	p := startVictim(t, brokers)
	p.await(t, 0, "assigned")
	for _, value := range numbered(0, 5) {
		seed(t, brokers, "t", 0, value)
		p.await(t, 0, "handled "+value)
	}
	require.Eventually(t, func() bool { return cluster.GroupInfo("g").Commits["t"][0].Offset == 5 }, patienceTest, time.Millisecond)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	frozen := len(p.said(0))
	seed(t, brokers, "t", 0, numbered(5, 105)...)
	r := newRecorder()
	start(t, Driver{}, consumerConfig(brokers), r)
	r.waitFor(t, 4*patienceTest, "delivery to the other member", func() bool { return len(r.records) >= 100 })
	require.Empty(t, p.said(frozen), "the process is not frozen")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	p.await(t, frozen, "lost")
	time.Sleep(time.Second) // what must not come
	owns := true
	for i, line := range p.said(frozen) {
		switch {
		case line == "lost" || line == "revoked":
			owns = false
		case line == "assigned":
			owns = true
		case !owns || !slices.Contains(p.said(frozen)[:i], "lost"):
			assert.Fail(t, "a call for the old claim", "%s after the thaw; all: %q", line, p.said(frozen))
		}
	}
	require.Equal(t, numbered(5, 105), r.values()[:100], "handled by the other member")
}
