package kafka_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// oldMember is a consumer configured as a client whose default strategy is Range,
// such as raw Sarama.
func oldMember() kafka.ConsumerConfig {
	cfg := orders()
	cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.Range}
	return cfg
}

// owned returns the partitions of a manager's consumer.
func owned(t *testing.T, m *kafka.Manager) (partitions []int32) {
	t.Helper()
	s, err := m.Consumer("orders")
	require.NoError(t, err)
	require.Equal(t, kafka.StateRunning, s.State, "reason %v", s.Reason)
	for _, p := range s.Partitions {
		partitions = append(partitions, p.Partition)
	}
	return partitions
}

// Members that are replaced one after the other share a strategy all the time.
func TestFault_C1_DefaultsLetARollingMigrationGoOn(t *testing.T) {
	rounds := []struct {
		name          string
		first, second kafka.ConsumerConfig
		want          [2][]int32
	}{
		{"ours joins an old one: range", oldMember(), orders(), [2][]int32{{0, 1}, {2}}},
		{"an old one joins ours: range", orders(), oldMember(), [2][]int32{{0, 1}, {2}}},
		{"two of ours: round robin", orders(), orders(), [2][]int32{{0, 2}, {1}}},
	}
	for _, round := range rounds {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 3)
			first := launch(t, b, round.first, handleNothing)
			second := launch(t, b, round.second, handleNothing)
			got := [2][]int32{owned(t, first), owned(t, second)}
			assert.Equal(t, round.want, got, round.name)
		})
	}
}

// After the last old member has gone, ours agree on their first choice again.
func TestFault_C1_AfterTheMigrationOursAgreeOnRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBroker()
		require.NoError(t, b.CreateTopic("orders", 3))
		old := launch(t, b, oldMember(), handleNothing)
		first := launch(t, b, orders(), handleNothing)
		require.NoError(t, old.Shutdown(t.Context()))
		second := launch(t, b, orders(), handleNothing)
		assert.Equal(t, [][]int32{{0, 2}, {1}}, [][]int32{owned(t, first), owned(t, second)})
	})
}
