// Package kafka runs consumers and producers whose messages must not be lost. A
// program provides a handler. The package provides the rest: group membership,
// on/off switches at run time, fetching, back-pressure, retry with backoff,
// committing only what was handled, draining, and shutting down.
//
// # Overview
//
// A program chooses a driver and runs its consumers until ctx ends:
//
//	manager := kafka.New(sarama.Driver{})
//	err := manager.Run(ctx, consumer)
//
// [Manager.Run] is these steps, which can also be taken one by one:
//
//	err := manager.RegisterConsumer(ctx, consumer)
//	err = manager.SetConsumerSwitch("my-consumer", true)
//	err = manager.StartAllConsumers(ctx)
//	manager.WaitStop()
//
// The functions of the package serve the [Default] manager, which [SetDefault]
// sets. Two managers share nothing. A consumer implements [Consumer], or
// [MessageConsumer] for the whole record, or [BatchConsumer] for several at
// once; [NewConsumer] makes one of a function. A [Producer] sends, with or
// without waiting, over one client.
//
// # Delivery
//
// Delivery is at least once. A record is committed only when it and every earlier
// record of its partition are done. A record is done when its handler has returned
// nil, when a policy or a mark that the program chose has skipped it, or when a broker
// has acknowledged its copy in the dead-letter topic. That holds when a handler returns
// an error, panics or calls runtime.Goexit, and when a commit, the connection or the
// process fails. Records of one partition are handled one after the other, in
// order, unless [ConsumerConfig].Order allows several at once; several partitions are
// handled at the same time. No record is skipped
// because of its size or its content, and none because of its handler's failures unless
// the program asks for that.
//
// A record may be handled again after a crash, a lost partition, or a handler that
// outlived its drain window, so handlers should be idempotent. With AutoCommit,
// records are committed when they are handed out: at most once, for consumers that
// accept losses.
//
// # Back-pressure
//
// Each partition has a queue, bounded in records and in bytes. A full queue stops
// the fetching of its own partition only.
//
// # Switches
//
// A registered consumer is off. [Manager.SetConsumerSwitch] acts at once, in every
// state. The switch is the desired state. [Manager.Consumers] returns the actual
// one: a [State], its reason and since when, errors in a row, the next retry, and
// each partition's position and lag.
//
//	off → starting → running → stopping → off, disabled, backing off or stopped
//	      starting ← running, while the group may have removed it
//	      starting → backing off → starting …
//
// # Failure
//
// A handler's error fails its record. The partition waits 1s, then 2s, 4s, and so
// on up to 60s, and hands the same record out again after each wait, until the
// handler succeeds. With OrderByKey only the record's key waits, and with OrderNone only
// the record. Meanwhile all other partitions, the membership and the
// heartbeats continue. By default a failing record never switches its consumer off. It
// shows in the status of its partition, in [HandlerFailed] and in the log.
//
// A [FailurePolicy] limits the attempts: then the record goes to a dead-letter topic, is
// skipped, or switches the consumer off. Before that it can wait in retry topics
// ([RetryTopic]), and its partition goes on. A handler decides for one error by a mark:
// [Retry], [Skip], [DeadLetter], [Stop], or [Hold], which blames an outage and makes the
// whole consumer wait. A batch names the records that failed by a [BatchError]. In every
// case a record is committed only if its handler returned nil, if hooks have got
// [RecordSkipped], or if a broker has acknowledged its copy.
//
// A consumer that cannot connect, or whose driver fails in a way that joining the
// group again does not cure, is started again with the same backoff. It is disabled
// after MaxConsecutiveErrors failed starts in a row, and at once if no retry can
// help ([ErrPermanent]): its switch goes off, the reason is in its status, and
// switching it on starts it again. With DisabledRetry it also starts again by
// itself. A handled record sets the count to zero. A failed commit is reported and
// tried again; the consumer keeps running.
//
// # Shutdown
//
// [Manager.Shutdown] stops everything in one order. [Manager.Run] does so when its
// context ends, and [Manager.WaitStop] when that of [Manager.StartAllConsumers]
// ends. The order is: no further record is
// handed out; running handlers finish; what was handled is committed; the
// groups are left; the producers are flushed and closed. Handlers may send
// while they drain. Their contexts are cancelled only when the deadline is near.
//
// # Testing
//
// Package kafkatest gives a unit test a broker in memory and a manager on it.
package kafka
