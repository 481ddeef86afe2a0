package kafka

import (
	"context"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A delivery is the operations of one lane, which handles one record, or batch, at a
// time. Only the lane uses it.
type delivery struct {
	process, attempt, receive Op

	ctx    context.Context // what the hooks made of the handler's
	open   bool            // process has started
	left   int             // records of it that are not done
	how    Outcome         // of those that are: the worst
	trying bool            // attempt has started
	failed error           // of the latest attempt that failed
}

func newDelivery(e *env, c *driver.Claim) *delivery {
	d := &delivery{
		process: e.hooks.newOp(e.handler.op(), e.client),
		attempt: e.hooks.newOp(OpAttempt, e.client),
		receive: e.hooks.newOp(OpReceive, e.client),
	}
	for _, o := range []*Op{&d.process, &d.attempt, &d.receive} {
		o.Topic, o.Partition = c.Topic, c.Partition
	}
	return d
}

// beginAttempt starts the n-th attempt at records, and with the first one their
// delivery. It returns the context for the handler.
func (d *delivery) beginAttempt(ctx context.Context, records []Record, n int) context.Context {
	now := time.Now()
	if !d.open {
		d.process.Start, d.process.Records = now, records
		d.process.Err, d.process.Outcome = nil, OutcomeDone
		d.open, d.left, d.how = true, 0, OutcomeDone
		d.ctx = d.process.start(ctx)
	}
	d.left = max(d.left, len(records)) // after a probe of one record the others join it
	d.process.Attempt = n
	d.attempt.Start, d.attempt.Records, d.attempt.Attempt = now, records, n
	d.trying = true
	return d.attempt.start(d.ctx)
}

// outcomeOf says what an attempt that came to err is to hooks.
func outcomeOf(err error, interrupted bool) (Outcome, error) {
	switch {
	case interrupted:
		return OutcomeInterrupted, nil
	case err != nil:
		return OutcomeFailed, err
	}
	return OutcomeDone, nil
}

// endAttempt ends the attempt, if one is under way.
func (d *delivery) endAttempt(outcome Outcome, err error) {
	if !d.trying {
		return
	}
	d.trying = false
	if err != nil {
		d.failed = err
	}
	d.attempt.Outcome, d.attempt.Err = outcome, err
	d.attempt.end()
	d.attempt.Records = nil
}

// done ends attempt and delivery: the last of its records are done, and how; late if
// their claim had ended by then.
func (d *delivery) done(how Outcome, late bool) {
	d.endAttempt(OutcomeDone, nil)
	var err error
	switch how = d.worst(how); {
	case late:
		how = OutcomeLate
	case how != OutcomeDone:
		err = d.failed
	}
	d.end(how, err)
}

// worst notes how records of the delivery are done, and returns what it comes to.
func (d *delivery) worst(how Outcome) Outcome {
	if badness(how) > badness(d.how) {
		d.how = how
	}
	return d.how
}

// badness orders what becomes of records that are done.
func badness(how Outcome) int {
	return slices.Index([]Outcome{OutcomeDone, OutcomeRetryTopic, OutcomeSkipped, OutcomeForwarded}, how)
}

// part is done for n records of a delivery that may have others, and reports whether it
// had none.
func (d *delivery) part(n int, how Outcome, late bool) (all bool) {
	if d.left -= n; d.left > 0 {
		d.worst(how)
		return false
	}
	d.done(how, late)
	return true
}

// end ends the delivery, if one is under way.
func (d *delivery) end(outcome Outcome, err error) {
	if !d.open {
		return
	}
	d.open = false
	d.process.Outcome, d.process.Err = outcome, err
	d.process.end()
	d.process.Records, d.ctx, d.failed = nil, nil, nil
}

// beginReceive starts to wait for records.
func (d *delivery) beginReceive(ctx context.Context) {
	d.receive.Start, d.receive.Records = time.Now(), nil
	d.receive.start(ctx)
}

// endReceive ends the wait with records.
func (d *delivery) endReceive(records []Record) {
	d.receive.Records = records
	d.receive.end()
	d.receive.Records = nil
}
