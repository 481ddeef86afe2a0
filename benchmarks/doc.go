// Package benchmarks holds comparisons with other clients, in a module of its
// own so that nobody who uses the library has to download them.
//
//	go test -bench . -benchmem -count 6
//
// runs raw Sarama and this library on Sarama side by side, against an
// in-process-protocol broker in a process of its own, so that allocations and
// CPU are the client's alone.
package benchmarks
