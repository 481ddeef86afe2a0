package fault

import (
	"context"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// Seek implements driver.Seeker. Over a consumer that is none, its error wraps
// errors.ErrUnsupported.
func (c *consumer) Seek(ctx context.Context, to []driver.Mark) error {
	seeker, ok := c.inner.(driver.Seeker)
	if !ok {
		return fmt.Errorf("fault: %T moves no positions: %w", c.inner, errors.ErrUnsupported)
	}
	f := c.i.Inject(c.who.op(Seek))
	if ctx.Err() == nil && !f.wait(ctx.Done(), c.closing) && ctx.Err() == nil {
		return c.refuseSeek(to, driver.ErrClaimEnded) // Close ends the claims
	}
	switch {
	case ctx.Err() != nil:
		return c.refuseSeek(to, &driver.Error{Code: "REQUEST_TIMED_OUT", Err: ctx.Err()})
	case f.When == BeforeCall:
		return c.refuseSeek(to, f.Err)
	}
	var live []driver.Mark
	var failed []driver.MarkError
	for _, m := range to {
		if c.owned.ended(m) { // by a crash, of which the inner consumer does not know
			failed = append(failed, driver.MarkError{Mark: m, Err: driver.ErrClaimEnded})
		} else {
			live = append(live, m)
		}
	}
	errs := byMark(seeker.Seek(ctx, live))
	for _, m := range live {
		err := errs(m)
		if err == nil && f.When == AfterCall {
			err = unanswered(f.Err)
		}
		if err != nil {
			failed = append(failed, driver.MarkError{Mark: m, Err: err})
		}
	}
	if len(failed) > 0 {
		return &driver.CommitError{Failed: failed}
	}
	return nil
}

// refuseSeek returns the error of a Seek that has done nothing.
func (c *consumer) refuseSeek(to []driver.Mark, why error) error {
	refused := &driver.CommitError{}
	for _, m := range to {
		err := why
		if c.owned.ended(m) {
			err = driver.ErrClaimEnded
		}
		refused.Failed = append(refused.Failed, driver.MarkError{Mark: m, Err: err})
	}
	return refused
}

// unanswered returns the error of a mark that is durable, whose answer is lost.
func unanswered(err error) error {
	code := "REQUEST_TIMED_OUT"
	if e, ok := errors.AsType[*driver.Error](err); ok {
		code = e.Code
	}
	return &driver.Error{Code: code, Kind: driver.ErrUnknownOutcome, Err: err}
}
