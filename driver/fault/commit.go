package fault

import (
	"context"
	"errors"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Commit calls the injector for the call and for each mark, and forwards the marks
// without a failure.
func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	whole := c.i.Inject(c.who.op(Commit))
	fates := make(map[*driver.Claim]Fault)
	longest := whole.Delay
	for _, m := range marks {
		f := c.i.Inject(c.who.op(Mark).at(m.Claim.Topic, m.Claim.Partition))
		longest = max(longest, f.Delay+whole.Delay)
		if whole.When != NoFailure {
			f = whole
		}
		fates[m.Claim] = f
	}
	return c.commit(ctx, marks, fates, longest)
}

func (c *consumer) commit(ctx context.Context, marks []driver.Mark, fates map[*driver.Claim]Fault, wait time.Duration) error {
	Fault{Delay: wait}.wait(ctx.Done())
	var through, unanswered []driver.Mark
	var failed []driver.MarkError
	for _, m := range marks {
		switch f := fates[m.Claim]; {
		case !c.owned.asks(m) || f.When == NoFailure || f.When == AfterCall:
			through = append(through, m)
		case f.When == BeforeCall:
			failed = append(failed, driver.MarkError{Mark: m, Err: f.Err})
		default:
			unanswered = append(unanswered, m)
		}
	}
	failed = append(failed, c.commitThrough(ctx, through, fates)...)
	failed = append(failed, c.waitUnanswered(ctx, unanswered)...)
	if len(failed) > 0 {
		return &driver.CommitError{Failed: failed}
	}
	return nil
}

// commitThrough forwards marks, and drops the answers of those whose fault says so.
func (c *consumer) commitThrough(ctx context.Context, marks []driver.Mark, fates map[*driver.Claim]Fault) []driver.MarkError {
	if len(marks) == 0 {
		return nil
	}
	errs := byMark(c.inner.Commit(ctx, marks))
	var failed []driver.MarkError
	for _, m := range marks {
		err := errs(m)
		if f := fates[m.Claim]; err == nil && f.When == AfterCall && c.owned.asks(m) {
			err = f.Err
		}
		if errs(m) == nil {
			c.owned.commit(m)
		}
		if err != nil {
			failed = append(failed, driver.MarkError{Mark: m, Err: err})
		}
	}
	return failed
}

// byMark returns the error of each mark in the result of a Commit.
func byMark(err error) func(driver.Mark) error {
	var ce *driver.CommitError
	if !errors.As(err, &ce) {
		return func(driver.Mark) error { return err }
	}
	return func(m driver.Mark) error {
		for _, f := range ce.Failed {
			if f.Mark == m {
				return f.Err
			}
		}
		return nil
	}
}

// waitUnanswered waits for the end of ctx on behalf of marks that get no answer.
func (c *consumer) waitUnanswered(ctx context.Context, marks []driver.Mark) (failed []driver.MarkError) {
	if len(marks) == 0 {
		return nil
	}
	<-ctx.Done()
	for _, m := range marks {
		err := error(&driver.Error{Code: "REQUEST_TIMED_OUT", Err: ctx.Err()})
		if c.owned.ended(m) {
			err = driver.ErrClaimEnded
		}
		failed = append(failed, driver.MarkError{Mark: m, Err: err})
	}
	return failed
}
