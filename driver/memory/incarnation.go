package memory

import (
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// errOrphaned ends a generation because the topics of claims were deleted, or because a
// topic exists again whose claims were lost.
var errOrphaned = errors.New("a topic was deleted")

// orphaned reports whether the claim's topic was deleted. A topic that has its name now
// is another topic.
func (k *claim) orphaned() bool { return k.b.log(k.partition()) != k.log }

// A topicHistory is what a consumer remembers of its topics. The broker's mutex guards it.
type topicHistory struct {
	b      *Broker
	topics []string

	known    map[string]int            // by topic: the ID for which the consumer has joined last
	buried   []grave                   // not yet reported
	unplaced []*driver.NoPositionError // not yet reported
}

// A grave is the position of the group in a partition of a deleted topic.
type grave struct {
	TopicPartition
	position int64
}

// remember notes which incarnations of its topics the consumer has joined for.
func (h *topicHistory) remember() {
	for _, topic := range h.topics {
		h.known[topic] = h.b.topicID(topic)
	}
}

// outlived reports whether the consumer joined for the topic's name before this
// incarnation was created. Then all of its records are later than the group, even if the
// group has ended since.
func (h *topicHistory) outlived(topic string) bool {
	id, joined := h.known[topic]
	return joined && id != h.b.topicID(topic)
}

// placed notes that the group starts at an offset without a position. That is reported if
// the start skips records.
func (h *topicHistory) placed(tp TopicPartition, start int64, l *partitionLog) {
	if start > l.start {
		h.unplaced = append(h.unplaced, &driver.NoPositionError{
			Topic: tp.Topic, Partition: tp.Partition, Start: start, Begin: l.start,
		})
	}
}

// takeUnplaced returns the starts that are not yet reported.
func (h *topicHistory) takeUnplaced() []*driver.NoPositionError {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	starts := h.unplaced
	h.unplaced = nil
	return starts
}

// bury notes the positions of claims whose topic was deleted before they end.
func (h *topicHistory) bury(ks []*claim) {
	for _, k := range ks {
		if k.orphaned() {
			h.buried = append(h.buried, grave{k.partition(), k.committed.offset})
		}
	}
}

// reborn returns the gaps of the deleted topics that exist again.
func (h *topicHistory) reborn() (gaps []*driver.DataLossError) {
	for _, g := range h.buried {
		if h.b.topics[g.Topic] == nil {
			continue
		}
		gap := &driver.DataLossError{
			Topic: g.Topic, Partition: g.Partition, From: g.position, Recreated: true, Begin: -1, End: -1,
		}
		if l := h.b.log(g.TopicPartition); l != nil {
			gap.To, gap.Begin, gap.End = l.start, l.start, l.end
		}
		gaps = append(gaps, gap)
	}
	return gaps
}

// takeReborn returns the gaps that are not yet reported. The group's positions in the new
// topics are durable then: whichever member reads these partitions next starts there, even
// if it knows nothing of the old topics and retention removes records before that.
func (h *topicHistory) takeReborn(place *membership) []*driver.DataLossError {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	gaps := h.reborn()
	if place.mayCommit() == nil {
		for _, gap := range gaps {
			place.g.begin(TopicPartition{gap.Topic, gap.Partition})
		}
	}
	h.buried = slices.DeleteFunc(h.buried, func(g grave) bool { return h.b.topics[g.Topic] != nil })
	return gaps
}

// missing returns the errors of topics that do not exist or may not be read.
func (h *topicHistory) missing() (errs []*driver.PartitionError) {
	for _, topic := range h.topics {
		if err := h.b.topicError(topic); err != nil {
			errs = append(errs, errTopic(topic, err))
		}
	}
	return errs
}

// deletion returns the reason why the claims of a deleted topic are lost.
func (b *Broker) deletion(topic string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[topic] == nil {
		return errUnknownTopic(topic)
	}
	return fail("INCONSISTENT_TOPIC_ID", "topic %q was created again", topic)
}
