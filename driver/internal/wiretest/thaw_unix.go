//go:build unix

package wiretest

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A process is a victim, and what it has printed.
type process struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
}

func startVictim(t *testing.T, brokers []string, protocol driver.GroupProtocol) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$")}
	p.cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join(brokers, ","), protocolEnv+"="+protocol.String())
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
	require.Eventually(t, func() bool { return slices.Contains(p.said(from), line) }, patience, 5*time.Millisecond,
		"the process does not print %q", line)
}

// ThawedMemberHandsOutNothingOfItsOldClaim: the process of a member is
// stopped for longer than its session, and another member handles what comes meanwhile.
// When the process goes on, the same records lie in its sockets, and its claim is the old
// one: it hands out none of them.
func (s Suite) ThawedMemberHandsOutNothingOfItsOldClaim(t *testing.T, protocol driver.GroupProtocol) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	cluster := s.Fake(t, kfake.BrokerConfigs(map[string]string{
		"group.consumer.session.timeout.ms":    strconv.FormatInt(victimSession.Milliseconds(), 10),
		"group.consumer.heartbeat.interval.ms": strconv.FormatInt(victimHeartbeat.Milliseconds(), 10),
	}))
	brokers := cluster.ListenAddrs()
	direct, ctx := outside.Of(brokers...), testkit.Within(t, 4*patience)
	p := startVictim(t, brokers, protocol)
	p.await(t, 0, "assigned")
	sent := numbered("v", 105)
	for _, r := range sent[:5] {
		require.NoError(t, direct.Send(ctx, "t", 0, r))
		p.await(t, 0, "handled "+string(r.Value))
	}
	require.Eventually(t, func() bool { return cluster.GroupInfo("g").Commits["t"][0].Offset == 5 }, patience, time.Millisecond)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	frozen := len(p.said(0))
	require.NoError(t, direct.Send(ctx, "t", 0, sent[5:]...))
	cfg := s.Config(brokers)
	if protocol == driver.ConsumerProtocol {
		cfg.GroupProtocol, cfg.BalanceStrategies, cfg.HeartbeatInterval = protocol, nil, 0
	}
	m := s.start(t, cfg, nil)
	m.waitFor(t, 2*patience, "delivery to the other member", func() bool { return len(m.records) >= 100 })
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
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range m.records[:100] {
		require.Equal(t, string(sent[5+i].Value), r.value, "handled by the other member")
	}
}
