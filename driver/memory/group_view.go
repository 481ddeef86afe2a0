package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// OpenGroup implements [driver.GroupReader]. It fails with CONNECTION_FAILED while the
// broker is stopped.
func (b *Broker) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	if err := b.reach(ctx); err != nil {
		return nil, err
	}
	return &groupView{b: b, name: cfg.Group, topics: slices.Clone(cfg.Topics), closed: make(chan struct{})}, nil
}

// A groupView is a group as a client sees it that is no member.
type groupView struct {
	b      *Broker
	name   string
	topics []string
	once   sync.Once
	closed chan struct{}
}

// Read implements driver.Group.
func (v *groupView) Read(ctx context.Context) (all []driver.GroupPartition, err error) {
	err = v.ask(ctx, func() error {
		g := v.b.look(v.name)
		for _, topic := range v.topics {
			all = append(all, g.read(topic)...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// read returns what a client learns of the partitions of a topic.
func (g *group) read(topic string) (all []driver.GroupPartition) {
	if err := g.b.topicError(topic); err != nil {
		return []driver.GroupPartition{{Topic: topic, Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: err}}
	}
	for i, l := range g.b.topics[topic].partitions {
		tp := TopicPartition{topic, int32(i)}
		all = append(all, driver.GroupPartition{
			Topic: topic, Partition: tp.Partition,
			Committed: g.committed(tp), Metadata: g.offsets[tp].metadata,
			Begin: l.start, End: l.end,
		})
	}
	return all
}

// Commit implements driver.Group.
func (v *groupView) Commit(ctx context.Context, marks []driver.GroupMark) error {
	err := v.ask(ctx, func() error {
		g := v.b.group(v.name)
		if len(g.members) > 0 {
			return errHasMembers(g)
		}
		var failed []error
		for _, m := range marks {
			if err := v.commit(g, m); err != nil {
				failed = append(failed, &driver.PartitionError{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Err: err})
			}
		}
		return errors.Join(failed...)
	})
	v.b.observer.flush()
	return err
}

// commit records a position for a group without members. The group is not new to the topic
// from then on.
func (v *groupView) commit(g *group, m driver.GroupMark) error {
	tp := TopicPartition{m.Topic, m.Partition}
	if err := g.b.topicError(m.Topic); err != nil {
		return err
	}
	switch {
	case g.b.log(tp) == nil:
		return errUnknownPartition(m.Topic, m.Partition)
	case m.Offset < 0 || !slices.Contains(v.topics, m.Topic):
		return fail("INVALID_REQUEST", "%s/%d: offset %d; the view of the group has the topics %q", m.Topic, m.Partition, m.Offset, v.topics)
	}
	if err := metadataErr(tp, m.Metadata); err != nil {
		return err
	}
	g.offsets[tp] = place{m.Offset, m.Metadata}
	g.pinned[m.Topic] = true
	g.progress.fire()
	g.b.observer.applied(Commit{Group: g.name, Generation: -1, TopicPartition: tp, Offset: m.Offset, Metadata: m.Metadata, Seek: true})
	return nil
}

func errHasMembers(g *group) error {
	return fail("UNKNOWN_MEMBER_ID", "group %q: %w: %d of them", g.name, driver.ErrGroupHasMembers, len(g.members))
}

// ask calls f with the mutex held, when the broker can be reached.
func (v *groupView) ask(ctx context.Context, f func() error) error {
	for {
		changed, err := v.try(ctx, f)
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-v.closed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// try is one attempt of ask. It returns what the next one has to wait for, if there is to
// be one.
func (v *groupView) try(ctx context.Context, f func() error) (changed <-chan struct{}, err error) {
	v.b.mu.Lock()
	defer v.b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case v.isClosed():
		return nil, driver.ErrClosed
	case v.b.stopped:
		return v.b.reached.wait(), errUnreachable()
	default:
		return nil, f()
	}
}

func (v *groupView) isClosed() bool {
	select {
	case <-v.closed:
		return true
	default:
		return false
	}
}

// Close implements driver.Group. A view has neither goroutines nor connections.
func (v *groupView) Close(context.Context) error {
	v.once.Do(func() { close(v.closed) })
	return nil
}
