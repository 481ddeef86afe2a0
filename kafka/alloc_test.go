package kafka_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The core allocates nothing per record for a handler of values, and for a handler of
// messages one allocation per 32 of them. What it allocates per fetch and per commit is
// far below one object per ten records.
func TestRecordsCostNoAllocation(t *testing.T) {
	const n = 200_000
	most := map[string]float64{"value": 0.01, "message": 0.05, "batch": 0.05}
	for _, kind := range handlerKinds {
		d := prepare(n, n, 500)
		m := newManager(t, d)
		c := &counter{cfg: consumerConfig(), want: n, all: make(chan struct{})}
		require.NoError(t, m.RegisterConsumer(t.Context(), kind.of(c)))
		require.NoError(t, m.SetConsumerSwitch("bench", true))
		before := objects()
		require.NoError(t, m.StartAllConsumers(context.Background()))
		<-c.all
		assert.Less(t, float64(objects()-before)/n, most[kind.name], "objects per record, %s", kind.name)
	}
}

// objects returns how many objects the process has allocated.
func objects() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Mallocs
}
