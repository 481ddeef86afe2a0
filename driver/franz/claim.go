package franz

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A claim is the driver's side of a driver.Claim.
type claim struct {
	among   *claims
	session *session

	public *driver.Claim
	where  partition
	member string // the member ID under which it was assigned
	era    int    // of its topic, see topics_incarnation.go

	progress *position.Progress

	high  atomic.Int64 // the high watermark, or -1
	heard atomic.Int64 // when high was answered, in nanoseconds since 1970
	next  atomic.Int64 // the offset at which fetching goes on, or -1; one goroutine writes it
	moved atomic.Int64 // when next moved last, in nanoseconds since 1970

	ended  chan struct{}   // closed when the claim has ended
	wanted context.Context // ends when a rebalance waits for that
	hurry  context.CancelFunc

	mu       sync.Mutex // guards what follows, and makes a pause and the end exclude each other
	paused   bool       // by the core
	stopped  bool       // kgo has paused it because the core did
	standing bool       // kgo has paused it because it cannot be read on
	held     []driver.Batch
	done     bool
	begun    int64 // where it starts; if that is unknown, the first record that has come, or -1
	epochs   epochs
	lost     error                   // why, if it was lost
	cancel   context.CancelCauseFunc // of the running Revoke
}

func (s *session) newClaim(p partition, start startAt, by member) *claim {
	cl := &claim{
		among: s.claims, session: s, where: p, member: by.id, era: s.eras[p.Topic],
		progress: position.NewProgress(start.at, start.metadata), begun: start.at,
		ended: make(chan struct{}),
	}
	cl.wanted, cl.hurry = context.WithCancel(context.Background())
	cl.public = &driver.Claim{
		Topic: p.Topic, Partition: p.ID, Start: start.at, Metadata: start.metadata, End: -1,
		Generation: by.generation, Backend: cl,
	}
	if start.metadata != "" {
		cl.public.End = start.end
	}
	if start.epoch >= 0 {
		cl.epochs.note(start.at-1, start.epoch)
	}
	cl.high.Store(-1)
	cl.next.Store(start.at)
	cl.moved.Store(time.Now().UnixNano())
	return cl
}

// noteEnd notes the end of the log.
func (cl *claim) noteEnd(end int64, now time.Time) {
	if end >= 0 {
		cl.high.Store(end)
		cl.heard.Store(now.UnixNano())
	}
}

// finish ends the claim: no mark is committed for it from now on.
func (cl *claim) finish() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.done {
		cl.done, cl.paused, cl.held = true, false, nil
		close(cl.ended)
	}
}

// unhurried returns a context that ends with ctx, or when a rebalance waits for the end of
// the claim.
func (cl *claim) unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(cl.wanted, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func (cl *claim) hasEnded() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.done
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

// lossCause returns why the claim is gone, if that is known.
func (cl *claim) lossCause() error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.lost
}

// setCommitted notes that a mark is durable.
func (cl *claim) setCommitted(offset int64, metadata string) {
	if cl.progress.Commit(offset, metadata) {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		cl.epochs.forget(offset)
	}
}

// position returns the group's position in the claim's partition, or -1.
func (cl *claim) position() int64 {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return max(cl.begun, cl.progress.Offset())
}

// epochAt returns the leader epoch of the record before offset, or -1.
func (cl *claim) epochAt(offset int64) int32 {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.epochs.at(offset - 1)
}

// epochs are the leader epochs of the records that a claim has delivered, by the first
// offset of each. They travel in commits, so that the next owner of the partition notices
// that the log was cut back (KIP-320).
type epochs []epochStart

type epochStart struct {
	from  int64
	epoch int32
}

// note notes the epoch of the records from an offset on.
func (e *epochs) note(from int64, epoch int32) {
	if n := len(*e); n == 0 || (*e)[n-1].epoch != epoch {
		*e = append(*e, epochStart{from, epoch})
	}
}

func (e epochs) at(offset int64) int32 {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].from <= offset {
			return e[i].epoch
		}
	}
	return -1
}

// forget drops the epochs that end below an offset.
func (e *epochs) forget(below int64) {
	for len(*e) > 1 && (*e)[1].from < below {
		*e = (*e)[1:]
	}
}
