// Package drivertest is the conformance suite for authors of a Kafka driver.
//
// # Overview
//
// Package driver is a contract, and each [Case] of this package checks one
// sentence of it. An author writes a [Harness], which reaches the cluster
// without the driver under test, and runs the whole suite:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, func(t *testing.T) drivertest.Harness {
//			return newHarness(t)
//		})
//	}
//
// Every case makes topics and groups of its own, so one cluster may serve them
// all. The cases run one after the other; some of them cut the network.
//
// # Abilities
//
// Not every environment can end a session or cut the network. What goes beyond
// [Harness] is an interface of one method each, such as [SessionEnder]. A case
// that needs one which the harness lacks is skipped, and says which.
//
// # Time
//
// Cases wait for conditions, so [Settings.Patience] is only spent by a driver
// that fails. Only where nothing may happen a case looks on for
// [Settings.Quiet]. The cases of [Cases] also run inside a testing/synctest
// bubble, if driver and harness do.
//
// # Rules that hold all the time
//
// Some sentences can be broken at any moment, such as the order of the calls to
// a Handler. They are judged in every case, and a breach is reported under the
// name of the case that is about it: "DeliverInOrder: ...".
package drivertest
