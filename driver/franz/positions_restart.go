package franz

import (
	"context"
	"maps"
	"slices"

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
	o.core.Report(&driver.Error{Code: gap.ErrorType(), Err: gap})
}

// restartHeld makes beginnings durable, between two sessions, for the partitions that the
// member held in the last one, in the name of by. So a process that joins now, and knows
// nothing of the old topic, starts there. If the group has gone on without this member,
// that is done at the assignment. So it is for a partition whose beginning is not known or
// that the coordinator refuses.
func (o *positions) restartHeld(ctx context.Context, asOf incarnation.Eras, by member) error {
	froms := o.restarts.Held(o.topics.names)
	if len(froms) == 0 {
		return nil
	}
	begins, failed := o.beginnings(ctx, o.leaders, slices.Collect(maps.Keys(froms)))
	if len(begins) > 0 {
		refused, err := o.committer.start(ctx, asOf, func() (member, error) { return by, nil }, begins)
		if otherMembers(err) {
			return nil
		}
		if err != nil {
			return err
		}
		maps.Copy(failed, refused)
	}
	for p, begin := range begins {
		if failed[p] == nil {
			o.restarted(p, froms[p], begin)
		}
	}
	for p, err := range failed {
		o.core.Report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: wrap(err)})
	}
	return nil
}

// beginnings asks the leaders where the logs of topics begin that were created again. A
// leader that does not know the new topic yet would answer for the old one, so every
// broker that knows the topic must know the new one. A topic for which that does not hold
// yet, or a partition whose leader does not answer, has failed, and is no verdict on the
// others.
func (o *positions) beginnings(ctx context.Context, ask *leaders, partitions []partition) (begins map[partition]int64, failed map[partition]error) {
	failed = map[partition]error{}
	if len(partitions) == 0 {
		return nil, failed
	}
	known := map[partition]bool{}
	for _, seen := range o.topics.poll(ctx) {
		for _, p := range partitions {
			if !o.topics.owns(p.Topic, o.topics.known.Era(p.Topic), seen) {
				failed[p] = recreated(p.Topic)
			}
			known[p] = known[p] || slices.Contains(seen.topics[p.Topic].partitions, p.ID)
		}
	}
	kept := slices.DeleteFunc(partitions, func(p partition) bool {
		return failed[p] != nil || !known[p] // the new topic may have fewer
	})
	begins, silent := ask.some(ctx, kept, logBegin)
	maps.Copy(failed, silent)
	return begins, failed
}

// restartAssigned makes beginnings durable for the partitions that have been assigned, of
// which froms has the positions in the old topic.
func (o *positions) restartAssigned(ctx context.Context, ask *leaders, s *session, by member, froms map[partition]int64, fetched map[partition]place, starts map[partition]startAt, failed map[partition]error) error {
	if len(froms) == 0 {
		return nil
	}
	begins, unknown := o.beginnings(ctx, ask, slices.Collect(maps.Keys(froms)))
	maps.Copy(failed, unknown)
	to := map[partition]int64{}
	for p, begin := range begins {
		if fetched[p].Offset == begin && froms[p] < 0 {
			o.restarts.Settle(p)          // the member that held it has done this, and has reported it
			starts[p] = startingAt(begin) // its metadata may be from the old topic
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
			starts[p] = startingAt(begin)
		}
	}
	return nil
}
