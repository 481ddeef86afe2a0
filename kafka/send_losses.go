package kafka

import (
	"fmt"
	"sync"
	"time"
)

// A LostError reports failed messages that were sent by SendAsync or
// SendMessageAsync without a callback, so that their sender got no error. Flush and
// Close return it. They are not in the log, except those whose error wraps
// ErrUnknownOutcome, which may be.
type LostError struct {
	ProducerID string
	Messages   int   // since the last Flush that returned a LostError
	Err        error // why the first of them failed
}

// Error says how many and why the first one.
func (e *LostError) Error() string {
	if e.Messages == 1 {
		return fmt.Sprintf("kafka: producer %q lost a message that has no callback: %v", e.ProducerID, e.Err)
	}
	return fmt.Sprintf("kafka: producer %q lost %d messages that have no callback, the first: %v", e.ProducerID, e.Messages, e.Err)
}

// Unwrap returns the error of the first message.
func (e *LostError) Unwrap() error { return e.Err }

// lossInterval is the least time between two log lines of one producer about
// lost messages. A broker that is away fails thousands a second.
const lossInterval = 10 * time.Second

// losses counts the messages that failed without a callback: once for Flush and
// Close, and once for the log, which gets the first one at once and then a line
// with the number of further ones at most each lossInterval.
type losses struct {
	report func(n int, latest error) // logs; called without the mutex

	mu       sync.Mutex
	lost     int   // since take
	first    error // of them
	unlogged int
	latest   error
	quiet    *time.Timer    // runs after a line, until a whole interval was without a loss
	ending   sync.WaitGroup // the timer that runs
	ended    bool           // no further timer is started
	next     time.Time      // when the next line may come after the end
}

// add notes a loss.
func (l *losses) add(err error) {
	l.mu.Lock()
	if l.lost++; l.lost == 1 {
		l.first = err
	}
	l.unlogged++
	l.latest = err
	n := 0
	switch {
	case l.ended && !time.Now().Before(l.next):
		l.next = time.Now().Add(lossInterval)
		n = l.logged()
	case !l.ended && l.quiet == nil:
		l.ending.Add(1)
		l.quiet = time.AfterFunc(lossInterval, l.interval)
		n = l.logged()
	}
	l.mu.Unlock()
	if n > 0 {
		l.report(n, err)
	}
}

// logged returns how many losses the line that is due has to speak of. Called
// under the mutex.
func (l *losses) logged() (n int) {
	n, l.unlogged = l.unlogged, 0
	return n
}

// interval is the timer's end: it logs what has come since the last line, and
// rests if that is nothing. The timer starts again after the line only, so that
// end finds either a timer that it can stop or one to wait for.
func (l *losses) interval() {
	l.mu.Lock()
	n, err := l.logged(), l.latest
	l.mu.Unlock()
	if n > 0 {
		l.report(n, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || n == 0 && l.unlogged == 0 {
		l.quiet = nil
		l.ending.Done()
		return
	}
	l.quiet.Reset(lossInterval)
}

// take returns what was lost since the last take, or nil.
func (l *losses) take(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return nil
	}
	e := &LostError{ProducerID: id, Messages: l.lost, Err: l.first}
	l.lost, l.first = 0, nil
	return e
}

// end logs what no line has spoken of yet, and stops the timer.
func (l *losses) end() {
	l.mu.Lock()
	l.ended = true
	n, err := l.logged(), l.latest
	if l.quiet != nil && l.quiet.Stop() {
		l.ending.Done()
	}
	l.next = time.Now().Add(lossInterval)
	l.mu.Unlock()
	l.ending.Wait()
	if n > 0 {
		l.report(n, err)
	}
}

// lose notes that a message failed with err, of which its sender does not hear.
// partition is the one that was asked for, or -1. It may run on a driver's goroutine
// and does not block.
func (p *Producer) lose(topic string, partition int32, err error) {
	p.losses.add(err)
	p.m.event(SendFailed{ProducerID: p.id, Topic: topic, Partition: partition, Err: err})
}

func (p *Producer) logLost(n int, latest error) {
	p.m.log.Error("kafka: messages that have no callback were lost", "producer", p.id, "messages", n, "latest", latest)
}
