package sarama

import (
	"maps"
	"slices"
	"time"
)

// The leader of a group assigns the topics of all members. Sarama gives up if one of them
// cannot be looked up: a topic that another member subscribes to, and that does not exist,
// has an illegal name, or that only that member may read, would keep the whole group from
// any assignment. Here such a topic has no partitions.

// sort separates the topics that this member has subscribed to from those that only other
// members have.
func (s *splitClient) sort(topics []string) (ours, others []string) {
	for _, topic := range topics {
		if s.topics.isSubscribed(topic) {
			ours = append(ours, topic)
		} else {
			others = append(others, topic)
		}
	}
	return ours, others
}

// lookAt looks up topics of other members. Without an answer the earlier one holds.
func (s *splitClient) lookAt(topics []string) {
	broker := s.Client.LeastLoadedBroker()
	if broker == nil {
		return
	}
	found, err := askTopics(broker, s.version, topics)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked = time.Now()
	if err != nil {
		return
	}
	if s.foreign == nil {
		s.foreign = map[string][]int32{}
	}
	for _, topic := range topics {
		s.foreign[topic] = found.topics[topic].partitions
	}
}

// Partitions implements Sarama's Client.
func (s *splitClient) Partitions(topic string) ([]int32, error) {
	if s.topics.isSubscribed(topic) {
		return s.Client.Partitions(topic)
	}
	s.mu.Lock()
	known := slices.Collect(maps.Keys(s.foreign))
	old := time.Since(s.looked) >= newPartitionLook/2
	s.mu.Unlock()
	if old {
		s.lookAt(append(known, topic))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.foreign[topic], nil
}
