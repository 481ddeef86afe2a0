// Package fault makes a driver fail on purpose.
//
// [Wrap] gives back the same contract over any driver, in which an [Injector]
// decides the fate of each call: that it fails before anything is done, that it
// is done and its answer is lost, that it never answers, or that it is slow.
//
//	d := fault.Wrap(broker, fault.On(fault.Commit,
//		fault.First(2, fault.After(fault.Error("REQUEST_TIMED_OUT")))))
//
// # Injectors
//
// They are tiny and combine: what to do ([Before], [After], [Never], [Delay]),
// to which calls ([On], [Client], [Group], [Topic], [Partition]), how often ([First],
// [Nth], [Skip], [Chance]), one or several ([Any], [All]), and when a test says
// so ([Switch]). Each prints itself as it is written, is safe for use by several
// goroutines, and depends on nothing but its seed and the calls that it sees.
//
// # What becomes of each call
//
// The wrapped driver keeps the contract, whatever is injected: an accepted
// message is acknowledged once, every claim is ended before Run returns, nothing
// waits longer than its context, and what is closed leaves nothing behind. So a
// fault means for
//
//   - OpenConsumer, OpenProducer: After opens, closes and fails.
//   - Run: Before fails without joining. After fails when the first Assign is
//     Delay ago: live claims are Lost, and the member is not taken out of its
//     group but severed, as by a crash. Never joins nothing until Close.
//   - Commit: the call as a whole. Mark is one mark of it, by topic and
//     partition. Marks that need nothing, as their claim has ended or they are
//     behind, get the answer that the contract promises.
//   - Pause, Resume: asked for each claim, and only Delay is honoured.
//   - Deliver: asked for each batch. Before reports a PartitionError of the batch's
//     first offset, and delivers the batch all the same: the trouble has passed.
//     Delay is not honoured, since a delivery never blocks.
//   - Heartbeat: asked when the session deadline is read. With Delay the latest
//     heartbeat that was answered was sent so much earlier. Nothing else is honoured.
//   - CloseConsumer, CloseProducer: Before severs as if the context had ended,
//     and fails. Never waits for the end of the context.
//   - Produce: Before acknowledges the error, and nothing was sent. After sends,
//     and acknowledges an unknown outcome. Never finds no buffer space.
//   - Ack: asked when the outcome is there. A message that is in the log is
//     acknowledged as unknown, one that failed as it is. Never keeps the outcome
//     back until Close gives up. Delay keeps it back so long.
//   - Flush: as it says.
package fault
