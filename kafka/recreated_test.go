package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A recreation is a consumer whose topic is deleted and created again.
type recreation struct {
	t      *testing.T
	broker *memory.Broker
	m      *kafka.Manager
	events kafka.Recorder
	busy   chan struct{} // closed lets a handler that waits go on; nil lets none wait

	mu      sync.Mutex
	handled []string
}

func (r *recreation) handle(ctx context.Context, m *kafka.Message) error {
	if r.busy != nil && string(m.Value) == "0/49" {
		select {
		case <-r.busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handled = append(r.handled, string(m.Value))
	return nil
}

// A1: a topic is its ID and not its name. A consumer may idle, handle a record or be
// switched off when its topic is created again, and the new log may be shorter or
// longer than the old one: no record of the new topic is lost silently.
func TestFault_A1_NothingOfTheNewTopicIsLostInSilence(t *testing.T) {
	type form struct {
		name string
		act  func(r *recreation) // deletes the topic and creates it again
		off  bool                // meanwhile the consumer is switched off
		busy bool                // a handler runs
	}
	again := func(r *recreation) { require.NoError(r.t, r.broker.RecreateTopic("orders", 1)) }
	forms := []form{
		{name: "idle", act: again},
		{name: "while a handler runs", busy: true, act: again},
		{name: "ten seconds apart", act: func(r *recreation) {
			require.NoError(r.t, r.broker.DeleteTopic("orders"))
			time.Sleep(10 * time.Second)
			require.NoError(r.t, r.broker.CreateTopic("orders", 1))
		}},
		{name: "switched off meanwhile", off: true, act: again},
	}
	for _, f := range forms {
		for _, initial := range []kafka.InitialOffset{kafka.OffsetNewest, kafka.OffsetOldest} {
			for _, records := range []int{20, 100} { // the old position is 50
				t.Run(fmt.Sprintf("%s, %v, %d records", f.name, initial, records), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { recreate(t, f.act, f.off, f.busy, initial, records) })
				})
			}
		}
	}
}

func recreate(t *testing.T, act func(*recreation), off, busy bool, initial kafka.InitialOffset, records int) {
	r := &recreation{t: t, broker: newBroker(t, 1)}
	if busy {
		r.busy = make(chan struct{})
	}
	cfg := orders()
	cfg.InitialOffset = initial
	r.m = launch(t, r.broker, cfg, r.handle, kafka.WithHook(&r.events))
	time.Sleep(time.Second)
	send(t, r.broker, 0, 0, 50)
	time.Sleep(2 * time.Second)
	if off {
		require.NoError(t, r.m.SetConsumerSwitch("orders", false))
		time.Sleep(time.Minute)
	}
	r.mu.Lock()
	r.handled = nil
	r.mu.Unlock()
	act(r)
	send(t, r.broker, 0, 1000, 1000+records)
	if off {
		require.NoError(t, r.m.SetConsumerSwitch("orders", true))
	}
	time.Sleep(30 * time.Second)
	if busy {
		close(r.busy)
	}
	time.Sleep(2 * time.Minute)

	var want []string
	for i := range records {
		want = append(want, fmt.Sprintf("0/%d", 1000+i))
	}
	status, err := r.m.Consumer("orders")
	require.NoError(t, err)
	assert.Equal(t, kafka.StateRunning, status.State)
	assert.Equal(t, int64(records), r.broker.Committed("orders", "orders", 0), "the position in the new topic")
	r.mu.Lock()
	defer r.mu.Unlock()
	if off && initial == kafka.OffsetNewest {
		// The process knows of no other topic: it starts where it is asked to, and reports that.
		starts := kafka.EventsOf[kafka.NoPosition](&r.events)
		require.NotEmpty(t, starts)
		last := starts[len(starts)-1]
		assert.Empty(t, r.handled)
		assert.Equal(t, [2]int64{int64(records), 0}, [2]int64{last.Start, last.Begin}, "start and beginning")
		return
	}
	assert.Equal(t, want, without(r.handled, "0/49"), "handled of the new topic")
	losses := kafka.EventsOf[kafka.DataLoss](&r.events)
	if off {
		assert.Empty(t, losses)
		return
	}
	require.Len(t, losses, 1)
	assert.True(t, losses[0].Recreated)
	assert.Equal(t, int64(0), losses[0].To)
}

// without leaves out the record of the old topic whose handler ran meanwhile.
func without(values []string, value string) (rest []string) {
	for _, v := range values {
		if v != value {
			rest = append(rest, v)
		}
	}
	return rest
}
