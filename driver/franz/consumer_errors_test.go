package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestFault_D4_OutOfRangeNamesThePlace: with the default policy, the error names the
// position and the log that does not hold it.
func TestFault_D4_OutOfRangeNamesThePlace(t *testing.T) {
	t.Parallel()
	h, _ := fakeHarness(t)
	seed(t, h.brokers, "t", 0, numbered(0, 20)...)
	cfg := consumerConfig(h.brokers)
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.waitRecords(t, 20)
	require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 3}}))
	m.stop(t)
	require.NoError(t, h.Truncate(t.Context(), "t", 0, 10))

	again := start(t, Driver{}, cfg, newRecorder())
	err := again.ranOut(t)
	wantError(t, err, "OFFSET_OUT_OF_RANGE", true)
	assert.ErrorContains(t, err, "t/0: offset 3, the log holds [10, 20)")
}

// TestFault_E5_NewPartitionsAreNoticed: a consumer notices new partitions within a
// minute, with an eager and with a cooperative strategy.
func TestFault_E5_NewPartitionsAreNoticed(t *testing.T) {
	testkit.Slow(t, "waits for up to a minute")
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			h, _ := fakeHarness(t)
			cfg := consumerConfig(h.brokers)
			cfg.BalanceStrategies = []driver.BalanceStrategy{strategy}
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			began := time.Now()
			require.NoError(t, h.AddPartitions(t.Context(), "t", 3))
			r.waitFor(t, time.Minute, "the new partitions", func() bool { return len(r.live) == 3 })
			t.Logf("noticed after %v", time.Since(began))
		})
	}
}
