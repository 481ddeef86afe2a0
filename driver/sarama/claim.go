package sarama

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// holdTime is how long a paused claim only stops reading before Sarama is told
// to pause it. When all partitions of a broker are paused, Sarama's fetch loop
// sleeps for 100 ms, so a handler that empties its queue in less starves between
// a Pause and the fetch after the Resume. The price is that the other partitions
// of the broker wait as long, at most once a pause.
//
// With a queue of 10,000 records that resumes at half (BenchmarkSlowHandler), a
// record takes, against raw Sarama with the same handler:
//
//	handler                  2 µs   3 µs   5 µs   8 µs   12 µs  20 µs
//	raw Sarama               3.9    4.2    7.8    11.8   17.2   25.0
//	held for up to 50 ms     4.5    4.0    6.1    9.7    14.6   22.4
//	paused at once           6.3    6.7    7.9    11.9   14.2   22.3
//
// What is held while Sarama goes on fetching is bounded, see arrived.
//
// It must be well below two ticks of Consumer.MaxProcessingTime, after which
// Sarama unsubscribes the partition.
const holdTime = 50 * time.Millisecond

// A claim is the backend's side of a driver.Claim.
type claim struct {
	c      *consumer
	public *driver.Claim
	where  partition
	source ibm.ConsumerGroupClaim
	feed   *feed
	skip   int64 // records below it are not delivered
	era    int   // of its topic, see incarnation.go

	signal chan struct{} // a pause has begun or ended
	paused atomic.Bool   // written with mu held
	pauses atomic.Int64  // how many there have been
	held   atomic.Int64  // bytes that have arrived since the latest began

	mu        sync.Mutex // guards what follows, and makes a pause and the end exclude each other
	stopped   bool       // Sarama has paused it because the core did
	standing  bool       // Sarama has paused it because it cannot be read on
	ended     bool
	committed int64                   // what is durable, or -1
	lost      error                   // why, if it was lost
	cancel    context.CancelCauseFunc // of the running Revoke
}

// own returns the claim behind dc if it is c's.
func (c *consumer) own(dc *driver.Claim) *claim {
	if cl, ok := dc.Backend.(*claim); ok && cl.c == c {
		return cl
	}
	return nil
}

// Pause implements [driver.Consumer].
func (c *consumer) Pause(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.own(dc); cl != nil {
			cl.pause()
		}
	}
}

// Resume implements [driver.Consumer].
func (c *consumer) Resume(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.own(dc); cl != nil {
			cl.resume()
		}
	}
}

func (cl *claim) pause() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && !cl.paused.Load() {
		cl.held.Store(0)
		cl.paused.Store(true)
		cl.pauses.Add(1)
		cl.wake()
	}
}

// resume goes on. It tells Sarama with mu held, which Sarama answers without
// waiting for anything: between the look at ended and the call the partition
// could otherwise leave, come back, and be paused as a new claim.
func (cl *claim) resume() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.ended || !cl.paused.Swap(false) {
		return
	}
	if cl.stopped {
		cl.stopped = false
		cl.proceed()
	}
	cl.wake()
}

// proceed lets Sarama fetch again, unless there is another reason not to. It is
// called with mu held.
func (cl *claim) proceed() {
	if !cl.stopped && !cl.standing {
		cl.c.group.Resume(cl.where.list())
	}
}

// stand keeps Sarama from fetching what cannot be read.
func (cl *claim) stand() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && !cl.standing {
		cl.standing = true
		cl.c.group.Pause(cl.where.list())
	}
}

// look lets Sarama fetch once more what could not be read: it may have been
// removed, or another replica may hold it intact. It reports false if the claim
// is paused anyway.
func (cl *claim) look() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.ended || cl.stopped {
		return false
	}
	if cl.standing {
		cl.standing = false
		cl.proceed()
	}
	return true
}

func (cl *claim) isStanding() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.standing
}

// stop tells Sarama to pause what is still paused.
func (cl *claim) stop() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended && cl.paused.Load() && !cl.stopped {
		cl.stopped = true
		cl.c.group.Pause(cl.where.list())
	}
}

// arrived is called by the goroutine that reads for Sarama, when bytes of a
// partition are about to be decoded. A claim that is held for the time of a few
// large answers would keep all of them: Sarama has a channel of 256 records for it.
// So it is stopped when half a fetch has come since the pause began, before Sarama
// can ask for more.
func (c *consumer) arrived(p partition, bytes int) {
	cl := c.claimOf(p)
	if cl != nil && cl.paused.Load() && cl.held.Add(int64(bytes)) > int64(c.cfg.MaxMessageBytes/2) {
		cl.stop()
	}
}

func (cl *claim) wake() {
	select {
	case cl.signal <- struct{}{}:
	default:
	}
}

func (p partition) list() map[string][]int32 { return map[string][]int32{p.topic: {p.id}} }

// deliver hands records to the core until the claim is taken away: until the
// session or the consumer ends, or until Sarama closes the channel.
func (cl *claim) deliver(messages <-chan *ibm.ConsumerMessage, done <-chan struct{}) {
	defer cl.c.recovered("Deliver")
	for {
		if cl.paused.Load() && !cl.hold(done) {
			return
		}
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			if records := cl.gather(m, messages); len(records) > 0 {
				cl.c.handler.Deliver(cl.public, driver.Batch{Records: records})
			}
		case <-done:
			return
		case <-cl.c.closing:
			return
		case <-cl.signal:
		}
	}
}

// gather takes what is there without waiting. This goroutine is the only one
// that receives, so what len counts can not go away.
func (cl *claim) gather(m *ibm.ConsumerMessage, messages <-chan *ibm.ConsumerMessage) []driver.Record {
	n := len(messages)
	records := make([]driver.Record, 0, n+1) // the core keeps it
	for {
		if m.Offset >= cl.skip {
			records = append(records, record(m))
		}
		if n == 0 {
			return records
		}
		n--
		m = <-messages
	}
}

// hold waits, reading nothing, for the pause to end, and tells Sarama to pause
// if that takes long. It reports false when the claim is taken away.
func (cl *claim) hold(done <-chan struct{}) bool {
	if cl.isStopped() {
		return true
	}
	t := time.NewTimer(holdTime)
	defer t.Stop()
	for cl.paused.Load() {
		select {
		case <-cl.signal:
		case <-t.C:
			cl.stop()
			return true
		case <-done:
			return false
		case <-cl.c.closing:
			return false
		}
	}
	return true
}

func (cl *claim) isStopped() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.stopped
}

// record converts m. Sarama made what it points to for this message alone.
func record(m *ibm.ConsumerMessage) driver.Record {
	r := driver.Record{Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
	if len(m.Headers) > 0 {
		r.Headers = make([]driver.Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = driver.Header{Key: string(h.Key), Value: h.Value}
		}
	}
	return r
}

// end returns the high watermark as it was told last.
func (cl *claim) end() int64 {
	if end := cl.feed.end.Load(); end >= 0 {
		return end
	}
	return cl.source.HighWaterMarkOffset()
}

// finish ends the claim: from now on nothing is committed for it.
func (cl *claim) finish() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.ended = true
	cl.paused.Store(false)
}

func (cl *claim) hasEnded() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.ended
}

// setLost notes that the claim is gone, and ends the window of its Revoke.
func (cl *claim) setLost(cause error) {
	cl.mu.Lock()
	if cl.lost == nil {
		cl.lost = cause
	}
	cancel := cl.cancel
	cl.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// revoking registers cancel as what ends the window of the claim's Revoke. It
// returns why the claim is lost, if that is known already.
func (cl *claim) revoking(cancel context.CancelCauseFunc) (lost error) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.cancel = cancel
	return cl.lost
}

func (cl *claim) isRevoking() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.cancel != nil
}

// passed reports whether a mark at offset has nothing to do.
func (cl *claim) passed(offset int64) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return offset <= max(cl.public.Start, cl.committed)
}

func (cl *claim) setCommitted(offset int64) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.committed = max(cl.committed, offset)
}

// position returns the group's position in the claim's partition.
func (cl *claim) position() int64 {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return max(cl.public.Start, cl.committed)
}

// lossCause returns why the claim is gone, if that is known.
func (cl *claim) lossCause() error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.lost
}
