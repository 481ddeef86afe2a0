package sarama

import (
	"maps"
	"slices"
	"time"
)

// The leader of a group assigns the topics of all members. Sarama gives up if one of
// them cannot be looked up: a topic that another member subscribes to, that does not
// exist, has an illegal name, or that only that member may read, would keep the
// whole group from any assignment. Here such a topic has no partitions.

// sort tells the topics that this member has subscribed to from those that only
// others have.
func (s *splitClient) sort(topics []string) (ours, others []string) {
	for _, topic := range topics {
		if s.c.topics.isSubscribed(topic) {
			ours = append(ours, topic)
		} else {
			others = append(others, topic)
		}
	}
	return ours, others
}

// lookAbroad looks topics of other members up. Without an answer what was known
// holds.
func (s *splitClient) lookAbroad(topics []string) {
	broker := s.Client.LeastLoadedBroker()
	if broker == nil {
		return
	}
	found, err := askTopics(broker, s.c.conf.Version, topics)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked = time.Now()
	if err != nil {
		return
	}
	if s.abroad == nil {
		s.abroad = map[string][]int32{}
	}
	for _, topic := range topics {
		s.abroad[topic] = found.topics[topic].partitions
	}
}

// Partitions implements Sarama's Client.
func (s *splitClient) Partitions(topic string) ([]int32, error) {
	if s.c.topics.isSubscribed(topic) {
		return s.Client.Partitions(topic)
	}
	s.mu.Lock()
	known := slices.Collect(maps.Keys(s.abroad))
	old := time.Since(s.looked) >= newPartitionLook/2
	s.mu.Unlock()
	if old {
		s.lookAbroad(append(known, topic))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abroad[topic], nil
}
