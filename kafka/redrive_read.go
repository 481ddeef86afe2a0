package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A visitor is what a reader calls with what it has read.
type visitor interface {
	// wait waits until a round may begin.
	wait(ctx context.Context) error

	// visit marks what is done of a round. What is not comes again. more is false if
	// nothing more is wanted. ctx outlives the run's for a while.
	visit(ctx context.Context, round []*dead) (more bool, err error)

	commits() bool
}

// A reader reads boxes as a member of a group.
type reader struct {
	r      *redrive
	m      *Manager
	log    *slog.Logger
	v      visitor
	feed   *feed
	driver driver.Consumer
	after  context.Context // ends some seconds after the run's context
	ran    chan error
}

// read calls v with all that boxes hold, as a member of a group, and commits if v does.
func (r *redrive) read(ctx context.Context, group string, boxes []*letterbox, v visitor) error {
	if remaining(boxes) == 0 {
		return nil
	}
	d, err := r.openReader(ctx, group)
	if err != nil {
		return err
	}
	after, cancel := r.afterglow(ctx)
	defer cancel()
	rd := &reader{
		r: r, m: r.m, log: r.log, v: v, driver: d, after: after, ran: make(chan error, 1),
		feed: newFeed(r.log, d, boxes, r.most, v.commits()),
	}
	go func() { rd.ran <- guard(func() error { return d.Run(rd.feed) }) }()
	defer func() {
		rd.feed.close()
		rd.close()
	}()
	return rd.loop(ctx)
}

func (r *redrive) openReader(ctx context.Context, group string) (d driver.Consumer, err error) {
	ctx, cancel := r.m.openContext(ctx)
	defer cancel()
	err = guard(func() (err error) {
		d, err = r.m.driver.OpenConsumer(ctx, r.consumer(group))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return d, nil
}

// afterglow returns a context that ends some seconds after ctx, for the answers to what
// was sent and for the commit. In a shutdown it ends with the stage of the consumers.
func (r *redrive) afterglow(ctx context.Context) (context.Context, context.CancelFunc) {
	after, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(r.m.until(consumersLeave), cancel)
	unhookEnd := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(leaveTimeout, cancel)
		context.AfterFunc(after, func() { timer.Stop() })
	})
	return after, func() { unhook(); unhookEnd(); cancel() }
}

// loop takes rounds until everything is read.
func (rd *reader) loop(ctx context.Context) error {
	for {
		s := rd.feed.progress()
		switch {
		case s.err != nil:
			return s.err
		case s.ended:
			return rd.commit()
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.waiting:
			more, err := rd.round(ctx)
			if err != nil || !more {
				return err
			}
		default:
			if err := rd.idle(ctx, s); err != nil {
				return err
			}
		}
	}
}

// round makes one round, and commits what is done of it.
func (rd *reader) round(ctx context.Context) (more bool, err error) {
	if err := rd.v.wait(ctx); err != nil {
		return false, err
	}
	round := rd.feed.take(redriveRound)
	defer rd.feed.release()
	more, err = rd.v.visit(rd.after, round)
	rd.feed.settle(round)
	if cerr := rd.commit(); cerr != nil {
		return false, errors.Join(err, cerr)
	}
	return more, err
}

// lookAgain is how often a run looks at the positions of partitions that other runs have.
const lookAgain = 5 * time.Second

// idle waits for records. Before that it commits what was passed over without a round,
// such as offsets without records at the end: of two runs that share the partitions each
// waits for the positions of the other one.
func (rd *reader) idle(ctx context.Context, s progress) error {
	if err := rd.commit(); err != nil {
		return err
	}
	return rd.await(ctx, s)
}

// await waits for a change.
func (rd *reader) await(ctx context.Context, s progress) error {
	var look <-chan time.Time
	if s.shared && rd.v.commits() {
		timer := time.NewTimer(lookAgain)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-s.changed:
	case <-look:
		rd.lookAtOthers(ctx)
	case <-ctx.Done():
	case err := <-rd.ran:
		rd.ran <- err // for close, which waits for Run
		if err == nil {
			err = errRunEnded
		}
		return err
	}
	return nil
}

// lookAtOthers asks how far other members of the group are.
func (rd *reader) lookAtOthers(ctx context.Context) {
	all, err := rd.r.positions(ctx)
	rd.feed.passTo(all)
	if err != nil {
		rd.log.Warn("kafka: redrive: positions of the group cannot be read", "error", loggable(err))
	}
}

// commit makes durable what is done. It repeats what fails for a passing reason: nothing
// more is sent before.
func (rd *reader) commit() error {
	if !rd.v.commits() {
		return nil
	}
	backoff := Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for n := 1; ; n++ {
		marks := rd.feed.marks()
		if len(marks) == 0 {
			return nil
		}
		err := guard(func() error { return rd.driver.Commit(rd.after, marks) })
		if err = rd.feed.durable(marks, err); err == nil {
			continue
		}
		if errors.Is(err, ErrPermanent) || rd.after.Err() != nil {
			return fmt.Errorf("commit: %w", err)
		}
		rd.log.Warn("kafka: redrive: commit failed", "error", loggable(err))
		if !rested(rd.after, backoff.Wait(n)) {
			return fmt.Errorf("commit: %w", err)
		}
	}
}

// rested waits, and returns false if ctx ends before.
func rested(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// close leaves the group.
func (rd *reader) close() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	defer context.AfterFunc(rd.m.until(consumersLeave), cancel)()
	err := guard(func() error { return rd.driver.Close(ctx) })
	<-rd.ran
	if err != nil {
		rd.log.Warn("kafka: redrive: leaving the group failed", "error", loggable(err))
	}
}
