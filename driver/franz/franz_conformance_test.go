package franz

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver/drivertest"
)

// ofProducers are the cases that open no consumer.
func ofProducers() (cases []drivertest.Case) {
	for _, c := range drivertest.Cases() {
		for _, prefix := range []string{"Produce", "Ack", "Flush", "DeliveryTimeout", "NoAck"} {
			if strings.HasPrefix(c.Name, prefix) {
				cases = append(cases, c)
				break
			}
		}
	}
	return cases
}

func TestProducerConformance(t *testing.T) {
	for _, c := range ofProducers() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h, _ := fakeHarness(t, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
			h.settings = drivertest.Settings{Patience: time.Minute}
			c.Run(t, h)
		})
	}
}
