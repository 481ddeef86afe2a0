package differential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// A board is the state of a lane that its members write to and its operations
// wait for.
type board struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything changes
	drains  bool          // see sequence
}

func (b *board) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// await reports whether cond, which is called with the mutex held, came to hold
// before ctx ended.
func (b *board) await(ctx context.Context, cond func() bool) bool {
	for {
		b.mu.Lock()
		ok, changed := cond(), b.changed
		b.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// A member is one consumer and its handler. The board's mutex guards what both
// sides use.
type member struct {
	board    *board
	consumer driver.Consumer
	turn     chan struct{} // held during a commit: the core never has two under way
	ran      chan struct{} // closed when Run has returned

	assigns int
	claims  []*held // all that there ever were
	errs    []string
	heard   error    // the first that Error was called with
	codes   []string // of all errors that Error was called with and Run returned
	ended   bool     // Run has returned
	runErr  error

	recreated map[int32]driver.DataLossError // the gaps of a topic that was created again, by partition

	endShown bool
}

// A held claim is one of a member.
type held struct {
	*driver.Claim
	records []driver.Record
	last    int64  // the offset after the last record that came while not paused
	drained int64  // last, when the group was last at rest: what Revoke commits
	next    int64  // everything below has been delivered, or nothing yet and it is Start
	from    *int64 // see start
	paused  bool
	shown   bool
	end     string // how it ended: "", "revoked" or "lost"
}

// resumed ends a pause. Records that came in spite of it count from now on, as they would if
// they came now.
func (h *held) resumed() {
	h.paused = false
	if n := len(h.records); n > 0 {
		h.last = h.records[n-1].Offset + 1
	}
}

func newMember(l *lane, consumer driver.Consumer) *member {
	return &member{
		board: &l.board, consumer: consumer,
		turn: make(chan struct{}, 1), ran: make(chan struct{}),
		recreated: map[int32]driver.DataLossError{},
	}
}

func (m *member) Assign(claims []*driver.Claim) {
	m.board.change(func() {
		m.assigns++
		for _, c := range claims {
			m.claims = append(m.claims, &held{Claim: c, next: c.Start})
		}
	})
}

func (m *member) Deliver(c *driver.Claim, b driver.Batch) {
	m.board.change(func() {
		h := m.held(c)
		h.records = append(h.records, b.Records...)
		for _, r := range b.Records {
			h.next = r.Offset + 1
			if !h.paused {
				h.last = h.next
			}
		}
		h.next = max(h.next, b.Next)
	})
}

func (m *member) Revoke(ctx context.Context, claims []*driver.Claim) {
	m.drain(ctx, claims)
	m.endClaims(claims, "revoked")
}

// drain commits what had been delivered when the group was last at rest. Records
// that came since, or in spite of a pause, and holes depend on chance.
func (m *member) drain(ctx context.Context, claims []*driver.Claim) {
	var marks []driver.Mark
	m.board.mu.Lock()
	for _, c := range claims {
		if h := m.held(c); m.board.drains && h.drained > 0 {
			marks = append(marks, driver.Mark{Claim: c, Offset: h.drained})
		}
	}
	m.board.mu.Unlock()
	if len(marks) == 0 {
		return
	}
	if err := m.commit(ctx, marks...); err != nil {
		m.report(drainFailed + class(err))
	}
}

const drainFailed = "commit in Revoke: "

func isDrain(report string) bool { return strings.HasPrefix(report, drainFailed) }

func (m *member) commit(ctx context.Context, marks ...driver.Mark) error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	return m.consumer.Commit(ctx, marks)
}

func (m *member) Lost(claims []*driver.Claim, _ error) { m.endClaims(claims, "lost") }

// Error keeps the losses of data. Other errors that a driver survives depend on
// timing.
func (m *member) Error(err error) {
	m.board.change(func() { m.heard, m.codes = cmp.Or(m.heard, err), append(m.codes, codeOf(err)) })
	gap, ok := errors.AsType[*driver.DataLossError](err)
	switch {
	case ok && gap.Recreated:
		m.board.change(func() { m.recreated[gap.Partition] = *gap })
	case ok:
		m.report(fmt.Sprintf("data loss in %d from %d to %d", gap.Partition, gap.From, gap.To))
	}
}

func (m *member) report(what string) {
	m.board.change(func() { m.errs = append(m.errs, what) })
}

func (m *member) endClaims(claims []*driver.Claim, how string) {
	m.board.change(func() {
		for _, c := range claims {
			m.held(c).end = how
		}
	})
}

// run serves the member until it is closed, or fails.
func (m *member) run() {
	err := m.consumer.Run(m)
	m.board.change(func() { m.ended, m.runErr, m.codes = true, err, append(m.codes, codeOf(err)) })
	close(m.ran)
}

// heardCode reports whether the member was called with an error of this code.
func (m *member) heardCode(code string) bool { return slices.Contains(m.codes, code) }

func codeOf(err error) string {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code
	}
	return ""
}

func (m *member) held(c *driver.Claim) *held {
	return m.claims[slices.IndexFunc(m.claims, func(h *held) bool { return h.Claim == c })]
}

// live returns the claims that have not ended, by partition.
func (m *member) live() []*held {
	var live []*held
	for _, h := range m.claims {
		if h.end == "" {
			live = append(live, h)
		}
	}
	slices.SortFunc(live, func(a, b *held) int { return int(a.Partition - b.Partition) })
	return live
}
