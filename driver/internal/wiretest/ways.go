package wiretest

import (
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
)

// A Way is one in which a group and its members work together.
type Way struct {
	Name string
	Set  func(*driver.ConsumerConfig)
}

// The ways. Epochs is that of the ConsumerProtocol.
var (
	Cooperative = Way{"cooperative", func(cfg *driver.ConsumerConfig) {
		cfg.BalanceStrategies = []driver.BalanceStrategy{driver.CooperativeSticky}
	}}
	Classic = Way{"classic", func(*driver.ConsumerConfig) {}}
	Epochs  = Way{"epochs", func(cfg *driver.ConsumerConfig) {
		cfg.GroupProtocol, cfg.BalanceStrategies, cfg.HeartbeatInterval = driver.ConsumerProtocol, nil, 0
	}}
)

// with returns the ways of some that the driver supports.
func (s Suite) with(some ...Way) (ways []Way) {
	p, ok := s.Driver.(driver.GroupProtocolSupporter)
	for _, w := range some {
		if w.Name != Epochs.Name || ok && p.SupportsGroupProtocol(driver.ConsumerProtocol) {
			ways = append(ways, w)
		}
	}
	return ways
}

// EpochBrokers gives the brokers of a kfake a session timeout, and the tests' interval of
// heartbeats, for groups of the ConsumerProtocol.
func EpochBrokers(session time.Duration) kfake.Opt {
	return kfake.BrokerConfigs(map[string]string{
		"group.consumer.session.timeout.ms":    strconv.FormatInt(session.Milliseconds(), 10),
		"group.consumer.heartbeat.interval.ms": "200",
	})
}
