package kafkatest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/aarontianqx/gopkg/kafka"
)

// A recordingT is a test inside a test: its failures are kept, and its end is
// when end is called.
type recordingT struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
	out      bytes.Buffer
	ended    bool
}

func newT(t testing.TB) *recordingT { return &recordingT{TB: t} }

func (r *recordingT) Helper() {}

func (r *recordingT) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recordingT) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recordingT) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recordingT) Output() io.Writer { return r }

// Write panics after the end, as a test's output does.
func (r *recordingT) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		panic("output after the end of the test: " + string(p))
	}
	return r.out.Write(p)
}

// end runs the cleanups, the last one first.
func (r *recordingT) end() {
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		f()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// failure runs f as the body of a test, and its end, and returns the failures.
func failure(t testing.TB, f func(testing.TB)) string {
	r := newT(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.end()
		f(r)
	}()
	<-done
	return strings.Join(r.failures, "\n")
}

func config(job string) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          job,
		Topic:            job,
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    job + "-group",
		Backoff:          kafka.Backoff{Jitter: kafka.NoJitter},
	}
}

// consumer returns a consumer of the topic of its name.
func consumer(job string, handle func(context.Context, *kafka.Message) error) kafka.Consumer {
	return kafka.NewConsumer(config(job), handle)
}

func nothing(context.Context, *kafka.Message) error { return nil }
