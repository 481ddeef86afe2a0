// Package differential runs the same random operations on the broker in memory,
// on driver/sarama over an in-process fake of Kafka, and on driver/sarama over a
// real Kafka, and compares what a user of the driver can observe.
// What the broker in memory says in a unit test, Kafka must say in production.
//
// It has tests only:
//
//	go test ./internal/differential                                # a share of some seconds, under a fresh seed
//	go test ./internal/differential -v -timeout 0 -args -sequences=1000
//
// A difference prints the seed of its sequence, which -seed repeats, the operations
// that are left when all that can go have been taken away, and what each system
// answered. CHANGELOG.md lists the differences that were found.
//
// # What is compared
//
// Where a keyed message lies, offsets, records as they are read back, from what
// position each claim starts and what it is given, how many partitions each member
// has and how many have moved, how claims end, what commits answer and what is
// committed then, and the class of every refusal: the error's code and kind.
//
// # What is not
//
// Names of members, timing, how many generations a change takes, and which of the
// members of a group gets which partition: all that the protocol leaves open.
//
// # Bad configurations
//
// TestBadConfiguration makes every mistake that a user can make on both of these
// drivers, which must answer alike, and keeps the table of answers in testdata:
//
//	go test ./internal/differential -run TestBadConfiguration -args -update
package differential
