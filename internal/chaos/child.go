//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// childVariable holds the duty of a process that is one of ours.
const childVariable = "GOPKG_CHAOS_CHILD"

// A duty says what a process is for.
type duty struct {
	Name    string
	Role    string // consumer, producer or restarter
	Driver  string // sarama or franz
	Brokers string
	Topic   string

	Group       string
	Session     time.Duration
	Cooperative bool
	Protocol    kafka.GroupProtocol
	Work        time.Duration // what handling a record takes on average
	Skip        bool          // the wrong way: an error of the handler passes for success

	Rate       int // messages per second
	Senders    int
	Keys       int
	Careless   bool // the wrong way: no idempotence
	SyncSender bool // one sender waits for each answer

	Restarts int
	Seed     uint64
}

// The exit codes of a process.
const (
	exitStuck  = 3 // it could not stop in time
	exitFailed = 4
)

// stopTimeout is how long a process may take to stop.
const stopTimeout = 20 * time.Second

// runChild does the duty of this process, if it has one, and ends it.
func runChild() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var d duty
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	os.Exit(d.perform(os.Stdin, os.Stdout, os.Stderr))
}

// perform runs until SIGTERM, or until stdin is closed, as it is when the parent
// dies.
func (d duty) perform(stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	events := &eventLog{w: stdout}
	go tellStats(ctx, events)
	log := slog.New(slog.NewTextHandler(stderr, nil)).With("process", d.Name)
	var err error
	switch d.Role {
	case "consumer":
		err = consume(ctx, d, events, log)
	case "producer":
		err = produce(ctx, d, events, log)
	case "restarter":
		err = restart(ctx, d, events, log)
	default:
		err = fmt.Errorf("no such role: %q", d.Role)
	}
	if err != nil {
		log.Error("chaos: could not stop in order", "error", err)
		return exitStuck
	}
	return 0
}

// tellStats reports the resources of the process once per second.
func tellStats(ctx context.Context, events *eventLog) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			events.tell(event{
				Kind: isStat, RSS: residentBytes("self"), Heap: int64(m.HeapAlloc),
				Goroutines: runtime.NumGoroutine(), Files: openFiles("self"),
			})
		case <-ctx.Done():
			return
		}
	}
}

// residentBytes returns the resident memory of a process, or 0 where the system
// does not tell.
func residentBytes(pid string) int64 {
	text, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// openFiles returns how many descriptors a process holds, or 0.
func openFiles(pid string) int {
	files, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return 0
	}
	return len(files)
}
