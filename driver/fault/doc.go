// Package fault injects failures into a driver.
//
// [Wrap] returns a driver around any other driver. An [Injector] decides the fate of
// each call: it fails before anything is done, it is done but its answer is lost, it
// never answers, or it is slow.
//
//	d := fault.Wrap(broker, fault.On(fault.Commit,
//		fault.First(2, fault.After(fault.Error("REQUEST_TIMED_OUT")))))
//
// # Injectors
//
// Injectors combine. [Before], [After], [Never] and [Delay] define a failure. [On],
// [Client], [Group], [Topic] and [Partition] select calls. [First], [Nth], [Skip] and
// [Chance] select how often a failure happens. [Any] and [All] combine several
// injectors. A [Switch] turns one on and off. Every injector prints itself as Go code,
// is safe for concurrent use by several goroutines, and depends only on its seed and
// the calls that it sees.
//
// # Effects
//
// The returned driver keeps the contract under every fault: it acknowledges every
// accepted message once, ends every claim before Run returns, lets no call outlast its
// context, and leaves nothing behind after Close. The effect of a fault depends on the
// call:
//
//   - OpenConsumer, OpenProducer, OpenGroup: After opens, closes and fails.
//   - Run: Before fails without joining. After fails once Delay has passed since the
//     first Assign: live claims are Lost, and the connection is severed without leaving
//     the group, as in a crash. Never waits for Close without joining.
//   - Commit: the whole call. Mark: one mark of a call, by topic and partition. A mark
//     on an ended claim, or one that is not ahead of the committed position, gets the
//     answer that the contract requires.
//   - Pause, Resume: the injector is called once per claim. Only Delay applies.
//   - Deliver: the injector is called once per batch. Before reports a PartitionError
//     at the batch's first offset and then delivers the batch, as if the trouble had
//     passed. Delay does not apply, because a delivery never blocks.
//   - Heartbeat: the injector is called when the session deadline is read. Delay moves
//     the time of the latest answered heartbeat back. Nothing else applies.
//   - CloseConsumer, CloseProducer: Before severs the connections, as if the context had
//     ended, and fails. Never waits for the end of the context.
//   - Produce: Before acknowledges the error and sends nothing. After sends and
//     acknowledges an unknown outcome. Never finds no buffer space.
//   - Ack: the injector is called when the outcome is known. Before and After acknowledge
//     a message that is in the log with an unknown outcome; a failure stays as it is.
//     Never withholds the outcome until Close gives up. Delay withholds it for that time.
//   - Seek: Before ends no claim. After moves the positions and leaves their outcome
//     unknown. Never waits for the end of the context or Close, and moves nothing.
//   - Flush, FindTopic, ReadGroup, CommitGroup, FindOffsets: Before, After, Never and Delay
//     have their literal meaning.
package fault
