package kafkacluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stopTimeout bounds a clean stop: three brokers that stop at once need up to 7 s.
const stopTimeout = 30 * time.Second

// errPortTaken says that a broker ended because it could not bind a port.
var errPortTaken = errors.New("port is taken")

// A Broker is one process of a [Cluster]. It keeps its ports and its data over
// any number of restarts.
type Broker struct {
	c          *Cluster
	id         int
	listen     map[string]string // by listener: where the broker listens
	advertised map[string]string // by listener: the address that clients get
	proc       *process          // guarded by c.mu; nil before the first start
}

// ID returns the node.id.
func (b *Broker) ID() int { return b.id }

// PID returns the process id, or 0 when the broker does not run.
func (b *Broker) PID() int {
	if p := b.process(); p != nil && !p.exited() {
		return p.cmd.Process.Pid
	}
	return 0
}

// Kill ends the broker the way a crash does (SIGKILL) and returns when the
// process is gone. Clients see their connections reset. It does nothing when the
// broker does not run.
func (b *Broker) Kill() error {
	if b.c.External() {
		return b.fail("kill", ErrExternal)
	}
	p := b.process()
	if p == nil {
		return nil
	}
	if err := p.signal(os.Kill); err != nil {
		return b.fail("kill", err)
	}
	<-p.done
	return nil
}

// Stop ends the broker cleanly (SIGTERM): it hands over its partitions first.
// The broker is killed, and an error returned, when it has not ended after 30 s.
// A paused broker is continued. It does nothing when the broker does not run.
func (b *Broker) Stop() error {
	if b.c.External() {
		return b.fail("stop", ErrExternal)
	}
	p := b.process()
	if p == nil {
		return nil
	}
	if err := errors.Join(p.signal(sigTerm), p.signal(sigCont)); err != nil {
		return b.fail("stop", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		err := fmt.Errorf("still runs after %v", stopTimeout)
		return b.fail("stop", errors.Join(err, b.Kill()))
	}
}

// Pause freezes the broker (SIGSTOP): its connections stay open and nothing
// answers, as on a machine that hangs.
func (b *Broker) Pause() error { return b.signal("pause", sigStop) }

// Continue ends a Pause.
func (b *Broker) Continue() error { return b.signal("continue", sigCont) }

func (b *Broker) signal(op string, sig os.Signal) error {
	if b.c.External() {
		return b.fail(op, ErrExternal)
	}
	p := b.process()
	if p == nil || p.exited() {
		return b.fail(op, errNotRunning)
	}
	if err := p.signal(sig); err != nil {
		return b.fail(op, err)
	}
	return nil
}

// Restart starts the broker, after a Stop if it still runs, and returns when it
// serves: when it answers a metadata request and counts itself among the live
// brokers. That takes a majority of the cluster, so after an outage of all, the
// brokers are restarted by one goroutine each. Replicas may still have to catch
// up: see [Cluster.Ready].
func (b *Broker) Restart(ctx context.Context) error {
	if b.c.External() {
		return b.fail("restart", ErrExternal)
	}
	if err := b.Stop(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err := b.start(); err != nil {
			return err
		}
		err := b.serves(ctx)
		if err == nil {
			return nil
		}
		if try == 3 || !errors.Is(err, errPortTaken) {
			return b.fail("restart", err)
		}
	}
}

// start runs the process. The mutex is held meanwhile, or Close could look for
// processes just before this one appears and leave it behind.
func (b *Broker) start() error {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	if b.c.closed {
		return b.fail("start", ErrClosed)
	}
	if b.proc != nil && !b.proc.exited() {
		return b.fail("start", errors.New("runs already"))
	}
	log, err := os.OpenFile(b.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return b.fail("start", err)
	}
	defer log.Close()
	cmd := b.c.java.command(brokerHeap, brokerClass, b.file("properties"))
	cmd.Stdout, cmd.Stderr = log, log
	b.proc, err = start(cmd)
	if err != nil {
		return b.fail("start", err)
	}
	return nil
}

func (b *Broker) process() *process {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	return b.proc
}

// ended returns nil while the process runs, and else why it does not.
func (b *Broker) ended() error {
	p := b.process()
	if p == nil {
		return b.fail("run", errNotRunning)
	}
	if !p.exited() {
		return nil
	}
	tail := b.logTail()
	if strings.Contains(tail, "Address already in use") {
		return b.fail("run", errPortTaken)
	}
	return b.fail("run", fmt.Errorf("process ended: %v\n%s", p.err, tail))
}

// file names a file of this broker, or its data directory.
func (b *Broker) file(ext string) string {
	return filepath.Join(b.c.dir, "broker-"+strconv.Itoa(b.id)+"."+ext)
}

// logTail returns the end of what the broker has logged.
func (b *Broker) logTail() string {
	const size = 8 << 10
	log, err := os.ReadFile(b.file("log"))
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-size):])
}

func (b *Broker) fail(op string, err error) error {
	return fmt.Errorf("kafkacluster: %s broker %d: %w", op, b.id, err)
}
