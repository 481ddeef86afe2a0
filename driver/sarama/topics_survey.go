package sarama

import (
	"slices"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

// A survey is what one broker knows of the consumer's topics.
type survey struct {
	cluster string
	topics  map[string]topicState
}

type topicState struct {
	err        error          // why it cannot be read
	id         incarnation.ID // zero if the broker does not know IDs
	partitions []int32
}

// ids returns the IDs of the topics.
func (s survey) ids() map[string]incarnation.ID {
	ids := map[string]incarnation.ID{}
	for name, t := range s.topics {
		ids[name] = t.id
	}
	return ids
}

// askTopics asks b for topics. A topic that cannot be read is no error.
func askTopics(b *ibm.Broker, version ibm.KafkaVersion, topics []string) (survey, error) {
	req := ibm.NewMetadataRequest(version, topics)
	req.IncludeTopicAuthorizedOperations = true
	resp, err := b.GetMetadata(req)
	if err != nil {
		return survey{}, err
	}
	s := survey{topics: map[string]topicState{}}
	if resp.ClusterID != nil {
		s.cluster = *resp.ClusterID
	}
	for _, t := range resp.Topics {
		state := topicState{id: incarnation.ID(t.Uuid)}
		if t.Err != ibm.ErrLeaderNotAvailable {
			state.err = topicError(t, resp.Version)
		}
		for _, p := range t.Partitions {
			state.partitions = append(state.partitions, p.ID)
		}
		slices.Sort(state.partitions)
		s.topics[t.Name] = state
	}
	return s, nil
}

// topicError returns why t cannot be read. A member may be allowed to describe a topic
// and not to read it; a broker answers that only if it is asked for it (KIP-430).
func topicError(t *ibm.TopicMetadata, version int16) error {
	const describe, read = 1 << 8, 1 << 3
	switch ops := t.TopicAuthorizedOperations; {
	case t.Err != ibm.ErrNoError:
		return t.Err
	case version >= 8 && ops > 0 && ops&describe != 0 && ops&read == 0:
		return ibm.ErrTopicAuthorizationFailed
	}
	return nil
}
