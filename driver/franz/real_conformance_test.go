package franz

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

// conformanceClusters is how many clusters TestRealConformance spreads its cases over:
// a case that cuts the brokers off, or stalls them, needs one alone.
const conformanceClusters = 3

// TestRealConformance runs on clusters of one broker, or on one of as many as
// GOPKG_BROKERS says.
func TestRealConformance(t *testing.T) {
	testkit.DriversTurn(t, "franz")
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
		h, _ := realHarness(t, brokers)
		h.driver = consumerOnly{}
		h.settings.Patience = time.Minute // three brokers are slow on two cores
		free <- h
	}
	for _, c := range casesOfConsumers(t) {
		t.Run(c.Name, func(t *testing.T) {
			sideBySide(t)
			h := <-free
			t.Cleanup(func() { free <- h }) // the last thing that a case does
			c.Run(t, h)
		})
	}
}
