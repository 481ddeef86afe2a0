package sarama

import (
	"errors"
	"slices"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// unknownTopicWait is how long a topic that was never seen may stay unknown:
	// it may just have been created. Other topics of the producer wait with it.
	unknownTopicWait = time.Second

	// unreachableWait is the same for a cluster that can not be reached.
	unreachableWait = 5 * time.Second

	askAgain = 100 * time.Millisecond
)

// A metadataClient is the client of a producer. When the cluster does not say
// where a partition is led, it says where it was led before.
//
// Sarama's producer fails a message as soon as metadata can not be had, whatever
// retries the message has left, and after three of these a circuit breaker fails
// all messages of the topic or partition for ten seconds: so a broker that was
// away for 4 s failed messages for 13 s. A message that is sent to where the
// partition was led is refused instead, or finds no connection, and that is what
// Sarama retries as often and at the distance that the user has asked for. That
// holds also for what does not pass by itself, such as a password that has been
// changed: the breaker would hide the reason, and outlast the cure.
type metadataClient struct {
	ibm.Client
	line *line

	mu         sync.Mutex // guards what follows
	partitions map[string][]int32
	leaders    map[partition]*ibm.Broker
	reason     error // why no broker could be asked, if that is for good
}

func newMetadataClient(client ibm.Client, l *line) *metadataClient {
	return &metadataClient{
		Client: client, line: l,
		partitions: map[string][]int32{}, leaders: map[partition]*ibm.Broker{},
	}
}

// RefreshMetadata implements Sarama's Client. What passes is no error, nor is what
// concerns topics that have been seen: Leader deals with it.
func (m *metadataClient) RefreshMetadata(topics ...string) error {
	err := m.Client.RefreshMetadata(topics...)
	m.note(err)
	if patience(err) > 0 || err != ibm.ErrClosedClient && m.knowsAll(topics) {
		return nil
	}
	return err
}

// note keeps why no broker could be asked until one has answered. That none could
// be reached tells nothing: Sarama says so at each attempt but the first. What an
// answer says of topics is said of these only.
func (m *metadataClient) note(err error) {
	reason := wrap(err)
	switch {
	case isCode(reason, ibm.ErrTopicAuthorizationFailed, ibm.ErrInvalidTopic):
		reason = nil
	case reason == nil, isPermanent(reason):
	case len(kafkaErrors(err)) == 0:
		return
	default: // an answer
		reason = nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = reason
}

// blame returns err with why the brokers can not be reached, where Sarama says
// only that they are not.
func (m *metadataClient) blame(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reason == nil || len(kafkaErrors(err)) > 0 {
		return err
	}
	return errors.Join(err, m.reason)
}

func (m *metadataClient) knowsAll(topics []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(topics) > 0 && !slices.ContainsFunc(topics, func(topic string) bool {
		_, ok := m.partitions[topic]
		return !ok
	})
}

// Partitions implements Sarama's Client.
func (m *metadataClient) Partitions(topic string) ([]int32, error) {
	return m.list(topic, m.Client.Partitions)
}

// WritablePartitions implements Sarama's Client.
func (m *metadataClient) WritablePartitions(topic string) ([]int32, error) {
	return m.list(topic, func(topic string) ([]int32, error) {
		ids, err := m.Client.WritablePartitions(topic)
		if err == nil && len(ids) == 0 { // all wait for a leader
			return m.Client.Partitions(topic)
		}
		return ids, err
	})
}

func (m *metadataClient) list(topic string, ask func(string) ([]int32, error)) ([]int32, error) {
	return persist(m, func() ([]int32, error) {
		ids, err := ask(topic)
		m.mu.Lock()
		defer m.mu.Unlock()
		known, ok := m.partitions[topic]
		switch {
		case err == nil && !same(known, ids): // Sarama asks for each message
			m.partitions[topic] = ids
		case err != nil && err != ibm.ErrClosedClient && ok:
			return known, nil
		}
		return ids, err
	})
}

// same reports whether a and b are one slice.
func same(a, b []int32) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}

// Leader implements Sarama's Client.
func (m *metadataClient) Leader(topic string, id int32) (*ibm.Broker, error) {
	return persist(m, func() (*ibm.Broker, error) {
		leader, err := m.Client.Leader(topic, id)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil {
			m.leaders[partition{topic, id}] = leader
		} else if known, ok := m.leaders[partition{topic, id}]; ok && err != ibm.ErrClosedClient {
			return known, nil
		}
		return leader, err
	})
}

// persist calls ask until it succeeds, fails for good, or takes too long.
func persist[T any](m *metadataClient, ask func() (T, error)) (T, error) {
	var failing time.Time // since when
	for {
		answer, err := ask()
		if err == nil || m.line.ctx.Err() != nil {
			return answer, err
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if time.Since(failing) >= patience(err) {
			return answer, err
		}
		m.line.wait(askAgain)
	}
}

// patience is how long err, of a request for metadata, may be waited for to
// pass. It is zero for what does not.
func patience(err error) time.Duration {
	code, kind := classify(err)
	switch {
	case err == nil, kind == driver.ErrPermanent, err == ibm.ErrClosedClient:
		return 0
	case code == "UNKNOWN_TOPIC_OR_PARTITION":
		return unknownTopicWait
	}
	return unreachableWait
}
