package franz

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// TestMissingPartitionIsKnownWithoutAText: the driver has found that there is no such partition.
// It does not learn that from the text of kgo's error.
func TestMissingPartitionIsKnownWithoutAText(t *testing.T) {
	cfg := producerConfig(fake(t).ListenAddrs())
	cfg.DeliveryTimeout = patienceTest
	p := openProducer(t, cfg)
	topic := p.topic("t")
	s := &slot{topic: topic, want: 3, accepted: time.Now()}
	s.rec.Context = s
	require.Equal(t, -1, asked{p}.ForTopic("t").Partition(&s.rec, 1))
	assert.Empty(t, topic.strand(s, errors.New("another text")))
	topic.gate.RLock()
	defer topic.gate.RUnlock()
	assert.Equal(t, []*slot{s}, topic.missing[3].todo, "what waits for the partition")
}

// TestNoTaskStartsOnceTasksAreStopped: a message that comes back while the producer closes begins
// no search for its partition.
func TestNoTaskStartsOnceTasksAreStopped(t *testing.T) {
	p := newProducer(driver.ProducerConfig{MaxRetries: 3})
	p.stopTasks()
	topic := p.topic("t")
	s := &slot{topic: topic, want: 3}
	assert.Equal(t, []ending{{s, abandonedUnsent}}, topic.miss(s))
	assert.Empty(t, topic.missing)
}
