package memory_test

import (
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// What a committed reader sees of two transactions.
func ExampleBroker_Begin() {
	broker := memory.NewBroker()
	if err := broker.CreateTopic("orders", 1); err != nil {
		fmt.Println(err)
		return
	}
	paid, failed := broker.Begin(), broker.Begin()
	paid.Send("orders", nil, []byte("paid"))
	failed.Send("orders", nil, []byte("failed"))

	print := func(when string) {
		records, _ := broker.Records("orders", 0, driver.ReadCommitted)
		fmt.Print(when, ":")
		for _, r := range records {
			fmt.Printf(" %d=%s", r.Offset, r.Value)
		}
		fmt.Println()
	}
	print("open")
	failed.Abort()
	paid.Commit()
	print("ended")
	_, end, _ := broker.Offsets("orders", 0)
	fmt.Println("log end:", end)
	// Output:
	// open:
	// ended: 0=paid
	// log end: 4
}

// An error says its Kafka name.
func ExampleBroker_CreateTopic() {
	broker := memory.NewBroker()
	fmt.Println(broker.CreateTopic("orders", 3))
	fmt.Println(broker.CreateTopic("orders", 3))
	fmt.Println(broker.AddPartitions("orders", 3))
	// Output:
	// <nil>
	// TOPIC_ALREADY_EXISTS: topic "orders" exists
	// INVALID_PARTITIONS: topic "orders": 3 partitions, not more than its 3 (permanent)
}
