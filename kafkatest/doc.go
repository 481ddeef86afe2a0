// Package kafkatest runs the consumers and producers of a unit test on a Kafka
// in memory.
//
// # Overview
//
// A test needs no broker, no clean-up, and no sleep:
//
//	func TestOrders(t *testing.T) {
//		k := kafkatest.New(t)                       // a broker and a manager, closed with the test
//		k.Start(&OrderConsumer{})                   // it has its partitions when Start returns
//		r := k.Send("orders", "key", `{"id": 1}`)   // missing topics are created
//		k.WaitHandled(r)                            // or the test fails and says why
//		got := k.Produced("invoices")               // what the handler has sent
//	}
//
// The consumer is the one of production, with its own configuration: its
// BootstrapServers are not dialled. A handler that sends gets its producer from
// [Kafka.Producer], or from RegisterProducer with a configuration of its own.
// With the default InitialOffset a group sees what is sent after Start.
//
// # Waiting
//
// Each Wait method returns as soon as what it waits for is true, or fails the
// test after [Kafka.Timeout], with the state of the consumers, the attempts at
// the record and the latest errors. As with t.Fatal, only the goroutine of the
// test may call the methods of a [Kafka] that can fail it.
//
// # What goes wrong
//
// A handler fails by itself, or as [FailTimes] says: [Kafka.WaitFailed] and
// [Kafka.WaitAttempts] follow its retries, [Kafka.WaitDead] and [Kafka.WaitSkipped]
// wait until its consumer has given the record up, [Kafka.WaitState] waits for the
// consumer to be disabled. A test brings about the rest: [Kafka.Rebalance], [Kafka.Crash],
// [Kafka.FailCommits], an outage by Broker.Stop and Broker.Start, and what else the
// [memory.Broker] does to its topics and members.
//
// # Virtual time
//
// Everything works inside a testing/synctest bubble, where backoffs, session
// timeouts and outages take no time. Call New inside the bubble. Outside, the
// backoff of a failed record takes as long as its consumer's configuration says.
//
// # Wiring
//
// Code that registers by itself gets the manager, k.Manager; code that uses the
// functions of package kafka gets it by kafka.SetDefault, one test at a time.
// [Kafka.Start] without arguments then starts what is switched on.
//
// # The end of a test
//
// The manager shuts down in its order: no further record is handed out, handlers
// that run finish, what was handled is committed, producers are flushed. A
// handler has a fiftieth of [Kafka.Timeout] for that (100ms by default, 12s in a
// bubble), in which it may send. Then its context is cancelled, with
// ErrSwitchedOff, so that one that waits for its context does not hold up the
// test. The test fails if something still runs when the timeout is over.
//
// # What is not simulated
//
// What package memory leaves out: the network with its addresses, TLS and SASL;
// heartbeats; retention. An acknowledgement is never lost. Nothing here replaces
// a test of the deployment against a real broker.
package kafkatest
