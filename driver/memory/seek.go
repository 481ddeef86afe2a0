package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// errSought interrupts a settled member, for which positions of claims are to be moved.
var errSought = errors.New("positions are to be moved")

// A seeker is the part of a consumer that moves positions. The goroutine of Run does that.
// The broker's mutex guards it.
type seeker struct {
	wake    *signal // fired when Run has something to do
	pending *seek   // or nil
}

// A seek is one call of Seek.
type seek struct {
	waiting map[*claim]driver.Mark // Run has not begun with these
	taken   []driver.Mark          // Run ends their claims
	failed  []driver.MarkError
	over    bool
	done    chan struct{} // closed when over
}

// Seek implements driver.Seeker.
func (c *consumer) Seek(ctx context.Context, to []driver.Mark) error {
	s := c.beginSeek(ctx, to)
	select {
	case <-s.done:
	case <-ctx.Done():
		c.abandonSeek(ctx, s)
	}
	c.b.observer.flush()
	if len(s.failed) > 0 {
		return &driver.CommitError{Failed: s.failed}
	}
	return nil
}

func (c *consumer) beginSeek(ctx context.Context, to []driver.Mark) *seek {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	s := &seek{waiting: make(map[*claim]driver.Mark), done: make(chan struct{})}
	for _, m := range to {
		switch k := c.claims.find(m.Claim); {
		case k == nil:
			s.fail(driver.ErrClaimEnded, m)
		case ctx.Err() != nil:
			s.fail(timedOut(ctx, nil), m)
		default:
			s.waiting[k] = m
		}
	}
	c.seeks.pending = s
	c.seeks.wake.fire()
	s.settle()
	return s
}

// abandonSeek ends s with ctx. Run moves nothing for it from then on.
func (c *consumer) abandonSeek(ctx context.Context, s *seek) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for k, m := range s.waiting {
		s.fail(timedOut(ctx, nil), m)
		delete(s.waiting, k)
	}
	s.refuse(timedOut(ctx, nil))
}

func (s *seek) fail(err error, marks ...driver.Mark) {
	for _, m := range marks {
		s.failed = append(s.failed, driver.MarkError{Mark: m, Err: err})
	}
}

// settle ends the seek if nothing is left to do.
func (s *seek) settle() {
	if len(s.waiting) == 0 && len(s.taken) == 0 && !s.over {
		s.over = true
		close(s.done)
	}
}

// refuse ends what Run has begun with, without an effect.
func (s *seek) refuse(err error) {
	s.fail(err, s.taken...)
	s.taken = nil
	s.settle()
}

// sought reports whether Run has something to do.
func (s *seeker) sought() bool { return s.pending != nil && len(s.pending.waiting) > 0 }

// take begins with the pending seek. It returns the claims that it is about, in the order
// of live.
func (s *seeker) take(live []*claim) (now *seek, ks []*claim) {
	for _, k := range live {
		if m, asked := s.pending.waiting[k]; asked {
			ks = append(ks, k)
			s.pending.taken = append(s.pending.taken, m)
			delete(s.pending.waiting, k)
		}
	}
	return s.pending, ks
}

// ended refuses the mark of a claim that has ended for another reason.
func (s *seeker) ended(k *claim) {
	if s.pending == nil {
		return
	}
	if m, asked := s.pending.waiting[k]; asked {
		s.pending.fail(driver.ErrClaimEnded, m)
		delete(s.pending.waiting, k)
		s.pending.settle()
	}
}

// until is watch.until of a member that is settled. When positions are to be moved, it ends
// the claims, moves their positions and returns errSought: new claims are due.
func (r *run) until(f func() (bool, error)) error {
	for {
		err := r.watch.until(func() (bool, error) {
			if r.c.link.up() && r.c.seeks.sought() {
				return false, errSought
			}
			return f()
		})
		if err != errSought {
			return err
		}
		if ended, err := r.seek(); ended || err != nil {
			return cmp.Or(err, errSought)
		}
	}
}

// seek serves the pending seek, unless its context has ended. It reports whether claims have
// ended, and why the member does not go on.
func (r *run) seek() (ended bool, err error) {
	r.c.b.mu.Lock()
	s, ks := r.c.seeks.take(r.c.claims.live)
	r.c.b.mu.Unlock()
	if err = r.drains.revoke(ks); err == nil {
		err = r.move(s)
	}
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	if err != nil {
		s.refuse(fmt.Errorf("%w: %w", driver.ErrClaimEnded, err))
	}
	return len(ks) > 0, err
}

// move makes the marks of s durable, as soon as the broker accepts commits. It returns why
// the member does not go on.
func (r *run) move(s *seek) error {
	for {
		changed, err := r.tryMove(s)
		r.c.b.observer.flush()
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-s.done: // its context has ended
		}
	}
}

// tryMove is one attempt of move. It returns what the next one has to wait for, if there is
// to be one.
func (r *run) tryMove(s *seek) (changed <-chan struct{}, err error) {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	if len(s.taken) == 0 {
		return nil, nil
	}
	if r.c.life.closing != nil {
		return nil, errClosing
	}
	if err := r.c.place.lost(); err != nil {
		return nil, err
	}
	switch err := r.c.place.mayCommit(); {
	case err == nil:
		r.c.commits.seek(s)
		return nil, nil
	case r.c.commits.worthRetrying(err):
		return r.c.place.g.changed.wait(), nil
	default:
		return nil, err
	}
}

// seek records the positions that s asks for.
func (c *committer) seek(s *seek) {
	for _, m := range s.taken {
		k := m.Claim.Backend.(*claim)
		if err := c.b.commitErr(k); err != nil {
			s.fail(err, m)
			continue
		}
		c.store(k, m, Commit{Seek: true})
	}
	s.taken = nil
	c.place.g.progress.fire()
	s.settle()
}
