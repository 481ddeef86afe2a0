package franz

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestConformance(t *testing.T) {
	budget := testkit.Budget{Total: 4 * time.Second} // of more than a minute
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		sideBySide(t)
		budget.Spend(t)
		h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
		h.settings = drivertest.Settings{
			SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second,
			Patience: time.Minute, // one case leaves 20,000 messages to be sent, also under the race detector
		}
		return h
	})
}

// sideBySide lets a case run in parallel with others, unless it counts the goroutines of
// the process. For the sake of that one no other test may run beside the suites.
func sideBySide(t *testing.T) {
	if !strings.HasSuffix(t.Name(), "CloseLeavesNothingBehind") {
		t.Parallel()
	}
}

// conformanceClusters is how many clusters TestRealConformance spreads its cases over:
// a case that cuts the brokers off, or stalls them, needs one alone.
const conformanceClusters = 3

func TestRealConformance(t *testing.T) {
	testkit.DriversTurn(t, "franz")
	realConformance(t, nil, func(h *harness) drivertest.Harness { return h })
}

// realConformance runs the suite on clusters of one broker, or on one of as many as
// GOPKG_BROKERS says, with properties of the brokers.
func realConformance(t *testing.T, properties map[string]string, of func(*harness) drivertest.Harness) {
	brokers := 1
	if text := os.Getenv("GOPKG_BROKERS"); text != "" {
		var err error
		brokers, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	clusters := conformanceClusters
	if brokers > 1 {
		clusters = 1
	}
	free := make(chan *harness, clusters)
	for range clusters {
		h, _ := realHarness(t, kafkacluster.Config{Brokers: brokers, Properties: properties})
		h.settings.Patience = time.Minute // three brokers are slow on two cores
		free <- h
	}
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		sideBySide(t)
		h := <-free
		t.Cleanup(func() { free <- h }) // the last thing that a case does
		return of(h)
	})
}
