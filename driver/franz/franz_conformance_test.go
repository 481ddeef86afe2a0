package franz

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// consumerOnly is the driver as long as it has no producer.
type consumerOnly struct{ Driver }

func (consumerOnly) ValidateProducer(driver.ProducerConfig) error { return errNoProducer }

func (consumerOnly) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return nil, errNoProducer
}

var errNoProducer = &driver.Error{Code: "UNSUPPORTED_VERSION", Kind: driver.ErrPermanent, Err: errors.New("no producer yet")}

// firstOfProducers is the first case of the suite that is about producers alone.
const firstOfProducers = "ProduceContextEndsNothing"

// alsoOfProducers are the cases before it that need a producer, too.
var alsoOfProducers = []string{"ErrorsHaveNames", "OpenReturnsByItsContext"}

// casesOfConsumers returns the cases that need no producer, and prints the others: they
// are not met yet.
func casesOfConsumers(t *testing.T) []drivertest.Case {
	all := drivertest.Cases()
	first := slices.IndexFunc(all, func(c drivertest.Case) bool { return c.Name == firstOfProducers })
	var cases []drivertest.Case
	var missing []string
	for i, c := range all {
		if first < 0 || i >= first || slices.Contains(alsoOfProducers, c.Name) {
			missing = append(missing, c.Name)
		} else {
			cases = append(cases, c)
		}
	}
	t.Logf("not met yet: %s", strings.Join(missing, ", "))
	return cases
}

func TestConformance(t *testing.T) {
	budget := testkit.Budget{Total: 4 * time.Second} // of more than a minute
	for _, c := range casesOfConsumers(t) {
		t.Run(c.Name, func(t *testing.T) {
			sideBySide(t)
			budget.Spend(t)
			h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
			h.driver = consumerOnly{}
			h.settings = drivertest.Settings{
				SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second,
				Patience: time.Minute, // one case leaves 20,000 messages to be sent, also under the race detector
			}
			c.Run(t, h)
		})
	}
}

// sideBySide lets a case run in parallel with others, unless it counts the goroutines of
// the process. For the sake of that one no other test may run beside the suite.
func sideBySide(t *testing.T) {
	if !strings.HasSuffix(t.Name(), "/CloseLeavesNothingBehind") {
		t.Parallel()
	}
}
