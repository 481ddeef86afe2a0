package sarama

import (
	"context"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// Sarama's own OffsetNewest looks up the end of the log when a claim begins. So it loses
// records: those that arrive while no member runs before the first commit, and those of a
// new partition before it is noticed. Here Sarama always starts at the oldest record of a
// partition without a position, and "newest" is a commit that is made before:
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
// partitions are not known or could not be made durable.
func (o *positions) pinNewest(ctx context.Context, asOf incarnation.Eras, topics []string) (pins map[partition]int64, failed map[partition]error, err error) {
	if o.cfg.InitialOffset != driver.OffsetNewest {
		failed, err = o.unreadable(ctx, topics)
		return nil, failed, err
	}
	if err := o.refresh(topics...); err != nil {
		return nil, nil, err
	}
	partitions, err := o.leaders.partitions(topics)
	if err != nil {
		return nil, nil, err
	}
	at, err := o.stable(ctx, partitions)
	if err != nil {
		return nil, nil, err
	}
	fresh := slices.DeleteFunc(at.Fresh(partitions), func(p partition) bool {
		return o.topics.known.Reborn(p.Topic) || o.cfg.Initial(p.Topic) == driver.OffsetOldest // these start at the beginning
	})
	if len(fresh) == 0 {
		return o.owed.Add(nil), at.Failed, nil
	}
	pins, more, err := o.pinFresh(ctx, asOf, fresh)
	maps.Copy(at.Failed, more)
	return pins, at.Failed, err
}

// unreadable returns why the positions of some partitions of topics are not known. If the
// coordinator does not answer, it returns nothing: Sarama waits for it.
func (o *positions) unreadable(ctx context.Context, topics []string) (map[partition]error, error) {
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	partitions, err := o.leaders.partitions(topics)
	if err != nil {
		return nil, nil // nor does Sarama join, and it says why
	}
	at, err := o.stable(asking, partitions)
	if isPermanent(o.coordinator.wrap(err)) {
		return nil, err
	}
	return at.Failed, nil
}

// stableRetries is how often the position of a partition is asked for again that a
// transaction is about to move, as Sarama does when a session begins.
const stableRetries = 3

// stable asks for positions until no transaction is about to move one, or for the last time.
func (o *positions) stable(ctx context.Context, partitions []partition) (position.Committed, error) {
	for retry := 0; ; retry++ {
		at, err := o.coordinator.committed(ctx, partitions)
		if err != nil || retry == stableRetries || !moving(at) {
			return at, err
		}
		select {
		case <-time.After(metadataBackoff):
		case <-ctx.Done():
			return at, nil
		}
	}
}

func moving(at position.Committed) bool {
	for _, err := range at.Failed {
		if isCode(err, ibm.ErrUnstableOffsetCommit) {
			return true
		}
	}
	return false
}

// pinFresh is pinNewest for the partitions of topics without a position.
func (o *positions) pinFresh(ctx context.Context, asOf incarnation.Eras, fresh []partition) (pins map[partition]int64, failed map[partition]error, err error) {
	ends, _ := o.leaders.some(fresh, ibm.OffsetNewest)
	begins, _ := o.leaders.some(slices.Collect(maps.Keys(ends)), ibm.OffsetOldest)
	at, err := o.stable(ctx, fresh)
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
	for p, why := range refused {
		owed[p], at.Failed[p] = ends[p], why
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

// pinAssigned commits the ends from before the join, for the partitions that the member
// has been assigned. It runs before Sarama starts the claims.
func (o *positions) pinAssigned(s *session) error {
	mine := slices.DeleteFunc(s.assigned(), func(p partition) bool {
		end, ok := s.pins[p]
		return !ok || end == position.EndUnknown
	})
	if len(mine) == 0 {
		return nil
	}
	at, err := o.coordinator.committed(s.sess.Context(), mine)
	if err != nil {
		return err
	}
	mine = slices.DeleteFunc(mine, func(p partition) bool { _, ok := at.At[p]; return ok || at.Failed[p] != nil })
	begins, _ := o.leaders.some(mine, ibm.OffsetOldest)
	for _, p := range mine {
		if _, ok := begins[p]; !ok {
			continue // its claim does this when it starts
		}
		if err := o.pin(s, p, s.pins[p]); err != nil {
			return err
		}
		// Sarama reads this when it starts the claim; it commits nothing.
		s.sess.MarkOffset(p.Topic, p.ID, s.pins[p], "")
		o.reportNoPosition(p, s.pins[p], begins[p])
	}
	return nil
}
