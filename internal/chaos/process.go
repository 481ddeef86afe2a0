//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A process is a child of this one that does a duty.
type process struct {
	duty
	number uint64 // makes the ids of its handlers' calls unique
	cmd    *exec.Cmd
	stdin  io.Closer
	done   chan struct{} // closed when it has ended and all that it wrote was read
	err    error         // why it ended; valid after done
	killed bool          // by a fault; the run's goroutine alone knows
}

// startProcess starts a process. Each event goes to tell, from one goroutine.
//
// It does not outlive this one: its standard input closes, and if it is frozen,
// the kernel wakes a group of processes that has become an orphan, and hangs up
// on it.
func startProcess(d duty, number uint64, stderr io.Writer, tell func(event)) (*process, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{duty: d, number: number, cmd: exec.Command(self), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text), "GOMAXPROCS=1")
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.Name, err)
	}
	go func() {
		defer close(p.done)
		readErr := readEvents(stdout, func(e event) {
			e.process = p
			if e.ID != 0 {
				e.ID |= p.number << 40
			}
			tell(e)
		})
		if p.err = p.cmd.Wait(); p.err == nil {
			p.err = readErr
		}
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%v to %s: %w", s, p.Name, err)
	}
	return nil
}

// kill ends the process as a crash does, and returns when its last word is read.
func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
	p.stdin.Close()
}

// stop asks the process to end, and kills it when it takes too long.
func (p *process) stop(limit time.Duration) error {
	defer p.stdin.Close()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("%s did not stop within %v", p.Name, limit)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.Name, p.err)
	}
	return nil
}
