// Package seek has what the calls of [driver.Seeker] have in common, whatever the client:
// which marks may still be sent, what is tried again, and which error a mark has in the end. A
// driver ends the claims and makes the requests.
package seek

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 500 * time.Millisecond

	// refusalPatience is how long a mark is tried again that the coordinator refuses for a
	// reason of its own. Its partition is not read meanwhile, and with some clients no other
	// partition is.
	refusalPatience = 5 * time.Second
)

// A Wire sends the marks of one call, whose claims have ended.
type Wire interface {
	// Send sends the marks that take returns, at which time it knows the member's identity.
	// It sends nothing if these are none. It returns the coordinator's verdict on each, which
	// is nil if the mark is durable, or an error if it knows none. It calls take at most once,
	// and may return before it does if ctx has ended.
	Send(ctx context.Context, take func() []driver.Mark) (verdicts []error, err error)

	// Metadata returns what is committed beside m.
	Metadata(m driver.Mark) string

	// Owns reports whether the group still counts on the member that had a claim for its
	// partition. Gone reports whether a verdict says that it does not.
	Owns(c *driver.Claim) bool
	Gone(err error) bool

	// Wrap makes err a driver.Error.
	Wrap(err error) error

	// Report reports an error that delays the call.
	Report(err error)
}

// A Call is one call of Seek. Several goroutines may use it.
type Call struct {
	ctx  context.Context
	over chan struct{} // closed when no mark is open

	mu    sync.Mutex // guards what follows
	marks []*mark
	open  int
}

// A mark is open until its outcome is known, or until the call is over.
type mark struct {
	driver.Mark
	isOpen  bool
	sent    string // the metadata of the latest attempt
	sending bool
	doubted error     // why an attempt had no answer, after which none was durable
	refused time.Time // since when the coordinator refuses it
	durable bool
	err     error // the answer to the caller
}

// asSent returns m with the metadata that was sent.
func (m *mark) asSent() driver.Mark {
	return driver.Mark{Claim: m.Claim, Offset: m.Offset, Metadata: m.sent}
}

// New returns the call of Seek with ctx for marks.
func New(ctx context.Context, marks []driver.Mark) *Call {
	c := &Call{ctx: ctx, over: make(chan struct{}), open: len(marks)}
	for _, m := range marks {
		c.marks = append(c.marks, &mark{Mark: m, isOpen: true})
	}
	if c.open == 0 {
		close(c.over)
	}
	for _, m := range c.marks {
		switch {
		case ctx.Err() != nil:
			c.fail(m, ctx.Err())
		case m.Offset < 0:
			c.fail(m, &driver.Error{Code: "INVALID_REQUEST", Kind: driver.ErrPermanent, Err: fmt.Errorf("offset %d", m.Offset)})
		}
	}
	return c
}

// Open returns the claims of the marks that are open.
func (c *Call) Open() (claims []*driver.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		if m.isOpen {
			claims = append(claims, m.Claim)
		}
	}
	return claims
}

// Over is closed when no mark is open.
func (c *Call) Over() <-chan struct{} { return c.over }

// End refuses the marks on claims, which have ended for another reason. Without claims it
// refuses all marks.
func (c *Call) End(claims ...*driver.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		if len(claims) == 0 {
			c.fail(m, driver.ErrClaimEnded)
		}
		for _, claim := range claims {
			if m.Claim == claim {
				c.fail(m, driver.ErrClaimEnded)
			}
		}
	}
}

// Wait waits until no mark is open or the context of the call ends, and returns the answer of
// Seek. No mark is sent from then on.
func (c *Call) Wait() error {
	select {
	case <-c.over:
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := new(driver.CommitError)
	for _, m := range c.marks {
		if m.isOpen {
			c.fail(m, c.ctx.Err())
		}
		if m.err != nil {
			answer.Failed = append(answer.Failed, driver.MarkError{Mark: m.Mark, Err: m.err})
		}
	}
	if len(answer.Failed) == 0 {
		return nil
	}
	return answer
}

// Durable returns the marks that are durable, also if the caller did not wait for that.
func (c *Call) Durable() (marks []driver.Mark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		if m.durable {
			marks = append(marks, m.asSent())
		}
	}
	return marks
}

// Doubt returns why it is not known of a mark whether it is durable, or nil if it is known
// of all.
func (c *Call) Doubt() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		if m.doubted != nil {
			return m.doubted
		}
		if m.sending {
			return errNoAnswer
		}
	}
	return nil
}

// Pursue sends marks until none is open or ctx ends. Then the claims have ended for the reason
// for which ctx has. It calls Send also if no mark is open: so it returns when the attempts
// before it are over.
func (c *Call) Pursue(ctx context.Context, w Wire) {
	reported := false
	for retry := firstRetry; ctx.Err() == nil; retry = min(2*retry, lastRetry) {
		a := &attempt{c: c, w: w}
		verdicts, err := w.Send(ctx, a.take)
		err = a.judge(verdicts, err)
		if len(c.Open()) == 0 {
			return
		}
		if err != nil && !reported && ctx.Err() == nil {
			reported = true
			w.Report(err)
		}
		select {
		case <-time.After(retry):
		case <-c.over:
		case <-ctx.Done():
		}
	}
	c.End()
}

// An attempt is one request.
type attempt struct {
	c    *Call
	w    Wire
	sent []*mark
}

// take returns the marks that are sent: those that are open, and whose partition the member
// still has. The lock makes that one step with the answer to the caller. In two steps this
// would happen: a mark is seen open; the context of Seek ends, and Seek returns; another member
// gets the partition, and leaves; the mark is sent, and moves the group back.
func (a *attempt) take() (marks []driver.Mark) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		switch {
		case !m.isOpen:
		case c.ctx.Err() != nil:
			c.fail(m, c.ctx.Err())
		case !a.w.Owns(m.Claim):
			c.fail(m, driver.ErrClaimEnded)
		default:
			m.sending, m.sent = true, a.w.Metadata(m.Mark)
			a.sent, marks = append(a.sent, m), append(marks, m.asSent())
		}
	}
	return marks
}

// judge notes the outcome of the attempt. It returns why marks have to be sent again.
func (a *attempt) judge(verdicts []error, err error) (again error) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	err = a.w.Wrap(err)
	for i, m := range a.sent {
		m.sending = false
		if err != nil {
			m.doubted = err
			continue
		}
		switch why := a.w.Wrap(verdicts[i]); {
		case why == nil:
			m.durable, m.doubted = true, nil
			c.settle(m, nil)
		case a.w.Gone(verdicts[i]):
			if m.doubted == nil {
				why = &driver.Error{Code: code(why), Err: fmt.Errorf("%w: %w", driver.ErrClaimEnded, why)}
			}
			c.fail(m, why)
		case errors.Is(why, driver.ErrPermanent), m.tooLong():
			c.fail(m, why)
		default:
			again = why
		}
	}
	if errors.Is(err, driver.ErrPermanent) {
		for _, m := range c.marks {
			c.fail(m, err)
		}
	}
	if err != nil {
		return err
	}
	return again
}

// tooLong reports whether the coordinator has refused m for too long.
func (m *mark) tooLong() bool {
	if m.refused.IsZero() {
		m.refused = time.Now()
	}
	return time.Since(m.refused) >= refusalPatience
}

// fail ends a mark that is not known to be durable. If an attempt may have made it durable, the
// error says so, and does not say that the position is untouched. The mutex is held.
func (c *Call) fail(m *mark, err error) {
	if m.doubted == nil && !m.sending {
		if errors.Is(err, c.ctx.Err()) && c.ctx.Err() != nil {
			err = &driver.Error{Code: "REQUEST_TIMED_OUT", Err: err}
		}
		c.settle(m, err)
		return
	}
	last := m.doubted
	if last == nil {
		last = errNoAnswer
	}
	if err != driver.ErrClaimEnded {
		last = fmt.Errorf("%w: %w", err, last)
	}
	c.settle(m, &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome, Err: last})
}

var errNoAnswer = errors.New("no answer")

// settle closes a mark. The mutex is held.
func (c *Call) settle(m *mark, err error) {
	if !m.isOpen {
		return
	}
	m.isOpen, m.err = false, err
	if c.open--; c.open == 0 {
		close(c.over)
	}
}

// code returns the code of a wrapped error.
func code(err error) string {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code
	}
	return ""
}
