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
// ends that are still to be committed when the claims start.
func (o *positions) pinNewest(ctx context.Context, asOf incarnation.Eras, seen survey, topics []string) (pins map[partition]int64, err error) {
	if o.cfg.InitialOffset != driver.OffsetNewest {
		return nil, nil
	}
	topics = slices.DeleteFunc(slices.Clone(topics), o.topics.known.Reborn) // these start at the beginning
	partitions := seen.partitions(topics)
	if len(partitions) == 0 {
		return o.owed.Add(nil), nil
	}
	at, err := o.coordinator.committed(ctx, partitions)
	if err != nil {
		return nil, err
	}
	fresh := at.Fresh(partitions)
	if len(fresh) == 0 {
		return o.owed.Add(nil), nil
	}
	return o.pinFresh(ctx, asOf, fresh)
}

// pinFresh is pinNewest for the partitions of topics without a position.
func (o *positions) pinFresh(ctx context.Context, asOf incarnation.Eras, fresh []partition) (pins map[partition]int64, err error) {
	ends, _ := o.leaders.some(ctx, fresh, logEnd)
	begins, _ := o.leaders.some(ctx, slices.Collect(maps.Keys(ends)), logBegin)
	at, err := o.coordinator.committed(ctx, fresh)
	if err != nil {
		return nil, err
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
		return pins, nil
	}
	if err != nil {
		return nil, err
	}
	for p := range refused {
		owed[p] = ends[p]
	}
	o.refusals(refused)
	return o.owed.Add(owed), nil
}

// commitEnds commits the ends for a group without members, and reports these starts. It
// returns which were refused.
func (o *positions) commitEnds(ctx context.Context, asOf incarnation.Eras, ends, begins map[partition]int64) (refused map[partition]error, err error) {
	if len(ends) == 0 {
		return nil, nil
	}
	refused, err = o.committer.startSome(ctx, asOf, func() (member, error) { return noMember, nil }, ends)
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
func (o *positions) startNewest(ctx context.Context, s *session, by member, begins map[partition]int64, starts map[partition]startAt) error {
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
	ends, _ := o.leaders.some(ctx, unknown, logEnd)
	maps.Copy(to, ends)
	refused, err := o.pin(ctx, s, by, to)
	if err != nil {
		return err
	}
	o.refusals(refused)
	for p, at := range to {
		if refused[p] == nil {
			o.reportNoPosition(p, at, begins[p])
			starts[p] = startAt{at, -1}
		}
	}
	return nil
}
