package franz

import (
	"context"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

const fewBytes = 64 << 10

// largest counts the batches of one message, and notes how many bytes the largest of the others
// has.
type largest struct{ bytes, alone, together atomic.Int64 }

func (l *largest) watch(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				if recordsIn(p.Records) == 1 {
					l.alone.Add(1)
					continue
				}
				l.together.Add(1)
				l.bytes.Store(max(l.bytes.Load(), int64(len(p.Records))))
			}
		}
		return nil, nil, false
	})
}

// TestMaxBatchBytes: MaxBatchBytes bounds batches of several messages, and lets a larger message
// go alone.
func TestMaxBatchBytes(t *testing.T) {
	for name, adapt := range splitVariants() {
		t.Run(name, func(t *testing.T) {
			h, cluster := fakeHarness(t)
			require.NoError(t, h.CreateTopicWith(t.Context(), "large", 2, map[string]string{"max.message.bytes": "4194304"}))
			var seen largest
			seen.watch(cluster)
			cfg := producerConfig(h.brokers)
			adapt(&cfg)
			cfg.MaxMessageBytes, cfg.MaxBatchBytes = 10<<20, fewBytes
			p := openProducer(t, cfg)
			messages := sized("large", 500, 1000)
			messages[250].Value = append(messages[250].Value, make([]byte, 2<<20)...)
			wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), "")
			assert.LessOrEqual(t, seen.bytes.Load(), int64(fewBytes), "bytes of the largest batch")
			assert.Greater(t, seen.bytes.Load(), int64(fewBytes/2), "bytes of the largest batch")
			assert.Less(t, seen.together.Load(), int64(100), "batches of 500 messages: 64 fit in one")
			assert.Less(t, seen.alone.Load(), int64(50), "messages that went alone")
		})
	}
}

// TestMaxBatchBytesOfMessagesSentAgain: what is sent again, since the topic takes less, and what
// has waited for a partition that was missing goes in bounded batches, too.
func TestMaxBatchBytesOfMessagesSentAgain(t *testing.T) {
	h, cluster := fakeHarness(t)
	require.NoError(t, h.CreateTopicWith(t.Context(), "small", 1, map[string]string{"max.message.bytes": "20000"}))
	var seen largest
	seen.watch(cluster)
	cfg := producerConfig(h.brokers)
	cfg.MaxBatchBytes, cfg.DeliveryTimeout = fewBytes, patienceTest
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("small", 1, 1)[0]))
	late := sized("small", 300, 1000)
	for _, m := range late {
		m.Partition = 1
	}
	missing := hand(t, p, late...)
	there := hand(t, p, sized("small", 300, 1000)...)
	require.NoError(t, h.AddPartitions(t.Context(), "small", 2))
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i, m := range late {
		assert.Equal(t, []error{nil}, there.of(i))
		assert.Equal(t, []error{nil}, missing.of(i))
		assert.Equal(t, int64(i), m.Offset)
	}
	assert.LessOrEqual(t, seen.bytes.Load(), int64(fewBytes), "bytes of the largest batch")
	assert.Greater(t, seen.bytes.Load(), int64(20_000), "bytes of the largest batch, which was refused")
}

// bounded is the driver with a bound of a few messages per batch, unless a case sets another.
type bounded struct{ Driver }

func (d bounded) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	if cfg.MaxBatchBytes == 0 {
		cfg.MaxBatchBytes = 2_000
	}
	return d.Driver.OpenProducer(ctx, cfg)
}

type boundedHarness struct{ *harness }

func (boundedHarness) Driver() driver.Driver { return bounded{} }

// TestConformanceWithBoundedBatches runs the cases of producers: one batch per partition at a time
// is another way through the driver.
func TestConformanceWithBoundedBatches(t *testing.T) {
	testkit.Slow(t, "runs the cases of producers once more")
	ofProducers := regexp.MustCompile("^(Produce|Ack|Flush|DeliveryTimeout|LostAnswer|NoAck)")
	for _, c := range drivertest.Cases() {
		if !ofProducers.MatchString(c.Name) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
			h.settings = drivertest.Settings{SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second, Patience: time.Minute}
			c.Run(t, boundedHarness{h})
		})
	}
}
