package franz

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// begin restarts the topics that were created again, in which claims were live.
func (o *positions) begin(changed map[string]bool, claims []*claim) {
	at := map[partition]int64{}
	for _, cl := range claims {
		at[cl.where] = cl.position()
	}
	for topic := range changed {
		o.restarts.Begin(topic, at)
	}
}

// restarted notes that the beginning of p is durable, and reports the gap.
func (o *positions) restarted(p partition, from, to int64) {
	if !o.restarts.Settle(p) {
		return
	}
	gap := &driver.DataLossError{
		Topic: p.Topic, Partition: p.ID, From: from, To: to, Recreated: true, Begin: to, End: -1,
	}
	o.core.report(&driver.Error{Code: gap.ErrorType(), Err: gap})
}

// restartHeld makes beginnings durable, between two sessions, for the partitions that the
// member held in the last one, in the name of by. So a process that joins now, and knows
// nothing of the old topic, starts there. If the group has gone on without this member,
// that is done at the assignment.
func (o *positions) restartHeld(ctx context.Context, asOf incarnation.Eras, by member) error {
	froms := o.restarts.Held(o.topics.names)
	if len(froms) == 0 {
		return nil
	}
	begins, err := o.beginnings(ctx, slices.Collect(maps.Keys(froms)))
	if err != nil || len(begins) == 0 {
		return err
	}
	err = o.committer.start(ctx, asOf, func() (member, error) { return by, nil }, begins)
	if otherMembers(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for p, begin := range begins {
		o.restarted(p, froms[p], begin)
	}
	return nil
}

// beginnings asks the leaders where the logs of topics begin that were created again. A
// leader that does not know the new topic yet would answer for the old one, so every
// broker that knows the topic must know the new one.
func (o *positions) beginnings(ctx context.Context, partitions []partition) (map[partition]int64, error) {
	if len(partitions) == 0 {
		return nil, nil
	}
	var kept []partition
	for _, seen := range o.topics.poll(ctx) {
		for _, p := range partitions {
			state := seen.topics[p.Topic]
			if !o.topics.known.Holds(p.Topic, o.topics.known.Era(p.Topic), state.id) {
				return nil, recreated(p.Topic)
			}
			if slices.Contains(state.partitions, p.ID) && !slices.Contains(kept, p) {
				kept = append(kept, p) // the new topic may have fewer
			}
		}
	}
	return o.leaders.all(ctx, kept, logBegin)
}

// restartAssigned makes beginnings durable for the partitions that have been assigned, of
// which froms has the positions in the old topic.
func (o *positions) restartAssigned(ctx context.Context, s *session, by member, froms map[partition]int64, fetched map[partition]kgo.EpochOffset, starts map[partition]startAt, failed map[partition]error) error {
	if len(froms) == 0 {
		return nil
	}
	begins, err := o.beginnings(ctx, slices.Collect(maps.Keys(froms)))
	if err != nil {
		return fmt.Errorf("beginning of a topic that was created again: %w", err)
	}
	to := map[partition]int64{}
	for p, begin := range begins {
		if fetched[p].Offset == begin && froms[p] < 0 {
			o.restarts.Settle(p) // the member that held it has done this, and has reported it
			starts[p] = startAt{begin, -1}
			continue
		}
		to[p] = begin
	}
	refused, err := o.pin(ctx, s, by, to)
	if err != nil {
		return err
	}
	maps.Copy(failed, refused)
	for p, begin := range to {
		if refused[p] == nil {
			o.restarted(p, froms[p], begin)
			starts[p] = startAt{begin, -1}
		}
	}
	return nil
}
