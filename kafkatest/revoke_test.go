package kafkatest_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// handled is when the handlers return, after the claims are asked for back.
const handled = time.Second

// apart is a driver that revokes each claim by a call of its own, as drivers may
// and the one for Sarama does. The first of them it finds lost meanwhile.
type apart struct {
	driver.Driver
	lost bool
}

func (d apart) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.Driver.OpenConsumer(ctx, cfg)
	return apartConsumer{c, d.lost}, err
}

type apartConsumer struct {
	driver.Consumer
	lost bool
}

func (c apartConsumer) Run(h driver.Handler) error { return c.Consumer.Run(apartHandler{h, c.lost}) }

type apartHandler struct {
	driver.Handler
	lost bool
}

func (h apartHandler) Revoke(ctx context.Context, claims []*driver.Claim) {
	var revokes sync.WaitGroup
	for i, c := range claims {
		revokes.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(10-i)*time.Second)
			defer cancel()
			if h.lost && i == 0 { // which is the one with the most patience
				defer time.AfterFunc(handled+50*time.Millisecond, cancel).Stop() // amid the commit
			}
			h.Handler.Revoke(ctx, []*driver.Claim{c})
		})
	}
	revokes.Wait()
}

// Claims that are revoked at the same time are committed, in one commit or in
// many, and one that is lost meanwhile takes no other's commit along.
func TestClaimsThatAreRevokedOneByOneAreAllCommitted(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("one is lost %v", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { revokeApart(t, lost) })
		})
	}
}

func revokeApart(t *testing.T, lost bool) {
	const partitions = 5
	broker := memory.NewBroker()
	require.NoError(t, broker.CreateTopic("orders", partitions))
	for p := range int32(partitions) {
		require.NoError(t, broker.Send("orders", nil, nil, memory.ToPartition(p)))
	}
	slow := fault.Wrap(apart{broker, lost}, fault.On(fault.Commit, fault.Delay(100*time.Millisecond)))
	m := kafka.New(slow, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	release := make(chan struct{})
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", BootstrapServers: "memory:1", ConsumerGroup: "g",
		InitialOffset: kafka.OffsetOldest,
	}
	handle := func(context.Context, *kafka.Message) error {
		<-release
		return nil
	}
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handle)))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	require.NoError(t, m.StartAllConsumers(t.Context()))
	synctest.Wait()
	time.AfterFunc(handled, func() { close(release) })
	require.NoError(t, m.Shutdown(t.Context()))
	for p := range int32(partitions) {
		if lost && p == 0 {
			continue
		}
		require.Equal(t, int64(1), broker.Committed("g", "orders", p), "partition %d", p)
	}
}
