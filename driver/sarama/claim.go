package sarama

import (
	"context"
	"sync"
	"sync/atomic"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// A claim is the driver's side of a driver.Claim.
type claim struct {
	among   *claims
	session *session
	group   ibm.ConsumerGroup
	core    *core
	closing <-chan struct{} // closed when the consumer begins to close

	public *driver.Claim
	where  partition
	source ibm.ConsumerGroupClaim
	feed   *feed
	skip   int64 // records below it are not delivered
	era    int   // of its topic, see topics_incarnation.go

	signal chan struct{} // a pause has begun or ended
	paused atomic.Bool   // written with mu held
	pauses atomic.Int64  // how many pauses have begun
	held   atomic.Int64  // bytes that have arrived since the latest pause began

	mu        sync.Mutex // guards what follows, and makes a pause and the end exclude each other
	stopped   bool       // Sarama has paused it because the core did
	standing  bool       // Sarama has paused it because it cannot be read on
	ended     bool
	committed int64                   // the durable position, or -1
	metadata  string                  // that is durable beside the position
	unsure    bool                    // an attempt to change the metadata has not been acknowledged
	lost      error                   // why, if it was lost
	cancel    context.CancelCauseFunc // of the running Revoke
}

// highWatermark returns the latest high watermark that a broker has answered.
func (cl *claim) highWatermark() int64 {
	if end := cl.feed.end.Load(); end >= 0 {
		return end
	}
	return cl.source.HighWaterMarkOffset()
}

// finish ends the claim: no mark is committed for it from now on.
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

// revoking registers cancel, which ends the window of the claim's Revoke. It returns why
// the claim is lost, if that is known already.
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

// passed reports whether a mark has nothing to do.
func (cl *claim) passed(offset int64, metadata string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	at := max(cl.public.Start, cl.committed, 0) // Start may be -1
	return offset < at || offset == at && metadata == cl.metadata && !cl.unsure
}

// sending notes that a mark that has not passed is about to be sent.
func (cl *claim) sending(offset int64) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.unsure = cl.unsure || offset == max(cl.public.Start, cl.committed)
}

// setCommitted notes that a mark is durable.
func (cl *claim) setCommitted(offset int64, metadata string) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if offset >= max(cl.public.Start, cl.committed) {
		cl.committed, cl.metadata, cl.unsure = offset, metadata, false
	}
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
