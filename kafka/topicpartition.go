package kafka

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

// A TopicPartition names one partition of one topic. Its text is topic/partition, such
// as "orders/3", also in JSON.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// keyOf returns the partition that a claim is on.
func keyOf(c *driver.Claim) TopicPartition { return TopicPartition{c.Topic, c.Partition} }

// String returns topic/partition.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// MarshalText returns what String does.
func (tp TopicPartition) MarshalText() ([]byte, error) { return []byte(tp.String()), nil }

// UnmarshalText takes topic/partition, with a legal name of a topic and a number
// from 0; any other text is an error.
func (tp *TopicPartition) UnmarshalText(text []byte) error {
	topic, number, found := strings.Cut(string(text), "/")
	if !found {
		return fmt.Errorf("partition %s is not of the form topic/partition", quote(string(text)))
	}
	if err := validTopic(topic); err != nil {
		return fmt.Errorf("partition %s: topic: %w", quote(string(text)), err)
	}
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || strconv.FormatInt(n, 10) != number || n < 0 {
		return fmt.Errorf("partition %s: %s is not a number from 0 to %d", quote(string(text)), quote(number), 1<<31-1)
	}
	*tp = TopicPartition{topic, int32(n)}
	return nil
}

// compare orders by topic, then by partition.
func (tp TopicPartition) compare(other TopicPartition) int {
	return cmp.Or(cmp.Compare(tp.Topic, other.Topic), cmp.Compare(tp.Partition, other.Partition))
}

// topicPartitions returns which partitions parts are.
func topicPartitions(parts []*partition) []TopicPartition {
	var all []TopicPartition
	for _, p := range parts {
		all = append(all, keyOf(p.claim))
	}
	return all
}
