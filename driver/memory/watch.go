package memory

import (
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

// errClosing ends a generation because Close was called.
var errClosing = errors.New("closing")

// A watch waits, on the goroutine of Run, for changes of the group.
type watch struct {
	c           *consumer
	h           driver.Handler
	trouble     error // to be reported once the mutex is free
	unreachable bool  // the broker is, and that was reported
}

// until blocks until f, called under the mutex, is done or returns an error, or until an
// interruption: Close, a lost session, a lost place, a lost topic.
func (w *watch) until(f func() (bool, error)) error {
	for {
		done, changed, err := w.look(f)
		if w.trouble != nil {
			w.h.Error(w.trouble)
			w.trouble = nil
		}
		if done || err != nil {
			return err
		}
		<-changed
	}
}

func (w *watch) look(f func() (bool, error)) (done bool, changed <-chan struct{}, err error) {
	w.c.b.mu.Lock()
	defer w.c.b.mu.Unlock()
	down := !w.c.link.up()
	if down && !w.unreachable {
		w.trouble = errUnreachable()
	}
	w.unreachable = down
	if w.trouble == nil {
		w.trouble = w.c.commits.takeRefused()
	}
	if err = w.interruption(); err == nil {
		done, err = f()
	}
	return done, w.c.g.changed.wait(), err
}

// interruption returns the error that ends the generation, or nil.
func (w *watch) interruption() error {
	switch {
	case w.c.life.closing != nil:
		return errClosing
	case w.topicsChanged():
		return errOrphaned
	case w.c.claims.firstAstray() != nil:
		k := w.c.claims.firstAstray()
		return errOutOfRange(k.log, k.partition(), k.next)
	}
	return w.c.place.lost()
}

// orphaned reports whether topics have been deleted or created again.
func (w *watch) orphaned() bool {
	w.c.b.mu.Lock()
	defer w.c.b.mu.Unlock()
	return w.topicsChanged()
}

// topicsChanged reports whether Run has to end claims of deleted topics or to report
// topics that exist again. A consumer that is cut off cannot know of either.
func (w *watch) topicsChanged() bool {
	return w.c.link.up() && (len(w.c.claims.orphans()) > 0 || len(w.c.topics.reborn()) > 0)
}
