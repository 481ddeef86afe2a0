package sarama

import (
	"errors"
	"time"

	ibm "github.com/IBM/sarama"
)

const (
	// outageBudget is how long a message waits for a cluster that can not be
	// reached, or for a partition without a leader, before it is sent.
	outageBudget = time.Minute

	// unknownBudget is how long a topic may stay unknown: it may just have been
	// created.
	unknownBudget = 3 * time.Second

	refreshInterval = 100 * time.Millisecond
)

// A metadataClient is the client of a producer. It waits out what will pass.
//
// Sarama's producer fails a message as soon as metadata can not be refreshed,
// whatever retries it has left, and after three of these a circuit breaker fails
// all messages of the topic or partition for ten seconds: an outage of 4 s
// failed messages for 13 s. So no refresh fails here before it is hopeless.
type metadataClient struct {
	ibm.Client
	line *line
}

// RefreshMetadata implements Sarama's Client.
func (m *metadataClient) RefreshMetadata(topics ...string) error {
	return m.persist(func() error { return m.Client.RefreshMetadata(topics...) })
}

// Partitions implements Sarama's Client.
func (m *metadataClient) Partitions(topic string) (ids []int32, err error) {
	err = m.persist(func() error {
		ids, err = m.Client.Partitions(topic)
		return err
	})
	return ids, err
}

// WritablePartitions implements Sarama's Client.
func (m *metadataClient) WritablePartitions(topic string) (ids []int32, err error) {
	err = m.persist(func() error {
		if ids, err = m.Client.WritablePartitions(topic); err == nil && len(ids) == 0 {
			err = errors.Join(ibm.ErrLeaderNotAvailable, m.Client.RefreshMetadata(topic))
		}
		return err
	})
	return ids, err
}

// Leader implements Sarama's Client.
func (m *metadataClient) Leader(topic string, id int32) (leader *ibm.Broker, err error) {
	err = m.persist(func() error {
		leader, err = m.Client.Leader(topic, id)
		return err
	})
	return leader, err
}

// persist calls ask until it succeeds, fails for good, or takes too long.
func (m *metadataClient) persist(ask func() error) error {
	began := time.Now()
	for {
		err := ask()
		if err == nil || time.Since(began) >= patience(err) {
			return err
		}
		m.line.wait(refreshInterval)
	}
}

// patience is how long err is worth waiting for.
func patience(err error) time.Duration {
	code, kind := classify(err)
	switch {
	case kind != nil, errors.Is(err, errSevered), errors.Is(err, ibm.ErrClosedClient):
		return 0
	case code == "UNKNOWN_TOPIC_OR_PARTITION":
		return unknownBudget
	}
	return outageBudget
}
