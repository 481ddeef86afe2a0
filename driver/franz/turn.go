package franz

import (
	"context"
	"sync"
)

// A turn keeps what a poll has brought from being delivered under another assignment: the
// poll loop has the turn from before a poll until what it brought is delivered, and every
// change of the claims takes it meanwhile. To block rebalances while records are delivered,
// as kgo can, would also stop the polls while a Revoke drains.
type turn struct {
	mu      sync.Mutex // guards what follows
	free    *sync.Cond
	taken   bool
	waiting int             // callers of quiet that wait
	running context.Context // of the session
	poll    context.Context // of the latest poll
	wake    context.CancelFunc
}

func newTurn(running context.Context) *turn {
	t := &turn{running: running}
	t.free = sync.NewCond(&t.mu)
	t.renew()
	return t
}

// renew is called with mu held.
func (t *turn) renew() { t.poll, t.wake = context.WithCancel(t.running) }

// begin waits for the turn of the poll loop, and returns the context of the next poll. The
// callers of quiet go first.
func (t *turn) begin() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.taken || t.waiting > 0 {
		t.free.Wait()
	}
	t.taken = true
	if t.poll.Err() != nil {
		t.renew()
	}
	return t.poll
}

func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
	t.free.Broadcast()
}

// nudge ends a poll that waits.
func (t *turn) nudge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake()
}

// quiet runs f while nothing is polled or delivered. It must not be called by the poll
// loop.
func (t *turn) quiet(f func()) {
	t.mu.Lock()
	t.waiting++
	t.wake()
	for t.taken {
		t.free.Wait()
	}
	t.waiting--
	t.taken = true
	t.mu.Unlock()
	defer t.end()
	f()
}
