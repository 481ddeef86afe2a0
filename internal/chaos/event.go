//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An event is what a process writes down of its life: one line of JSON. It is
// written, by one write to a pipe, before anybody else can act on it: so what a
// killed process did is known to its last act. The times of all processes are
// those of one machine's clock, and so in order.
type event struct {
	At   int64  `json:"t"` // nanoseconds since 1970
	Kind string `json:"k"`

	Partition  int32   `json:"p,omitempty"`
	Partitions []int32 `json:"ps,omitempty"`
	Stuck      []int32 `json:"stuck,omitempty"`
	Offset     int64   `json:"o,omitempty"`
	ID         uint64  `json:"id,omitempty"`
	Key        string  `json:"key,omitempty"`
	Value      string  `json:"v,omitempty"`
	Sender     string  `json:"s,omitempty"`
	OK         bool    `json:"ok,omitempty"`
	Outcome    int     `json:"out,omitempty"` // a judge.Outcome
	From       string  `json:"from,omitempty"`
	Text       string  `json:"text,omitempty"` // an error, or the name of a state

	RSS        int64 `json:"rss,omitempty"` // bytes
	Heap       int64 `json:"heap,omitempty"`
	Goroutines int   `json:"g,omitempty"`
	Files      int   `json:"fd,omitempty"`

	process *process // who wrote it; set by the reader
}

// The kinds of events.
const (
	isSend     = "send"     // a message is about to be sent
	isAnswer   = "answer"   // what became of it
	isStart    = "start"    // a handler begins
	isEnd      = "end"      // it has returned
	isAssigned = "assigned" // also without partitions: the group was joined
	isRevoked  = "revoked"
	isLost     = "lost"
	isState    = "state" // of the consumer
	isError    = "error" // that the driver lived through, or of a commit
	isStat     = "stat"  // once a second
	isAtRest   = "rest"  // a stat of a restarter that is switched off; ID is how often it was
	isStop     = "stop"  // the process has been asked to stop
	isStopped  = "stopped"

	// Of the parent, not of a process.
	isSevered     = "severed"     // the process cannot hear of its losses
	isReconnected = "reconnected" // it can again
	isFrozen      = "frozen"      // and has no clock by which it could let go of its partitions
	isKilled      = "killed"
)

// An eventLog writes events.
type eventLog struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *eventLog) tell(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.At = time.Now().UnixNano()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers
	}
	l.w.Write(append(line, '\n')) // a parent that does not read is about to kill us
}

// readEvents calls f for each event of r.
func readEvents(r io.Reader, f func(event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("event %q: %w", lines.Bytes(), err)
		}
		f(e)
	}
	return lines.Err()
}

// A value is unique, and has the time of its send.
func newValue(process, sender string, n int) string {
	return fmt.Sprintf("%s/%s/%d@%d", process, sender, n, time.Now().UnixNano())
}

// sentAt returns when a value was sent.
func sentAt(value string) time.Time {
	_, at, _ := strings.Cut(value, "@")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, n)
}
