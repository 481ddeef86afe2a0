package franz

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// An epochsHarness is a harness whose consumers use the ConsumerProtocol.
type epochsHarness struct{ *harness }

var _ interface {
	drivertest.GroupProtocoler
	drivertest.ForeignJoiner
} = epochsHarness{}

func (epochsHarness) GroupProtocol() driver.GroupProtocol { return driver.ConsumerProtocol }

// JoinForeign implements drivertest.ForeignJoiner.
func (h epochsHarness) JoinForeign(ctx context.Context, group string, _ driver.BalanceStrategy, topics ...string) (leave func(), err error) {
	return h.JoinForeignEpochs(ctx, group, topics...)
}

// epochSettings are the broker's settings for groups of the ConsumerProtocol.
var epochSettings = map[string]string{
	"group.consumer.heartbeat.interval.ms": "200", "group.consumer.min.heartbeat.interval.ms": "100",
	"group.consumer.session.timeout.ms": "6000", "group.consumer.min.session.timeout.ms": "1000",
}

// TestEpochsConformance is TestConformance with the ConsumerProtocol.
func TestEpochsConformance(t *testing.T) {
	budget := testkit.Budget{Total: 4 * time.Second} // of more than a minute
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		sideBySide(t)
		budget.Spend(t)
		h, _ := fakeHarness(t, kfake.BrokerConfigs(epochSettings))
		h.settings = drivertest.Settings{SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second, Patience: time.Minute}
		return epochsHarness{h}
	})
}

// needsKafka4 skips a test of the ConsumerProtocol on brokers that lack it.
func needsKafka4(t *testing.T) {
	if version := os.Getenv("KAFKA_VERSION"); strings.HasPrefix(version, "3.") {
		t.Skipf("skipped: Kafka %s lacks the ConsumerProtocol", version)
	}
}

// TestRealEpochsConformance is TestRealConformance with the ConsumerProtocol.
func TestRealEpochsConformance(t *testing.T) {
	testkit.DriversTurn(t, "franz")
	needsKafka4(t)
	realConformance(t, epochSettings, func(h *harness) drivertest.Harness { return epochsHarness{h} })
}
