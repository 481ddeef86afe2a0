package kafka

import (
	"errors"
	"time"
)

// A disabled consumer has been switched off by what happened to it: its starts
// failed MaxConsecutiveErrors times in a row, or its driver reported what no retry
// can cure. With DisabledRetry it is switched on again after a while.

// disable switches the job off because of what happened while seen was wanted. If
// it has been switched since, on or off, what happened belongs to another time.
func (j *job) disable(reason error, seen wish) {
	disabled := false
	s := j.change(func(w *wish) {
		if w.offs != seen.offs || w.ons != seen.ons {
			return
		}
		disabled = true
		w.on, w.disabled = false, reason
		w.offs++
		if wait := j.cfg.DisabledRetry; wait > 0 && mayPass(reason) {
			w.retryAt = time.Now().Add(wait)
		}
	})
	if disabled && s != nil {
		s.halt(ErrSwitchedOff)
	}
	if disabled {
		j.hold.reset()
	}
}

// mayPass reports whether the cause of a disabled consumer may go away without a
// decision of the program's operator. A record at which its handler stops needs one, and
// so does a position that is no longer in the log. A second member under the same
// InstanceID does, too: two that take turns would fence each other forever.
func mayPass(reason error) bool {
	if _, byRecord := errors.AsType[*stopError](reason); byRecord {
		return false
	}
	return !hasCode(reason, "OFFSET_OUT_OF_RANGE") && !hasCode(reason, "FENCED_INSTANCE_ID")
}

// hasCode reports whether err, or an error that it wraps, has that Kafka name.
func hasCode(err error, code string) bool {
	if err == nil {
		return false
	}
	if e, ok := err.(interface{ ErrorType() string }); ok && e.ErrorType() == code {
		return true
	}
	if e, ok := err.(interface{ Unwrap() []error }); ok {
		for _, inner := range e.Unwrap() {
			if hasCode(inner, code) {
				return true
			}
		}
		return false
	}
	return hasCode(errors.Unwrap(err), code)
}

// rest waits until what is wanted changes, or until a disabled job is due to be
// switched on again, which it then is.
func (j *job) rest(w wish, changed <-chan struct{}) {
	if w.retryAt.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(w.retryAt))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
		j.change(func(now *wish) {
			if !now.stop && now.ons == w.ons && now.retryAt.Equal(w.retryAt) {
				j.switchOn(now)
			}
		})
	}
}
