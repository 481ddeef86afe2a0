package fault_test

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// printer is an Acker.
type printer struct{}

func (printer) Ack(err error) { fmt.Println("acknowledged:", err) }

// The second message is in the log, but its answer is lost.
func ExampleWrap() {
	broker := memory.NewBroker(memory.WithAutoCreate(1))
	d := fault.Wrap(broker, fault.Nth(2, fault.On(fault.Ack, fault.After(fault.Error("REQUEST_TIMED_OUT")))))

	ctx := context.Background()
	p, err := d.OpenProducer(ctx, driver.ProducerConfig{MaxMessageBytes: 1 << 20, RetryBackoff: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(ctx)
	for range 3 {
		p.Produce(ctx, &driver.Message{Topic: "orders", Partition: -1, Acker: printer{}})
	}
	_, end, _ := broker.Offsets("orders", 0)
	fmt.Println("log end:", end)
	// Output:
	// acknowledged: <nil>
	// acknowledged: REQUEST_TIMED_OUT: injected (outcome unknown)
	// acknowledged: <nil>
	// log end: 3
}

// An injector prints itself as Go code, so that the log of a failed simulation shows how
// to repeat it.
func ExampleInjector() {
	slow := fault.On(fault.Commit, fault.Group("billing", fault.Delay(2*time.Second)))
	flaky := fault.Chance(0.1, 42, fault.On(fault.Produce, fault.Topic("orders", fault.Before(fault.Error("NOT_ENOUGH_REPLICAS")))))
	fmt.Println(fault.All(slow, flaky))
	// Output:
	// All(On(Commit, Group("billing", Delay(2s))), Chance(0.1, 42, On(Produce, Topic("orders", Before(Error("NOT_ENOUGH_REPLICAS"))))))
}

// A test that has seen enough turns the fault off.
func ExampleSwitch() {
	down := fault.NewSwitch(fault.Before(fault.Error("BROKER_NOT_AVAILABLE")))
	d := fault.Wrap(memory.NewBroker(), down)

	open := func() {
		p, err := d.OpenProducer(context.Background(), driver.ProducerConfig{})
		fmt.Println("open:", err)
		if err == nil {
			p.Close(context.Background())
		}
	}
	down.Set(true)
	open()
	down.Set(false)
	open()
	// Output:
	// open: BROKER_NOT_AVAILABLE: injected
	// open: <nil>
}
