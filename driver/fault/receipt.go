package fault

import (
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A receipt replaces the Acker of one accepted message.
type receipt struct {
	p     *producer
	m     *driver.Message
	acker driver.Acker
	fault Fault         // of Produce
	done  chan struct{} // closed when acker has been called, or will never be
}

// Ack decides which outcome the message's own Acker gets, and when.
func (r *receipt) Ack(err error) {
	f := r.p.i.Inject(r.p.who.op(Ack).at(r.m.Topic, r.m.Partition))
	late := Fault{Delay: f.Delay}
	switch {
	case f.When == InsteadOfIt:
		late.When = InsteadOfIt
	case err != nil:
	case f.When != NoFailure:
		err = unknown(f.Err)
	case r.fault.When == AfterCall:
		err = unknown(r.fault.Err)
	}
	if late.isNone() {
		r.settle(err)
		return
	}
	r.p.work.Go(func() {
		if !late.wait(r.p.severed) {
			err = unknown(driver.ErrClosed)
		}
		r.settle(err)
	})
}

// settle calls the message's own Acker.
func (r *receipt) settle(err error) {
	r.m.Acker = r.acker
	r.acker.Ack(err)
	r.close()
}

// close ends the wait for r, also for a Flush or a Close that began before its message
// was refused.
func (r *receipt) close() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	i := slices.Index(r.p.open, r)
	r.p.open = slices.Delete(r.p.open, i, i+1)
	close(r.done)
}

// unknown turns an error into an unknown outcome, which replaces its kind.
func unknown(err error) error {
	var e *driver.Error
	switch {
	case errors.Is(err, driver.ErrUnknownOutcome):
		return err
	case errors.As(err, &e):
		return &driver.Error{Code: e.Code, Kind: driver.ErrUnknownOutcome, Err: e.Err}
	}
	return &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome, Err: err}
}
