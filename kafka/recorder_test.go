package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Recorder is a recorder, for the tests outside the package.
type Recorder = recorder

// Lines are the log lines of a manager, likewise.
type Lines = lines

// LogTo logs to l.
func LogTo(l *Lines) Option { return logTo(l) }

// With returns the lines that have all parts.
func (l *lines) With(parts ...string) []string { return l.with(parts...) }

// EventsOf returns the events of a type that r has recorded, in order.
func EventsOf[E Event](r *Recorder) []E { return eventsOf[E](r) }

// A recorder keeps the events of a manager.
type recorder struct {
	NopHook
	mu     sync.Mutex
	events []Event
}

func (r *recorder) Event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Forget drops the events so far.
func (r *recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

func eventsOf[E Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var es []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			es = append(es, e)
		}
	}
	return es
}

// logLines keeps log records as lines, by a handler that neither escapes nor cuts an
// attribute. It leaves out stacks, which Go bounds.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logLines) WithGroup(string) slog.Handler            { return l }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "stack" {
			line += " " + a.String()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logLines) all() []string { return l.with("") }

// with returns the lines that hold text.
func (l *logLines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// count counts the lines that hold text.
func (l *logLines) count(text string) int { return len(l.with(text)) }

// lines is what slog's text or JSON handler has written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with returns the lines that hold all of parts.
func (l *lines) with(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

// logTo is the option of a manager that logs to l as text.
func logTo(l *lines) Option { return WithLogger(slog.New(slog.NewTextHandler(l, nil))) }

// occurrences returns how many occurrences the lines that hold all of parts stand for.
func (l *lines) occurrences(parts ...string) (n int) {
	for _, line := range l.with(parts...) {
		n++
		if m := regexp.MustCompile(`repeated=(\d+)`).FindStringSubmatch(line); m != nil {
			times, _ := strconv.Atoi(m[1])
			n += times - 1
		}
	}
	return n
}

// parsed returns the lines of a JSON handler.
func (l *lines) parsed(t *testing.T) (all []map[string]any) {
	for _, line := range l.with("") {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m))
		all = append(all, m)
	}
	return all
}

// A panickingHook panics at each event, with its text or the event's type.
type panickingHook struct {
	NopHook
	text string
}

func (h panickingHook) Event(e Event) { panic(cmp.Or(h.text, fmt.Sprintf("%T", e))) }
