package drivertest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaks(m) }

// A memoryHarness is a broker in memory, which is its own outside.
type memoryHarness struct {
	broker   *memory.Broker
	lossy    *lossy // the same
	protocol driver.GroupProtocol
}

func newMemoryHarness() *memoryHarness { return newMemoryHarnessOf(driver.ClassicProtocol) }

func newMemoryHarnessOf(p driver.GroupProtocol) *memoryHarness {
	broker := memory.NewBroker(memory.WithConsumerGroups(memory.ConsumerGroups{
		SessionTimeout: 500 * time.Millisecond, HeartbeatInterval: 100 * time.Millisecond,
	}))
	return &memoryHarness{protocol: p, broker: broker, lossy: &lossy{Broker: broker}}
}

func (h *memoryHarness) GroupProtocol() driver.GroupProtocol { return h.protocol }

var _ interface {
	drivertest.Harness
	drivertest.Tuner
	drivertest.MetadataReader
	drivertest.PositionSetter
	drivertest.SessionEnder
	drivertest.Cutter
	drivertest.Truncater
	drivertest.EndTruncater
	drivertest.PartitionAdder
	drivertest.HoleMaker
	drivertest.TopicLimiter
	drivertest.Transactor
	drivertest.TopicRecreater
	drivertest.Forbidder
	drivertest.ForeignJoiner
	drivertest.Damager
	drivertest.AnswerLoser
	drivertest.GroupProtocoler
} = (*memoryHarness)(nil)

func (h *memoryHarness) Driver() driver.Driver { return h.lossy }

func (h *memoryHarness) Brokers() []string { return []string{"memory:9092"} }

func (h *memoryHarness) Settings() drivertest.Settings {
	return drivertest.Settings{
		SessionTimeout: 500 * time.Millisecond,
		DrainTimeout:   100 * time.Millisecond,
		Quiet:          30 * time.Millisecond,
		Patience:       10 * time.Second,
	}
}

func (h *memoryHarness) CreateTopic(_ context.Context, topic string, partitions int32) error {
	return h.broker.CreateTopic(topic, int(partitions))
}

func (h *memoryHarness) CreateLimitedTopic(_ context.Context, topic string, partitions int32, maxBytes int, ahead time.Duration) error {
	return errors.Join(
		h.broker.CreateTopic(topic, int(partitions)),
		h.broker.SetMaxMessageBytes(topic, maxBytes),
		h.broker.SetMaxTimestampAhead(topic, ahead),
	)
}

func (h *memoryHarness) Send(_ context.Context, topic string, partition int32, records ...driver.Record) error {
	for i := range records {
		r := &records[i]
		if err := h.broker.Send(topic, r.Key, r.Value, options(partition, r)...); err != nil {
			return err
		}
	}
	return nil
}

func options(partition int32, r *driver.Record) []memory.SendOption {
	return []memory.SendOption{memory.ToPartition(partition), memory.Headers(r.Headers...), memory.Timestamp(r.Timestamp)}
}

func (h *memoryHarness) Read(_ context.Context, topic string, partition int32) ([]driver.Record, error) {
	return h.broker.Records(topic, partition, driver.ReadCommitted)
}

func (h *memoryHarness) Committed(_ context.Context, group, topic string, partition int32) (int64, error) {
	return h.broker.Committed(group, topic, partition), nil
}

func (h *memoryHarness) CommittedMetadata(_ context.Context, group, topic string, partition int32) (string, error) {
	return h.broker.CommittedMetadata(group, topic, partition), nil
}

func (h *memoryHarness) SetCommitted(_ context.Context, group, topic string, partition int32, offset int64, metadata string) error {
	return h.broker.SetCommittedMetadata(group, topic, partition, offset, metadata)
}

func (h *memoryHarness) EndSessions(_ context.Context, group string) error {
	for _, m := range h.broker.Members(group) {
		m.Expire()
	}
	return nil
}

func (h *memoryHarness) Cut(context.Context) (heal func(), err error) {
	h.broker.Stop()
	return h.broker.Start, nil
}

func (h *memoryHarness) Truncate(_ context.Context, topic string, partition int32, before int64) error {
	return h.broker.DeleteRecords(topic, partition, before)
}

func (h *memoryHarness) TruncateEnd(_ context.Context, topic string, partition int32, end int64) error {
	return h.broker.Truncate(topic, partition, end)
}

func (h *memoryHarness) AddPartitions(_ context.Context, topic string, total int32) error {
	return h.broker.AddPartitions(topic, int(total))
}

func (h *memoryHarness) MakeHole(_ context.Context, topic string, partition int32, n int) error {
	for range n {
		if err := h.broker.AppendControl(topic, partition); err != nil {
			return err
		}
	}
	return nil
}

func (h *memoryHarness) Begin(_ context.Context, topic string, partition int32, records ...driver.Record) (func(context.Context, bool) error, error) {
	tx := h.broker.Begin()
	for _, r := range records {
		if err := tx.Send(topic, r.Key, r.Value, options(partition, &r)...); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, commit bool) error {
		if commit {
			return tx.Commit()
		}
		return tx.Abort()
	}, nil
}

func (h *memoryHarness) RecreateTopic(_ context.Context, topic string, partitions int32) error {
	return h.broker.RecreateTopic(topic, int(partitions))
}

func (h *memoryHarness) Forbid(_ context.Context, topic string) (allow func(), err error) {
	return func() { _ = h.broker.Forbid(topic, false) }, h.broker.Forbid(topic, true)
}

func (h *memoryHarness) JoinForeign(_ context.Context, group string, s driver.BalanceStrategy, topics ...string) (leave func(), err error) {
	cfg := driver.ConsumerConfig{
		Group: group, ClientID: "foreign", Topics: topics, GroupProtocol: h.protocol,
		SessionTimeout: time.Minute, RebalanceTimeout: time.Minute, DrainTimeout: time.Second,
	}
	if h.protocol == driver.ClassicProtocol {
		cfg.BalanceStrategies = []driver.BalanceStrategy{s}
	}
	f := h.broker.JoinForeign(cfg)
	return func() { _ = f.Leave(context.Background()) }, nil
}

func (h *memoryHarness) Damage(_ context.Context, topic string, partition int32, offset int64) (repair func(), err error) {
	return func() { _ = h.broker.Repair(topic, partition) }, h.broker.Damage(topic, partition, offset)
}

var protocols = []driver.GroupProtocol{driver.ClassicProtocol, driver.ConsumerProtocol}

func TestMemory(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			drivertest.Run(t, func(*testing.T) drivertest.Harness { return newMemoryHarnessOf(p) })
		})
	}
}

func TestMemoryInVirtualTime(t *testing.T) {
	for _, p := range protocols {
		for _, c := range drivertest.Cases() {
			t.Run(p.String()+"/"+c.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { c.Run(t, newMemoryHarnessOf(p)) })
			})
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	drivertest.Benchmark(b, func(*testing.B) drivertest.Harness { return newMemoryHarness() })
}
