package memory

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// drains end the claims of one Run, by Handler.Revoke or by Handler.Lost.
type drains struct {
	b       *Broker
	h       driver.Handler
	timeout time.Duration
	life    *life
	place   *membership
	claims  *claimSet
	topics  *topicHistory

	running sync.WaitGroup // Revokes, also beyond their window
}

// revoke drains claims. It returns nil if they were given back or their window is over,
// and the session's error if they were lost meanwhile. It ends them in any case.
func (d *drains) revoke(ks []*claim) error {
	if len(ks) == 0 {
		return nil
	}
	ctx, cancel := d.window()
	d.b.mu.Lock()
	lost := d.place.lost()
	d.b.mu.Unlock()
	if lost != nil || ctx.Err() != nil {
		d.lose(ks, cmp.Or(lost, context.Cause(ctx)))
		cancel(lost)
		return lost
	}
	d.stop(ks)
	begun, done := make(chan struct{}), make(chan struct{})
	d.running.Go(func() {
		defer close(done)
		close(begun)
		d.h.Revoke(ctx, claimsOf(ks))
	})
	// Otherwise the window could end before the Handler is called, and the next claim of
	// the partition could be assigned first.
	<-begun
	err := d.await(ctx, done)
	d.end(ks)
	cancel(err)
	return err
}

// await waits for the end of a Revoke, of its window or of the session.
func (d *drains) await(ctx context.Context, done <-chan struct{}) error {
	for {
		d.b.mu.Lock()
		err, changed, closing := d.place.lost(), d.place.g.changed.wait(), d.life.window()
		d.b.mu.Unlock()
		select {
		case <-done:
			return nil
		default:
		}
		if err != nil || ctx.Err() != nil || closing.Err() != nil {
			return err
		}
		select {
		case <-done:
		case <-changed:
		case <-ctx.Done():
		case <-closing.Done():
		}
	}
}

// window returns the context of one Revoke. It lasts for DrainTimeout, or as long as Close
// has left.
func (d *drains) window() (context.Context, context.CancelCauseFunc) {
	d.b.mu.Lock()
	parent := d.life.window()
	d.b.mu.Unlock()
	stop := context.CancelFunc(func() {})
	if _, bounded := parent.Deadline(); !bounded {
		parent, stop = context.WithTimeout(parent, d.timeout)
	}
	ctx, cancel := context.WithCancelCause(parent)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// lose ends claims that are already gone.
func (d *drains) lose(ks []*claim, cause error) {
	if len(ks) == 0 {
		return
	}
	d.stop(ks)
	d.end(ks)
	d.h.Lost(claimsOf(ks), cause)
}

// stop ends the delivery of claims. When it returns, no Deliver runs for them.
func (d *drains) stop(ks []*claim) {
	d.b.mu.Lock()
	for _, k := range ks {
		k.stop()
	}
	d.b.mu.Unlock()
	for _, k := range ks {
		<-k.done
	}
}

// end ends claims that have been stopped.
func (d *drains) end(ks []*claim) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.topics.bury(ks)
	d.claims.end(ks)
}
