package kafka_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// The core allocates nothing per record for a handler of values, and for a handler of
// messages one allocation per 32 of them. What it allocates per fetch and per commit is
// far below one object per ten records.
func TestRecordsCostNoAllocation(t *testing.T) {
	most := map[string]float64{"value": 0.01, "message": 0.05, "batch": 0.05}
	for _, kind := range handlerKinds {
		assert.Less(t, objectsPerRecord(t, consumerConfig(), kind.of), most[kind.name], "objects per record, %s", kind.name)
	}
}

// Nor does it where several records of a partition are handled at once. A handler of
// messages has one allocation per record there, since a lane takes one at a time.
func TestRecordsOfACrewCostNoAllocation(t *testing.T) {
	most := map[string]float64{"value": 0.05, "message": 1.05}
	for _, order := range []kafka.Order{kafka.OrderByKey, kafka.OrderNone} {
		for _, kind := range handlerKinds[:2] {
			cfg := consumerConfig()
			cfg.Order, cfg.Parallelism = order, 4
			assert.Less(t, objectsPerRecord(t, cfg, kind.of), most[kind.name], "objects per record, %v, %s", order, kind.name)
		}
	}
}

// objectsPerRecord returns how many objects a consumer allocates per record.
func objectsPerRecord(t *testing.T, cfg kafka.ConsumerConfig, of func(*counter) kafka.Consumer) float64 {
	t.Helper()
	const n = 200_000
	d := prepare(n, n, 500)
	for _, b := range d.batches {
		for i := range b.Records {
			b.Records[i].Key = b.Records[i].Value[:1+i%50]
		}
	}
	m := newManager(t, d)
	c := &counter{cfg: cfg, want: n, all: make(chan struct{})}
	require.NoError(t, m.RegisterConsumer(t.Context(), of(c)))
	require.NoError(t, m.SetConsumerSwitch("bench", true))
	before := objects()
	require.NoError(t, m.StartAllConsumers(context.Background()))
	<-c.all
	return float64(objects()-before) / n
}

// objects returns how many objects the process has allocated.
func objects() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Mallocs
}
