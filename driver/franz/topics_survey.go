package franz

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

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

// partitions returns all partitions of topics that can be read.
func (s survey) partitions(topics []string) (all []partition) {
	for _, topic := range topics {
		for _, id := range s.topics[topic].partitions {
			all = append(all, partition{Topic: topic, ID: id})
		}
	}
	return all
}

// askTopics asks b for topics. A topic that cannot be read is no error.
func askTopics(ctx context.Context, b *kgo.Broker, topics []string) (survey, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation, req.IncludeTopicAuthorizedOperations = false, true
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	answer, err := b.Request(ctx, req)
	if err != nil {
		return survey{}, err
	}
	resp := answer.(*kmsg.MetadataResponse)
	s := survey{topics: map[string]topicState{}}
	if resp.ClusterID != nil {
		s.cluster = *resp.ClusterID
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil {
			continue
		}
		state := topicState{id: t.TopicID, err: topicError(t, resp.Version)}
		for _, p := range t.Partitions {
			state.partitions = append(state.partitions, p.Partition)
		}
		slices.Sort(state.partitions)
		s.topics[*t.Topic] = state
	}
	return s, nil
}

// topicError returns why t cannot be read. A member may be allowed to describe a topic
// and not to read it; a broker answers that only if it is asked for it (KIP-430).
func topicError(t *kmsg.MetadataResponseTopic, version int16) error {
	const describe, read = 1 << 8, 1 << 3
	err := kerr.ErrorForCode(t.ErrorCode)
	switch ops := t.AuthorizedOperations; {
	case err == kerr.LeaderNotAvailable: // of one of its partitions
		return nil
	case err != nil:
		return err
	case version >= 8 && ops > 0 && ops&describe != 0 && ops&read == 0:
		return kerr.TopicAuthorizationFailed
	}
	return nil
}
