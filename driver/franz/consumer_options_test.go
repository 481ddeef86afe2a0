package franz

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// An unbound is a decompressor that has no bound.
type unbound struct{ kgo.Decompressor }

// A hooked is an unbound that no comparison finds equal to itself.
type hooked struct {
	kgo.Decompressor
	hook func()
}

// TestOptionsOfAConsumerMayNotUndoSafety: the driver has a field for what these set, or relies
// on it.
func TestOptionsOfAConsumerMayNotUndoSafety(t *testing.T) {
	cfg := consumerConfig([]string{"127.0.0.1:1"})
	for _, c := range []struct {
		name   string
		option kgo.Opt
	}{
		{"Balancers", kgo.Balancers(kgo.RoundRobinBalancer())},
		{"BlockRebalanceOnPoll", kgo.BlockRebalanceOnPoll()},
		{"OnOffsetsFetched", kgo.OnOffsetsFetched(func(context.Context, *kgo.Client, *kmsg.OffsetFetchResponse) error { return context.Canceled })},
		{"OnPartitionsCallbackBlocked", kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) {})},
		{"AutoCommitInterval", kgo.AutoCommitInterval(time.Minute)},
		{"AutoCommitCallback", kgo.AutoCommitCallback(func(*kgo.Client, *kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse, error) {})},
		{"ConsumeExcludeTopics", kgo.ConsumeExcludeTopics("t")},
		{"Rack", kgo.Rack("elsewhere")},
		{"FetchMaxPartitionBytes", kgo.FetchMaxPartitionBytes(1 << 10)},
		{"WithDecompressor", kgo.WithDecompressor(unbound{})},
		{"WithDecompressor", kgo.WithDecompressor(hooked{nil, func() {}})},
		{"MaxDecompressBatchBytes", kgo.MaxDecompressBatchBytes(1 << 29)},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Driver{Options: []kgo.Opt{c.option}}.ValidateConsumer(cfg)
			if c.name == "AutoCommitInterval" || c.name == "AutoCommitCallback" || c.name == "ConsumeExcludeTopics" { // kgo may find a contradiction first
				wantInvalid(t, err, "franz.Driver.Options", "")
				return
			}
			wantInvalid(t, err, "franz.Driver.Options: "+c.name+" must not be changed", "")
		})
	}
}

// TestOptionsOfAConsumerThatTune: nothing of these is refused, with any balance strategy.
func TestOptionsOfAConsumerThatTune(t *testing.T) {
	cfg := consumerConfig([]string{"127.0.0.1:1"})
	cfg.RackID, cfg.MaxDecompressedBytes = "here", 1<<20
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky}
	d := Driver{Options: []kgo.Opt{
		kgo.FetchMaxWait(time.Second), kgo.FetchMaxBytes(1 << 20), kgo.FetchMinBytes(100), kgo.MaxConcurrentFetches(2), kgo.DisableFetchSessions(),
		kgo.WithDecompressor(kgo.DefaultDecompressor()), // kgo gives it the bound
	}}
	assert.NoError(t, d.ValidateConsumer(cfg))
}
