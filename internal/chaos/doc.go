//go:build unix

// Command chaos shows what the library keeps of its promises while a real
// cluster falls apart around it.
//
//	go run ./internal/chaos -seed 7
//
// Three brokers of Apache Kafka run behind loopback proxies. Processes of this
// very program send and consume, with the library on its production driver;
// each writes down what it lives through, one line an event. One fault after
// the other comes over them, in an order that the seed decides, and each only
// when the recovery from the last was seen. In the end everything is healed, the
// senders stop, and the consumers work off what is left.
//
// Then the run is judged from outside: the log and every commit that was ever
// applied are read back by a client that shares no code with what it judges, and
// package judge goes through the history of all processes in the order in which
// it happened.
//
// With -driver franz the fast driver is judged, and with -protocol consumer beside that
// its groups of the ConsumerProtocol (KIP-848).
//
// # Figures
//
// One line of JSON a run, on standard output: see [report]. A run passes if
// nothing acknowledged was lost, nothing was reordered, no promise of package
// judge was broken, nothing lies twice in the log, no send failed, and the
// recovery from each fault was seen within the session timeout and a minute.
//
// # Controls
//
// Two short trials follow on the same cluster, and must fail: a producer without
// idempotence, whose answers get lost, must be seen to duplicate; and a consumer
// that takes a handler's error for success must be seen to lose. Without them, a
// run that found nothing might be blind.
//
// # Soak
//
//	go run ./internal/chaos -soak 10m
//
// has no faults: of three consumers one comes and goes every 20 s. It asks the
// same, and that resident memory stays flat; the report has a line per minute.
package main
