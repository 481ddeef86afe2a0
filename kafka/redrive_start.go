package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// boxes returns the partitions of the dead-letter topics, each from where it is to be read
// to its end as of now.
func (r *redrive) boxes(ctx context.Context) ([]*letterbox, error) {
	all, err := r.positions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the positions of group %s: %w", quote(r.group()), err)
	}
	var boxes []*letterbox
	known := false
	for _, p := range all {
		if p.Err != nil {
			return nil, letterError(p)
		}
		known = known || p.Committed >= 0
		boxes = append(boxes, r.box(p))
	}
	switch {
	case !r.cfg.Since.IsZero():
		if err := r.moveToSince(ctx, boxes); err != nil {
			return nil, fmt.Errorf("look for what was written since %v: %w", r.cfg.Since, err)
		}
	case !r.cfg.FromStart && !known:
		return nil, ErrNoPosition
	}
	return boxes, nil
}

func (r *redrive) positions(ctx context.Context) (all []driver.GroupPartition, err error) {
	ctx, cancel := r.m.openContext(ctx)
	defer cancel()
	err = r.withGroup(ctx, func(g driver.Group) (err error) {
		all, err = g.Read(ctx)
		return err
	})
	return all, err
}

// letterError is why a partition of a dead-letter topic cannot be read.
func letterError(p driver.GroupPartition) error {
	if p.Partition >= 0 {
		return fmt.Errorf("dead letters: %w", &driver.PartitionError{Topic: p.Topic, Partition: p.Partition, Offset: -1, Err: p.Err})
	}
	if hasCode(p.Err, "UNKNOWN_TOPIC_OR_PARTITION") {
		return fmt.Errorf("dead letters: %w", &missingTopicError{p.Topic, p.Err})
	}
	return fmt.Errorf("dead letters: topic %s: %w", quote(p.Topic), p.Err)
}

// box returns the part of a partition that is to be read. A position that is not in the
// log is moved to its beginning. In a partition without a position, which is younger than
// the last redrive, everything is to be read.
func (r *redrive) box(p driver.GroupPartition) *letterbox {
	b := &letterbox{tp: TopicPartition{p.Topic, p.Partition}, next: p.Committed, end: p.End, committed: p.Committed}
	if p.Committed < p.Begin {
		b.next = p.Begin
	}
	if b.moved = r.begins() || p.Committed > p.End; b.moved {
		b.next = p.Begin
	}
	return b
}

// withGroup calls f with a view of the group whose positions count.
func (r *redrive) withGroup(ctx context.Context, f func(driver.Group) error) error {
	g, err := openGroup(ctx, r.m.driver, r.consumer(r.group()))
	if err != nil {
		return err
	}
	defer r.j.closeGroup(ctx, g)
	return guard(func() error { return f(g) })
}

// moveTo commits where the run begins, as far as that is not where the last one has ended:
// so a run that goes on after this one was killed need not know it. The brokers refuse it
// while another run is a member of the group.
func (r *redrive) moveTo(ctx context.Context, boxes []*letterbox) error {
	var marks []driver.GroupMark
	for _, b := range boxes {
		if b.moved {
			marks = append(marks, driver.GroupMark{Topic: b.tp.Topic, Partition: b.tp.Partition, Offset: b.next})
			b.committed = b.next
		}
	}
	if len(marks) == 0 {
		return nil
	}
	ctx, cancel := r.m.openContext(ctx)
	defer cancel()
	err := r.withGroup(ctx, func(g driver.Group) error { return g.Commit(ctx, marks) })
	if errors.Is(err, driver.ErrGroupHasMembers) {
		return fmt.Errorf("%w, or one was killed less than %v ago: %w", ErrRedriving, r.consumer("").SessionTimeout, err)
	}
	if err != nil {
		return fmt.Errorf("commit where to begin in group %s: %w", quote(r.group()), err)
	}
	return nil
}

// openProducer connects what sends the dead letters, and looks up where they go to. A dry
// run does so, too: it finds out what a run would.
func (r *redrive) openProducer(ctx context.Context) error {
	ctx, cancel := r.m.openContext(ctx)
	defer cancel()
	p, err := r.j.openCopyProducer(ctx, "/redrive")
	if err != nil {
		return err
	}
	r.producer = p
	var topics []string
	for _, source := range r.sources {
		topics = append(topics, r.to(source))
	}
	slices.Sort(topics)
	if err := findAll(ctx, p.driver, topics); err != nil {
		r.closeProducer()
		return err
	}
	return nil
}

func (r *redrive) closeProducer() {
	r.producer.beginClose(leaveTimeout)
	<-r.producer.done
}

// lookGroup returns the name of a group for a reader that commits nothing. It is another
// one each time, so that two of them do not share the partitions.
func (r *redrive) lookGroup() string { return r.group() + ".look." + rand.Text() }

// moveToSince moves boxes to the first dead letter that was written at Since or later. It
// asks the brokers, or reads the topics if the driver cannot.
func (r *redrive) moveToSince(ctx context.Context, boxes []*letterbox) error {
	found, err := r.findSince(ctx)
	if errors.Is(err, ErrUnsupported) {
		return r.seekSince(ctx, boxes)
	}
	if err != nil {
		return err
	}
	for _, b := range boxes {
		b.next = b.end // of a partition that is not among the answers
		for _, f := range found {
			if b.tp == (TopicPartition{f.Topic, f.Partition}) {
				b.next = min(f.At, b.end)
			}
		}
	}
	return nil
}

// findSince asks the brokers for the offsets of Since.
func (r *redrive) findSince(ctx context.Context) (found []driver.FoundOffsets, err error) {
	ctx, cancel := r.m.openContext(ctx)
	defer cancel()
	err = r.withGroup(ctx, func(g driver.Group) (err error) {
		found, err = findOffsets(ctx, g, everyPartition(r.letters), r.cfg.Since)
		return err
	})
	for _, f := range found {
		if f.Err != nil && err == nil {
			err = letterError(driver.GroupPartition{Topic: f.Topic, Partition: f.Partition, Err: f.Err})
		}
	}
	return found, err
}

// seekSince is moveToSince by reading the topics from the beginning. It commits nothing.
func (r *redrive) seekSince(ctx context.Context, boxes []*letterbox) error {
	s := &sinceSeeker{since: r.cfg.Since, found: map[TopicPartition]int64{}}
	look := make([]*letterbox, len(boxes))
	for i, b := range boxes {
		copied := *b
		look[i] = &copied
	}
	if err := r.read(ctx, r.lookGroup(), look, s); err != nil {
		return err
	}
	for _, b := range boxes {
		b.next = b.end
		if at, ok := s.found[b.tp]; ok {
			b.next = at
		}
	}
	return nil
}

// A sinceSeeker notes the first dead letter of each partition that is late enough.
type sinceSeeker struct {
	since time.Time
	found map[TopicPartition]int64
}

func (s *sinceSeeker) visit(_ context.Context, round []*dead) (more bool, err error) {
	for _, d := range round {
		d.done = true
		if _, known := s.found[d.at()]; !known && !d.record.Timestamp.Before(s.since) {
			s.found[d.at()] = d.record.Offset
			d.box.last = true
		}
	}
	return true, nil
}

func (s *sinceSeeker) wait(context.Context) error { return nil }
func (s *sinceSeeker) commits() bool              { return false }
