package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A usage is what a process has used up to a moment.
type usage struct {
	at     time.Time
	cpu    time.Duration
	allocs uint64
	bytes  uint64
}

func used() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{at: time.Now(), cpu: cpuTime(), allocs: m.Mallocs, bytes: m.TotalAlloc}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// per returns what was used from u to v, for each of n messages.
func (u usage) per(n int, v usage) reading {
	return reading{
		"msg/s":      float64(n) / v.at.Sub(u.at).Seconds(),
		"cpu-ns/msg": float64(v.cpu-u.cpu) / float64(n),
		"allocs/msg": float64(v.allocs-u.allocs) / float64(n),
		"B/msg":      float64(v.bytes-u.bytes) / float64(n),
	}
}

// A meter measures from one count to another: what comes before is for warming up.
type meter struct {
	from, to int64
	n        atomic.Int64
	begun    usage
	ended    usage
	done     chan struct{} // closed at the last count
}

func newMeter(n int) *meter {
	return &meter{from: int64(n/10) + 1, to: int64(n), done: make(chan struct{})}
}

func (m *meter) add() {
	switch m.n.Add(1) {
	case m.from:
		m.begun = used()
	case m.to:
		m.ended = used()
		close(m.done)
	}
}

// read waits for the last count.
func (m *meter) read() (reading, error) {
	select {
	case <-m.done:
		return m.begun.per(int(m.to-m.from), m.ended), nil
	case <-time.After(turnTimeout):
		return nil, fmt.Errorf("%d of %d messages within %v", m.n.Load(), m.to, turnTimeout)
	}
}

// rss returns the resident memory of this process in MiB, or 0 where the system
// does not tell.
func rss() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kib float64
			fmt.Sscan(rest, &kib)
			return kib / 1024
		}
	}
	return 0
}
