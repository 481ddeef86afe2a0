package sarama

import (
	"context"
	"fmt"
	"maps"
	"slices"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// hold keeps the position of cl, which ends, for the case that its topic was created again.
func (o *positions) hold(cl *claim) {
	o.restarts.Hold(o.topics.known, cl.era, cl.where, cl.position())
}

// forget drops the positions that were held in topics: another member that holds a partition
// from now on restarts it.
func (o *positions) forget(topics []string) { o.restarts.Forget(topics...) }

// begin restarts the topics that were created again, in which claims were live.
func (o *positions) begin(changed map[string]bool, claims []*claim) {
	at := map[partition]int64{}
	for _, cl := range claims {
		at[cl.where] = cl.position()
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
	o.core.report(&driver.Error{Code: gap.ErrorType(), Err: gap})
}

// restartHeld makes beginnings durable, between two sessions, for the partitions that the
// member held in the last one. So a process that joins now, and knows nothing of the old
// topic, starts there. If the group has gone on without this member, that is done at the
// assignment.
func (o *positions) restartHeld(ctx context.Context, asOf incarnation.Eras, topics []string) error {
	froms, by := o.restarts.Held(topics), o.membership.last()
	if len(froms) == 0 {
		return nil
	}
	begins, err := o.beginnings(slices.Collect(maps.Keys(froms)))
	if err != nil {
		return err
	}
	if len(begins) == 0 {
		return nil
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
// leader that does not know the new topic yet would answer for the old one.
func (o *positions) beginnings(partitions []partition) (map[partition]int64, error) {
	var topics []string
	for _, p := range partitions {
		if !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	if err := o.refresh(topics...); err != nil {
		return nil, err
	}
	kept, brokers, err := o.leaders.existing(partitions)
	if err != nil {
		return nil, err
	}
	for _, leader := range brokers {
		s, err := askTopics(leader, o.leaders.conf.Version, topics)
		if err != nil {
			return nil, err
		}
		for _, topic := range topics {
			if !o.topics.known.Holds(topic, o.topics.known.Era(topic), s.topics[topic].id) {
				return nil, recreated(topic)
			}
		}
	}
	return o.leaders.all(kept, ibm.OffsetOldest)
}

// restartAssigned makes beginnings durable for the partitions that have been assigned,
// before Sarama starts the claims.
func (o *positions) restartAssigned(s *session) error {
	froms := map[partition]int64{}
	for _, p := range s.assigned() {
		if from, ok := o.restarts.Pending(p); ok {
			froms[p] = from
		}
	}
	if len(froms) == 0 {
		return nil
	}
	partitions := slices.Collect(maps.Keys(froms))
	begins, err := o.beginnings(partitions)
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
// if that is not the beginning.
func (o *positions) restartClaim(s *session, p partition, at int64) error {
	from, ok := o.restarts.Pending(p)
	if !ok {
		return nil
	}
	begins, err := o.beginnings([]partition{p})
	if err != nil {
		return err
	}
	begin, ok := begins[p]
	if !ok {
		return nil
	}
	if err := o.pin(s, p, begin); err != nil {
		return err
	}
	o.restarted(p, from, begin)
	if at >= 0 && at != begin {
		return recreated(p.Topic)
	}
	return nil
}
