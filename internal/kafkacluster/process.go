package kafkacluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

var errNotRunning = errors.New("not running")

// A process is a child that does not outlive this process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended and was waited for
	err  error         // what Wait returned; valid after done
}

// start starts cmd. One goroutine owns the child from fork to wait and keeps to
// its thread: Linux sends the death signal (see bindToParent) when the *thread*
// that forked ends, not the process. On a goroutine of the caller's, the runtime
// might end that thread while the test goes on, and a broker would be killed out
// of the blue.
func start(cmd *exec.Cmd) (*process, error) {
	bindToParent(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends sig, to no one if the process has ended.
func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// run runs cmd to its end and returns its standard output. It kills cmd at the
// end of ctx. The error has what was written to standard error.
func run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // for pipes that a grandchild holds open
	p, err := start(cmd)
	if err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(os.Kill)
		<-p.done
		return stdout.String(), ctx.Err()
	}
	if p.err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", p.err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// A janitor is a shell that removes a directory when this process ends, however
// it ends: the kernel closes the other end of its standard input.
type janitor struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// The brokers die at the same moment and may still be writing: hence the loop.
const janitorScript = `cat >/dev/null
for i in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 1; done`

func hireJanitor(dir string) (*janitor, error) {
	cmd := exec.Command("sh", "-c", janitorScript, "kafkacluster-janitor", dir)
	detach(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &janitor{cmd: cmd, stdin: stdin}, nil
}

// dismiss lets the janitor do its work and waits for it.
func (j *janitor) dismiss() error {
	j.stdin.Close()
	return j.cmd.Wait()
}
