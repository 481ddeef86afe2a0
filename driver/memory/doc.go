// Package memory is a Kafka cluster in memory, for tests: topics, partitions,
// transactions, consumer groups with their generations, sessions and offsets.
//
// # Overview
//
// A [Broker] is the driver of its own clients:
//
//	broker := memory.NewBroker()
//	broker.CreateTopic("orders", 3)
//	manager := kafka.New(broker)
//
// Its other methods are the hands of a test. They send and read records, cut
// holes, damage records, create topics again, forbid them, stop the broker, cut
// members off, add members of other programs, and look at what has been committed.
//
// # What is as in Kafka
//
// Keys choose partitions as Java's client does (murmur2). Members join and sync
// under generations; a member that can not be reached for its session timeout,
// or does not join a rebalance within its rebalance timeout, is thrown out. A cut
// member knows of the former before its group does, and loses its claims by itself.
// A topic is its ID: what is created again after a deletion is another topic, and
// the positions of the old one went with it.
// Static members keep their partitions over a restart, and fence an older member
// of the same instance. Eager strategies give up all partitions for a rebalance;
// a consumer whose only strategy is cooperative-sticky gives up what moves, in
// two steps. A commit is refused with ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID,
// FENCED_INSTANCE_ID or REBALANCE_IN_PROGRESS in the states in which Kafka does.
// A committed reader stops at the last stable offset and skips what was aborted.
// Errors are driver errors with Kafka's codes.
//
// # What is not
//
// There is no network: addresses, TLS, SASL, compression and racks have nothing
// to act on, and are accepted as they are. What a client learns by polling, a
// rebalance, a new topic, the end of its session, it learns at once. Heartbeats
// are not sent but reckoned. An append is atomic and never loses its answer: package
// fault does that. Nothing expires by itself, neither records nor the offsets of an
// empty group: DeleteRecords and ExpireOffsets do that.
//
// # Virtual time
//
// A broker runs inside a testing/synctest bubble. It waits on channels and
// package time only, starts no goroutine that no consumer or producer owns, and
// holds its mutex over nothing that blocks. An idle consumer closes in no time.
// Nothing is decided by chance or by the order of a map.
package memory
