// Package simulation runs the core on the broker in memory, in groups of either
// protocol, under faults, in virtual time: random histories of members that come, go,
// fail and come back, each judged by package judge after every step, and once more when
// all is healed.
//
// It has tests only:
//
//	go test ./internal/simulation                                  # a share of some seconds
//	go test ./internal/simulation -run TestSimulation -v -timeout 0 -args -rapid.checks=100000
//	KAFKA_MUTATIONS=all go test ./internal/simulation -run TestPlantedBugs -v -timeout 0
//
// KAFKA_MUTATION=pattern chooses some of the planted bugs by their names.
//
// A failure prints its seed. It repeats for certain, and shrinks, if both runs are
// made with one processor and under the overlay of package chance, which see:
//
//	GOMAXPROCS=1 go test -overlay "$(go run ./internal/simulation/chance)" ./internal/simulation \
//		-run TestSimulation -v -timeout 0 -args -rapid.seed=1
package simulation
