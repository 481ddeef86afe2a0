package memory

import (
	"context"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// FindOffsets implements driver.OffsetFinder.
func (v *groupView) FindOffsets(ctx context.Context, of map[string][]int32, t time.Time) (all []driver.FoundOffsets, err error) {
	err = v.ask(ctx, func() error {
		for _, topic := range v.topics {
			if numbers, asked := of[topic]; asked {
				all = append(all, v.b.find(topic, numbers, t)...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// find looks offsets up in some partitions of a topic, or in all.
func (b *Broker) find(topic string, numbers []int32, t time.Time) (all []driver.FoundOffsets) {
	if err := b.topicError(topic); err != nil {
		return []driver.FoundOffsets{{Topic: topic, Partition: -1, Begin: -1, End: -1, At: -1, Err: err}}
	}
	for i, l := range b.topics[topic].partitions {
		if len(numbers) == 0 || slices.Contains(numbers, int32(i)) {
			all = append(all, driver.FoundOffsets{Topic: topic, Partition: int32(i), Begin: l.start, End: l.end, At: l.at(t)})
		}
	}
	for _, n := range slices.Sorted(slices.Values(numbers)) {
		if b.log(TopicPartition{topic, n}) == nil {
			all = append(all, driver.FoundOffsets{Topic: topic, Partition: n, Begin: -1, End: -1, At: -1, Err: errUnknownPartition(topic, n)})
		}
	}
	return all
}

// at returns the offset of the first record that is not older than t, or the end. Like
// Kafka it compares milliseconds.
func (l *partitionLog) at(t time.Time) int64 {
	if t.Before(time.Unix(0, 0)) {
		return l.start
	}
	from := t.UnixMilli()
	if time.UnixMilli(from).Before(t) {
		from++
	}
	for _, s := range l.segments {
		for i := range s.records {
			if s.records[i].Timestamp.UnixMilli() >= from {
				return s.records[i].Offset
			}
		}
	}
	return l.end
}
