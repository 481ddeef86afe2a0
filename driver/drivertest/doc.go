// Package drivertest is the conformance suite for authors of Kafka drivers.
//
// # Overview
//
// Package driver is a contract. Each [Case] of this package checks one sentence of
// it. An author writes a [Harness], which accesses the cluster without the driver
// under test, and runs the whole suite:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, func(t *testing.T) drivertest.Harness {
//			return newHarness(t)
//		})
//	}
//
// Every case creates its own topics and groups, so one cluster can serve all cases.
// The cases run one at a time. Some of them cut the network.
//
// # Abilities
//
// Not every environment can end a session or cut the network. Each such ability is an
// interface of one method, for example [SessionEnder]. A case that needs an ability
// which the harness lacks is skipped and names it.
//
// # Group protocols
//
// A harness that implements [GroupProtocoler] runs the cases with the protocol that it
// names. A case that assumes the other protocol is skipped with its reason.
//
// # Time
//
// Cases wait for conditions, so only a failing driver uses up [Settings.Patience]. A
// case that checks that nothing happens waits for [Settings.Quiet]. The cases of
// [Cases] also run inside a testing/synctest bubble, if driver and harness do.
//
// # Rules that every case checks
//
// Some sentences can be broken at any moment, for example the order of the calls to a
// Handler. Every case checks them. A violation is reported under the name of the case
// that is about that sentence: "DeliverInOrder: ...".
package drivertest
