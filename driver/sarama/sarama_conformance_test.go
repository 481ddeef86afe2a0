package sarama

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver/drivertest"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
		h.settings = drivertest.Settings{
			SessionTimeout: 3 * time.Second, RebalanceTimeout: 5 * time.Second,
			Patience: 15 * time.Second,
		}
		return h
	})
}

func TestRealConformance(t *testing.T) {
	h, _ := realHarness(t)
	drivertest.Run(t, func(*testing.T) drivertest.Harness { return h })
}
