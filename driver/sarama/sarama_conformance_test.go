package sarama

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestConformance(t *testing.T) {
	budget := testkit.Budget{Total: 4 * time.Second} // of more than a minute
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		budget.Spend(t)
		h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
		h.settings = drivertest.Settings{
			SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second,
			Patience: 15 * time.Second,
		}
		return h
	})
}

// TestRealConformance runs on one broker, or on as many as GOPKG_BROKERS says.
func TestRealConformance(t *testing.T) {
	brokers := 1
	if text := os.Getenv("GOPKG_BROKERS"); text != "" {
		var err error
		brokers, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	h, _ := realHarness(t, brokers)
	drivertest.Run(t, func(*testing.T) drivertest.Harness { return h })
}
