// Package memory is a Kafka cluster in memory, for tests. It has topics, partitions,
// transactions, and consumer groups with generations, sessions and offsets.
//
// # Overview
//
// A [Broker] is the driver of its own clients:
//
//	broker := memory.NewBroker()
//	broker.CreateTopic("orders", 3)
//	manager := kafka.New(broker)
//
// Its other methods are for tests. They send and read records, remove and damage
// records, create topics again, forbid them, stop the broker, cut members off, add
// members of other programs, and return committed offsets.
//
// # Like Kafka
//
// A key chooses the partition as Java's client does (murmur2).
//
// Members join and sync under generations. The group removes a member that is
// unreachable for its session timeout, or that does not join a rebalance within its
// rebalance timeout. A member that is cut off notices the end of its session before its
// group does, and loses its claims by itself. A static member keeps its partitions over
// a restart and fences an older member of the same instance. Members with an eager
// strategy give up all partitions in a rebalance. A consumer whose only strategy is
// cooperative-sticky gives up the partitions that move, in two steps.
//
// A commit is refused with ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID or
// REBALANCE_IN_PROGRESS in the same states as in Kafka. The broker stores metadata of up
// to 4,096 bytes beside an offset.
//
// A group of the ConsumerProtocol (KIP-848) has epochs. The coordinator computes a target
// assignment, and each member goes towards it by its heartbeats: it gives partitions up
// first, and others get them when it has. The group removes a member that is silent for
// the broker's session timeout, or that gives up nothing within its rebalance timeout. A
// heartbeat or a commit of another epoch is refused with FENCED_MEMBER_EPOCH or
// STALE_MEMBER_EPOCH. A newcomer with the instance ID of a live member waits.
// [WithConsumerGroups] has the settings that are the broker's.
//
// A topic has an ID. A topic that is created again after a deletion is another topic.
// The deletion also deletes the committed offsets.
//
// A ReadCommitted consumer stops at the last stable offset and skips records of aborted
// transactions. Errors are driver errors with Kafka's codes.
//
// # Unlike Kafka
//
// There is no network: a broker ignores addresses, TLS, SASL, compression and racks. A
// client learns at once of a rebalance, a new topic or the end of its session, instead of
// by polling. Heartbeats are computed, not sent. An append is atomic and its answer is
// never lost; package fault injects such losses. Neither records nor the offsets of an
// empty group expire by themselves; DeleteRecords and ExpireOffsets remove them. A group
// has members of one protocol at a time: a member of the other one is refused with
// INCONSISTENT_GROUP_PROTOCOL or GROUP_ID_NOT_FOUND, as by a Kafka whose
// group.consumer.migration.policy is disabled, and waits.
//
// # Virtual time
//
// A broker works inside a testing/synctest bubble. It waits only on channels and package
// time, starts no goroutine that belongs to no consumer or producer, and holds its mutex
// over nothing that blocks. An idle consumer closes in no time. Neither chance nor the
// order of a map decides anything.
package memory
