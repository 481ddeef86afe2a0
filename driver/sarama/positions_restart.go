package sarama

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// hold keeps the position of cl, which ends, for the case that its topic was created again.
func (o *positions) hold(cl *claim) {
	o.restarts.Hold(o.topics.known, cl.era, cl.where, cl.progress.Offset())
}

// forget drops the positions that were held in topics: another member that holds a partition
// from now on restarts it.
func (o *positions) forget(topics []string) { o.restarts.Forget(topics...) }

// begin restarts the topics that were created again, in which claims were live.
func (o *positions) begin(changed map[string]bool, claims []*claim) {
	at := map[partition]int64{}
	for _, cl := range claims {
		at[cl.where] = cl.progress.Offset()
	}
	for topic := range changed {
		o.restarts.Begin(topic, at)
	}
	o.forgetAstray(changed)
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
// member held in the last one. So a process that joins now, and knows nothing of the old
// topic, starts there. If the group has gone on without this member, that is done at the
// assignment, and so it is for a partition whose leader does not answer for long. RestartHeld
// returns the beginnings that the coordinator has refused permanently. If it has refused
// some for another reason, the join must wait.
func (o *positions) restartHeld(ctx context.Context, asOf incarnation.Eras, topics []string) (refused map[partition]error, err error) {
	froms, by := o.restarts.Held(topics), o.membership.last()
	if len(froms) == 0 {
		return nil, nil
	}
	begins, err := o.patientBeginnings(ctx, slices.Collect(maps.Keys(froms)))
	if err != nil || len(begins) == 0 {
		return nil, err
	}
	failed, err := o.committer.start(ctx, asOf, func() (member, error) { return by, nil }, begins)
	if otherMembers(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for p, begin := range begins {
		if failed[p] == nil {
			o.restarted(p, froms[p], begin)
		}
	}
	return o.refusals(failed)
}

// beginningPatience is how long a join waits for leaders that do not say where their logs
// begin: a topic that was just created may have none yet.
const beginningPatience = 5 * time.Second

// patientBeginnings asks for beginnings until it has all, or for beginningPatience. Then it
// reports the partitions that have failed, and returns the others.
func (o *positions) patientBeginnings(ctx context.Context, partitions []partition) (map[partition]int64, error) {
	for began := time.Now(); ; {
		begins, failed, err := o.beginnings(partitions)
		if err != nil || len(failed) == 0 {
			return begins, err
		}
		if time.Since(began) >= beginningPatience {
			o.inTrouble(failed)
			return begins, nil
		}
		select {
		case <-time.After(metadataBackoff):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// refusals returns failed, the partitions whose positions a coordinator has not taken, if
// each was refused permanently. If not, it returns an error: the others may have been taken
// all the same, or may be at the next attempt.
func (o *positions) refusals(failed map[partition]error) (map[partition]error, error) {
	for p, err := range failed {
		if !isPermanent(o.coordinator.wrap(err)) {
			return nil, fmt.Errorf("commit start of %s/%d: %w", p.Topic, p.ID, err)
		}
	}
	return failed, nil
}

// inTrouble reports partitions whose leaders or positions are not known.
func (o *positions) inTrouble(failed map[partition]error) {
	for p, err := range failed {
		o.core.Report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: o.coordinator.wrap(err)})
	}
}

// beginnings asks the leaders where the logs of topics begin that were created again. A
// leader that does not know the new topic yet would answer for the old one. A partition
// whose leader does not answer has failed, and is no verdict on the others.
func (o *positions) beginnings(partitions []partition) (begins map[partition]int64, failed map[partition]error, err error) {
	if err := o.refresh(topicsOf(partitions)...); err != nil {
		return nil, nil, err
	}
	led, failed, err := o.leaders.existing(partitions)
	if err != nil {
		return nil, nil, err
	}
	var kept []partition
	for leader, some := range led {
		s, err := askTopics(leader, o.leaders.conf.Version, topicsOf(some))
		if err != nil {
			leader.Close()
		}
		for _, p := range some {
			switch {
			case err != nil:
				failed[p] = err
			case !o.topics.known.Holds(p.Topic, o.topics.known.Era(p.Topic), s.topics[p.Topic].id):
				failed[p] = recreated(p.Topic)
			default:
				kept = append(kept, p)
			}
		}
	}
	begins, more := o.leaders.some(kept, ibm.OffsetOldest)
	maps.Copy(failed, more)
	return begins, failed, nil
}

// allBeginnings is beginnings for callers that need each of them: a claim must not start
// at a position of the old topic.
func (o *positions) allBeginnings(partitions []partition) (map[partition]int64, error) {
	begins, failed, err := o.beginnings(partitions)
	for p, failure := range failed {
		return nil, fmt.Errorf("offset of %s/%d: %w", p.Topic, p.ID, failure)
	}
	return begins, err
}

// restartAssigned makes beginnings durable for the partitions that have been assigned,
// before Sarama starts the claims.
func (o *positions) restartAssigned(s *session) error {
	froms, assigned := map[partition]int64{}, s.assigned()
	o.restarts.Release(assigned)
	for _, p := range assigned {
		if from, ok := o.restarts.Pending(p); ok {
			froms[p] = from
		}
	}
	if len(froms) == 0 {
		return nil
	}
	partitions := slices.Collect(maps.Keys(froms))
	s.restarting(partitions)
	begins, err := o.allBeginnings(partitions)
	if err != nil {
		return fmt.Errorf("beginning of a topic that was created again: %w", err)
	}
	positions, err := o.coordinator.committed(s.sess.Context(), partitions)
	if err != nil {
		return err
	}
	for p, begin := range begins {
		if at, ok := positions.At[p]; ok && at == begin && froms[p] < 0 {
			o.restarts.Settle(p) // the member that held it has done this, and has reported it
			continue
		}
		if err := o.pin(s, p, begin); err != nil {
			return err
		}
		// Sarama reads this when it starts the claim; it commits nothing. MarkOffset moves
		// the position up only, and ResetOffset down only.
		s.sess.MarkOffset(p.Topic, p.ID, begin, "")
		s.sess.ResetOffset(p.Topic, p.ID, begin, "")
		o.restarted(p, froms[p], begin)
	}
	return nil
}

// restartClaim does the same for a claim that a cooperative rebalance has brought. Sarama
// has read the position of such a claim before the driver hears of it, so the session ends
// if that is not the beginning. It reports whether the claim is the first of p since the
// topic was created again. Such a claim has no metadata: what is committed may be from the old
// topic.
func (o *positions) restartClaim(s *session, p partition, at int64) (restarted bool, err error) {
	from, ok := o.restarts.Pending(p)
	if !ok {
		return s.isRestarted(p), nil
	}
	begins, err := o.allBeginnings([]partition{p})
	if err != nil {
		return false, err
	}
	begin, ok := begins[p]
	if !ok {
		return true, nil
	}
	if err := o.pin(s, p, begin); err != nil {
		return false, err
	}
	o.restarted(p, from, begin)
	if at >= 0 && at != begin {
		return false, recreated(p.Topic)
	}
	return true, nil
}
