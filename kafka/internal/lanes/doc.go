// Package lanes holds the records of one partition, of which many are handled at once:
// those that are not done, in order, and what may be committed. Package window does the
// same for one record after the other, and is faster at it.
//
// # Slots and lanes
//
// [Window.Push] gives each record a slot. The slots of one key are its lane, and only
// the first slot of a lane can be handed out: the others wait. A record without a key,
// or every record of a window without lanes, is alone in its lane. A nil key is no key;
// an empty key is one. A slot is in one of these states:
//
//	waits ──▶ ready ──▶ runs ──▶ done
//
// [Window.Take] gives a ready slot to a goroutine, about the oldest first. So a key that
// has more records than others is not held up by them, and the position follows closely.
// A slot whose record fails runs until it is done: the goroutine that has it decides what
// becomes of it, and calls [Window.Finish].
//
// # Done
//
// A slot that is done is used again for another record. What is left of it is its offset,
// as part of a run of finished offsets. So the memory of a window depends on what is not
// done, and on the number of runs, however long one record takes.
//
// The position is the offset to go on from after a crash: everything below it is done,
// or holds no record. It is never the offset of a record that is known to be done. The
// finished runs above it can go with it into a commit, as the text of package finished.
// A window that has too many of them is full; see [Window.Full].
//
// # Concurrency
//
// A Window has no lock, no goroutine and no timer. Its owner guards it by a mutex.
package lanes
