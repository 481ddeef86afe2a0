package sarama

import (
	"context"
	"sync"
	"sync/atomic"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A claim is the driver's side of a driver.Claim.
type claim struct {
	among   *claims
	session *session
	group   ibm.ConsumerGroup
	core    *core.Calls
	closing <-chan struct{} // closed when the consumer begins to close

	public *driver.Claim
	where  partition
	source ibm.ConsumerGroupClaim
	feed   *feed
	skip   int64 // records below it are not delivered
	era    int   // of its topic, see topics_incarnation.go

	progress *position.Progress

	signal chan struct{} // a pause has begun or ended
	paused atomic.Bool   // written with mu held
	pauses atomic.Int64  // how many pauses have begun
	held   atomic.Int64  // bytes that have arrived since the latest pause began
	unread atomic.Int64  // bytes that have arrived and that deliver has not taken, about
	behind atomic.Bool   // Sarama has paused it until deliver has taken them; written with mu held

	mu       sync.Mutex // guards what follows, and makes a pause and the end exclude each other
	stopped  bool       // Sarama has paused it because the core did
	standing bool       // Sarama has paused it because it cannot be read on
	early    bool       // it has ended before its session
	ended    bool
	lost     error                   // why, if it was lost
	cancel   context.CancelCauseFunc // of the running Revoke
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

// setEarly notes that the claim ends before its session: the group may give it to another member.
func (cl *claim) setEarly() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.early = true
}

func (cl *claim) endedEarly() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.early
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

// lossCause returns why the claim is gone, if that is known.
func (cl *claim) lossCause() error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.lost
}
