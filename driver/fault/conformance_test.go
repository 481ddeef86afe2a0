package fault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// A harness is the conformance suite's way to a memory broker behind faults.
type harness struct {
	broker   *memory.Broker
	i        fault.Injector
	protocol driver.GroupProtocol
}

var _ interface {
	drivertest.Harness
	drivertest.Tuner
	drivertest.MetadataReader
	drivertest.PositionSetter
	drivertest.SessionEnder
	drivertest.Cutter
	drivertest.Truncater
	drivertest.PartitionAdder
	drivertest.HoleMaker
	drivertest.TopicLimiter
	drivertest.GroupProtocoler
} = (*harness)(nil)

func (h *harness) Driver() driver.Driver { return fault.Wrap(h.broker, h.i) }

func (h *harness) GroupProtocol() driver.GroupProtocol { return h.protocol }

func (h *harness) Brokers() []string { return []string{"memory:9092"} }

func (h *harness) Settings() drivertest.Settings {
	return drivertest.Settings{
		SessionTimeout: 500 * time.Millisecond,
		DrainTimeout:   100 * time.Millisecond,
		Quiet:          30 * time.Millisecond,
	}
}

func (h *harness) CreateTopic(_ context.Context, topic string, partitions int32) error {
	return h.broker.CreateTopic(topic, int(partitions))
}

func (h *harness) CreateLimitedTopic(_ context.Context, topic string, partitions int32, maxBytes int, ahead time.Duration) error {
	return errors.Join(
		h.broker.CreateTopic(topic, int(partitions)),
		h.broker.SetMaxMessageBytes(topic, maxBytes),
		h.broker.SetMaxTimestampAhead(topic, ahead),
	)
}

func (h *harness) Send(_ context.Context, topic string, partition int32, records ...driver.Record) error {
	for _, r := range records {
		err := h.broker.Send(topic, r.Key, r.Value,
			memory.ToPartition(partition), memory.Headers(r.Headers...), memory.Timestamp(r.Timestamp))
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) Read(_ context.Context, topic string, partition int32) ([]driver.Record, error) {
	return h.broker.Records(topic, partition, driver.ReadCommitted)
}

func (h *harness) Committed(_ context.Context, group, topic string, partition int32) (int64, error) {
	return h.broker.Committed(group, topic, partition), nil
}

func (h *harness) CommittedMetadata(_ context.Context, group, topic string, partition int32) (string, error) {
	return h.broker.CommittedMetadata(group, topic, partition), nil
}

func (h *harness) SetCommitted(_ context.Context, group, topic string, partition int32, offset int64, metadata string) error {
	return h.broker.SetCommittedMetadata(group, topic, partition, offset, metadata)
}

func (h *harness) EndSessions(_ context.Context, group string) error {
	for _, m := range h.broker.Members(group) {
		m.Expire()
	}
	return nil
}

func (h *harness) Cut(context.Context) (heal func(), err error) {
	h.broker.Stop()
	return h.broker.Start, nil
}

func (h *harness) Truncate(_ context.Context, topic string, partition int32, before int64) error {
	return h.broker.DeleteRecords(topic, partition, before)
}

func (h *harness) AddPartitions(_ context.Context, topic string, total int32) error {
	return h.broker.AddPartitions(topic, int(total))
}

func (h *harness) MakeHole(_ context.Context, topic string, partition int32, n int) error {
	var err error
	for range n {
		err = errors.Join(err, h.broker.AppendControl(topic, partition))
	}
	return err
}

// What is wrapped keeps the contract: with no fault at all, and with those that
// the contract has room for.
func TestConformance(t *testing.T) {
	tests := []struct {
		name string
		i    func() fault.Injector
	}{
		{"no faults", func() fault.Injector { return fault.Any() }},
		{"late acknowledgements", func() fault.Injector { return fault.On(fault.Ack, fault.Delay(3*time.Millisecond)) }},
		{"slow calls", func() fault.Injector {
			return fault.All(
				fault.On(fault.Run, fault.Delay(5*time.Millisecond)),
				fault.On(fault.Commit, fault.Delay(2*time.Millisecond)),
				fault.On(fault.Pause, fault.Delay(time.Millisecond)),
				fault.On(fault.Flush, fault.Delay(time.Millisecond)),
				fault.On(fault.CloseConsumer, fault.Delay(time.Millisecond)),
			)
		}},
	}
	groups := memory.ConsumerGroups{SessionTimeout: 500 * time.Millisecond, HeartbeatInterval: 100 * time.Millisecond}
	for _, tt := range tests {
		for _, c := range drivertest.Cases() {
			for _, p := range []driver.GroupProtocol{driver.ClassicProtocol, driver.ConsumerProtocol} {
				t.Run(tt.name+"/"+p.String()+"/"+c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { c.Run(t, &harness{memory.NewBroker(memory.WithConsumerGroups(groups)), tt.i(), p}) })
				})
			}
		}
	}
}
