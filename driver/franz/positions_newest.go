package franz

import (
	"context"
	"maps"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// A client's own "newest" looks up the end of the log when a claim begins. So it loses
// records: those that arrive while no member runs before the first commit, and those of a
// new partition before it is noticed. Here "newest" is a commit that is made before:
//
//   - A group without members gets the end of every partition of a topic for which it
//     has no position at all, in one request, before it is joined. A group with members
//     refuses that, so a late starter skips nothing.
//   - When the group has members, but no position in this topic, the ends from before the
//     join are committed for the partitions that this member is assigned.
//   - A partition that still has no position then was created later. It starts at its
//     beginning, which is committed before the claim is assigned.
//   - A pin that cannot be made durable for one partition, as it has no leader or its
//     position is refused, is owed to it until its claim starts. No other partition waits
//     for that.

// pinNewest makes the ends of topics durable, for a group without members. It returns the
// ends that are still to be committed when the claims start, and why the positions of some
// partitions are not known.
func (o *positions) pinNewest(ctx context.Context, asOf incarnation.Eras, seen survey, topics []string) (pins map[partition]int64, failed map[partition]error, err error) {
	partitions := seen.partitions(topics)
	at, err := o.coordinator.committed(ctx, partitions)
	if err != nil {
		return nil, nil, err
	}
	if o.cfg.InitialOffset != driver.OffsetNewest {
		return nil, at.Failed, nil
	}
	fresh := slices.DeleteFunc(at.Fresh(partitions), func(p partition) bool { // these start at the beginning
		return o.topics.known.Reborn(p.Topic) || o.cfg.Initial(p.Topic) == driver.OffsetOldest
	})
	if len(fresh) == 0 {
		return o.owed.Add(nil), at.Failed, nil
	}
	pins, more, err := o.pinFresh(ctx, asOf, fresh)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(more, at.Failed)
	at, err = o.coordinator.committed(ctx, partitions) // a group that did not exist had no trouble
	maps.Copy(more, at.Failed)
	return pins, more, err
}

// pinFresh is pinNewest for the partitions of topics without a position.
func (o *positions) pinFresh(ctx context.Context, asOf incarnation.Eras, fresh []partition) (pins map[partition]int64, failed map[partition]error, err error) {
	ends, _ := o.leaders.some(ctx, fresh, logEnd)
	begins, _ := o.leaders.some(ctx, slices.Collect(maps.Keys(ends)), logBegin)
	at, err := o.coordinator.committed(ctx, fresh)
	if err != nil {
		return nil, nil, err
	}
	ends, owed := position.Pin(fresh, at.Fresh(fresh), ends, begins)
	refused, err := o.commitEnds(ctx, asOf, ends, begins)
	if otherMembers(err) {
		pins = o.owed.Add(owed)
		for p, end := range ends {
			if _, earlier := pins[p]; !earlier {
				pins[p] = end
			}
		}
		return pins, at.Failed, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for p := range refused { // the claim reports it when it starts
		owed[p] = ends[p]
	}
	return o.owed.Add(owed), at.Failed, nil
}

// commitEnds commits the ends for a group without members, and reports these starts. It
// returns which were refused.
func (o *positions) commitEnds(ctx context.Context, asOf incarnation.Eras, ends, begins map[partition]int64) (refused map[partition]error, err error) {
	if len(ends) == 0 {
		return nil, nil
	}
	refused, err = o.committer.start(ctx, asOf, func() (member, error) { return noMember, nil }, ends)
	if err != nil {
		return nil, err
	}
	for p, end := range ends {
		if refused[p] == nil {
			o.reportNoPosition(p, end, begins[p])
		}
	}
	return refused, nil
}

// startNewest makes the starts of partitions without a position durable, whose logs begin
// at begins: the end from before the join, or the beginning of a later partition.
func (o *positions) startNewest(ctx context.Context, ask *leaders, s *session, by member, begins map[partition]int64, starts map[partition]startAt, failed map[partition]error) error {
	to, unknown := map[partition]int64{}, []partition(nil)
	for p, begin := range begins {
		end, pinned := s.pin(p)
		switch {
		case !pinned, o.topics.known.Reborn(p.Topic):
			to[p] = begin
		case end == position.EndUnknown:
			unknown = append(unknown, p)
		default:
			to[p] = end
		}
	}
	ends, silent := ask.some(ctx, unknown, logEnd)
	maps.Copy(to, ends)
	maps.Copy(failed, silent)
	refused, err := o.pin(ctx, s, by, to)
	if err != nil {
		return err
	}
	maps.Copy(failed, refused)
	for p, at := range to {
		if refused[p] == nil {
			o.reportNoPosition(p, at, begins[p])
			starts[p] = startingAt(at)
		}
	}
	return nil
}
