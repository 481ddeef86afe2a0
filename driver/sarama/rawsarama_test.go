package sarama

import (
	"context"
	"sync"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A rawMember is a consumer as Sarama's users write it, with Sarama's defaults.
type rawMember struct {
	group ibm.ConsumerGroup
	stop  context.CancelFunc
	runs  sync.WaitGroup

	mu   sync.Mutex
	live map[partition]bool
}

func startRaw(t *testing.T, brokers []string, group string, topics ...string) *rawMember {
	t.Helper()
	conf := ibm.NewConfig()
	conf.MetricRegistry = newNoMetrics()
	conf.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	cg, err := ibm.NewConsumerGroup(brokers, group, conf)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &rawMember{group: cg, stop: stop, live: map[partition]bool{}}
	r.runs.Go(func() {
		for ctx.Err() == nil {
			if err := cg.Consume(ctx, topics, r); err != nil {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		}
	})
	t.Cleanup(func() { r.close(t) })
	return r
}

func (r *rawMember) close(t *testing.T) {
	r.stop()
	r.runs.Wait()
	assert.NoError(t, r.group.Close(), "the raw member")
}

func (r *rawMember) claims() (ps []partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.live {
		ps = append(ps, p)
	}
	return ps
}

func (r *rawMember) waitClaims(t *testing.T, n int) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		assert.Len(t, r.claims(), n, "claims of the raw member")
	}, patienceTest, 10*time.Millisecond)
}

func (r *rawMember) Setup(ibm.ConsumerGroupSession) error   { return nil }
func (r *rawMember) Cleanup(ibm.ConsumerGroupSession) error { return nil }

func (r *rawMember) ConsumeClaim(sess ibm.ConsumerGroupSession, claim ibm.ConsumerGroupClaim) error {
	p := partition{Topic: claim.Topic(), ID: claim.Partition()}
	r.mu.Lock()
	r.live[p] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.live, p)
		r.mu.Unlock()
	}()
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			sess.MarkMessage(m, "")
		case <-sess.Context().Done():
			return nil
		}
	}
}
