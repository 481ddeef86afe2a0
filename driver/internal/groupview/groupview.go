// Package groupview has what the views of groups from outside have in common, whatever the
// client: which calls run, what is tried again, and what the answers mean together. A driver
// makes the requests.
package groupview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// A Wire makes requests. Its calls return by the end of ctx. Several goroutines may use it.
type Wire interface {
	// Survey asks the group's coordinator for topics.
	Survey(ctx context.Context) (map[string]Topic, error)

	// Committed asks the group's coordinator for positions, which may be about to move.
	Committed(ctx context.Context, ps []position.Partition) (position.Committed, error)

	// Logs asks the leaders where logs begin and end. It returns what they have answered by
	// the end of ctx.
	Logs(ctx context.Context, ps []position.Partition) Logs

	// Find asks the leaders for the first offsets at or after a time, in milliseconds since
	// 1970. It returns what they have answered by the end of ctx, -1 included.
	Find(ctx context.Context, ps []position.Partition, from int64) (at map[position.Partition]int64, failed map[position.Partition]error)

	// Commit sends marks to the group's coordinator, as no member. It returns why some were
	// not accepted.
	Commit(ctx context.Context, marks []driver.GroupMark) (failed map[position.Partition]error, err error)

	// OfTheGroup reports whether an error that comes with one mark is about the group or
	// its coordinator.
	OfTheGroup(err error) bool

	// HasMembers reports whether the coordinator has refused a commit with err because the
	// group has members.
	HasMembers(err error) bool

	// Wrap makes err a driver.Error.
	Wrap(err error) error

	// Sever breaks the connections, which ends the calls. Close is called after it, once,
	// and waits until nothing is left.
	Sever()
	Close()
}

// A Topic is what a broker knows of a topic.
type Topic struct {
	Err        error // why it cannot be read
	Partitions []int32
}

// Logs are where logs begin and end.
type Logs struct {
	Begin, End map[position.Partition]int64
	Failed     map[position.Partition]error // why one of them is not known
}

// A View implements driver.Group.
type View struct {
	topics []string
	wire   Wire
	life   context.Context // ends when Close begins
	end    context.CancelFunc
	closed chan struct{} // closed when Close has its answer
	answer error         // of Close, valid then

	mu      sync.Mutex // guards what follows
	closing bool
	calls   sync.WaitGroup
}

// New returns a view of the group of wire, and of topics.
func New(topics []string, wire Wire) *View {
	v := &View{topics: slices.Clone(topics), wire: wire, closed: make(chan struct{})}
	v.life, v.end = context.WithCancel(context.Background())
	return v
}

// Read implements driver.Group.
func (v *View) Read(ctx context.Context) (all []driver.GroupPartition, err error) {
	err = v.call(ctx, func(ctx context.Context) (err error) {
		all, err = v.read(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (v *View) read(ctx context.Context) ([]driver.GroupPartition, error) {
	var topics map[string]Topic
	var ps []position.Partition
	var at position.Committed
	err := v.retry(ctx, func() (err error) {
		if topics, err = v.wire.Survey(ctx); err != nil {
			return err
		}
		if ps = v.partitions(topics); len(ps) == 0 {
			return nil
		}
		at, err = v.wire.Committed(ctx, ps)
		return err
	})
	if err != nil {
		return nil, err
	}
	var logs Logs
	if len(ps) > 0 {
		logs = v.wire.Logs(ctx, ps)
	}
	var all []driver.GroupPartition
	for _, name := range v.topics {
		topic := examine(topics, name)
		if topic.Err != nil {
			all = append(all, driver.GroupPartition{Topic: name, Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: v.wire.Wrap(topic.Err)})
			continue
		}
		for _, id := range topic.Partitions {
			all = append(all, v.partition(position.Partition{Topic: name, ID: id}, at, logs))
		}
	}
	return all, nil
}

var errNoPartitions = &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION", Err: errors.New("the broker names no partition")}

// examine returns what a broker knows of a topic, which is an error if it names no partition.
func examine(topics map[string]Topic, name string) Topic {
	topic := topics[name]
	if topic.Err == nil && len(topic.Partitions) == 0 {
		topic.Err = errNoPartitions
	}
	return topic
}

// partitions returns all partitions of topics that can be read.
func (v *View) partitions(topics map[string]Topic) (ps []position.Partition) {
	for _, name := range v.topics {
		if topic := topics[name]; topic.Err == nil {
			for _, id := range topic.Partitions {
				ps = append(ps, position.Partition{Topic: name, ID: id})
			}
		}
	}
	return ps
}

// partition returns what is known of p.
func (v *View) partition(p position.Partition, at position.Committed, logs Logs) driver.GroupPartition {
	gp := driver.GroupPartition{
		Topic: p.Topic, Partition: p.ID,
		Committed: known(at.At, p), Metadata: at.Beside[p], Begin: known(logs.Begin, p), End: known(logs.End, p),
	}
	err := at.Failed[p]
	if err != nil {
		gp.Committed = driver.UnknownPosition
	} else {
		err = logs.Failed[p]
	}
	gp.Err = v.wire.Wrap(err)
	return gp
}

// Commit implements driver.Group.
func (v *View) Commit(ctx context.Context, marks []driver.GroupMark) error {
	return v.call(ctx, func(ctx context.Context) error {
		c := commit{v: v, todo: marks}
		err := v.retry(ctx, func() error { return c.try(ctx) })
		if len(c.todo) == len(marks) {
			return err
		}
		for _, m := range c.todo {
			c.refuse(m, err)
		}
		return errors.Join(c.refused...)
	})
}

// A commit is one call of Commit.
type commit struct {
	v       *View
	todo    []driver.GroupMark // neither durable nor refused
	refused []error
}

// try sends the marks that are left. It returns an error while some are left.
func (c *commit) try(ctx context.Context) error {
	if len(c.todo) == 0 {
		return nil
	}
	failed, err := c.v.wire.Commit(ctx, c.todo)
	if err != nil {
		return err
	}
	var left []driver.GroupMark
	for _, m := range c.todo {
		switch why := failed[position.Partition{Topic: m.Topic, ID: m.Partition}]; {
		case why == nil:
		case c.v.wire.OfTheGroup(why):
			left, err = append(left, m), why
		default:
			c.refuse(m, c.v.wire.Wrap(why))
		}
	}
	c.todo = left
	return err
}

func (c *commit) refuse(m driver.GroupMark, err error) {
	c.refused = append(c.refused, &driver.PartitionError{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Err: err})
}

// retry calls ask until it succeeds, fails for a reason that does not pass by itself, or
// ctx ends.
func (v *View) retry(ctx context.Context, ask func() error) error {
	var last error // why an attempt failed before the end of ctx
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := ask()
		if err == nil {
			return nil
		}
		wrapped := v.wire.Wrap(err)
		switch {
		case v.wire.HasMembers(err):
			return hasMembers(wrapped)
		case errors.Is(wrapped, driver.ErrPermanent):
			return wrapped
		case ctx.Err() == nil || last == nil:
			last = wrapped
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return &driver.Error{Code: "REQUEST_TIMED_OUT", Err: fmt.Errorf("%w: %w", ctx.Err(), last)}
		}
	}
}

// hasMembers returns the answer to a commit that was refused with err.
func hasMembers(err error) error {
	code := "UNKNOWN_MEMBER_ID"
	if e, ok := errors.AsType[*driver.Error](err); ok {
		code = e.Code
	}
	return &driver.Error{Code: code, Err: fmt.Errorf("%w: %w", driver.ErrGroupHasMembers, err)}
}

// call runs f, whose context also ends when Close begins.
func (v *View) call(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.mu.Lock()
	if v.closing {
		v.mu.Unlock()
		return driver.ErrClosed
	}
	v.calls.Add(1)
	v.mu.Unlock()
	defer v.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.life, cancel)()
	err := f(ctx)
	if v.life.Err() != nil && ctx.Err() != nil {
		return driver.ErrClosed
	}
	return err
}

// Close implements driver.Group.
func (v *View) Close(ctx context.Context) error {
	v.mu.Lock()
	first := !v.closing
	v.closing = true
	v.mu.Unlock()
	if first {
		v.end()
		v.wire.Sever()
		done := make(chan struct{})
		go func() { // ends soon: the connections are severed
			defer close(done)
			v.calls.Wait()
			v.wire.Close()
		}()
		v.answer = finished(ctx, done)
		close(v.closed)
		return v.answer
	}
	if err := finished(ctx, v.closed); err != nil {
		return err
	}
	return v.answer
}

// finished waits for done, or for ctx. If both are over, done counts.
func finished(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	default:
		return ctx.Err()
	}
}

// Join merges the answers of leaders to the questions where logs begin and where they end.
func Join(begin, end map[position.Partition]int64, failures ...map[position.Partition]error) Logs {
	logs := Logs{Begin: begin, End: end, Failed: map[position.Partition]error{}}
	for _, failed := range failures {
		maps.Copy(logs.Failed, failed)
	}
	return logs
}
