// Package kafkahttp shows a manager to operators: as a page, as JSON, and to probes.
//
// # Overview
//
// [New] returns an http.Handler for the program's own mux. It listens on no port.
//
//	mux.Handle("/kafka/", http.StripPrefix("/kafka", kafkahttp.New(manager)))
//
// The path has to end with a slash: links on the page are relative. Make one handler per
// manager; it follows the manager until that has shut down, and then ends its streams.
//
//	GET  /                   the page: consumers, those that stand still first
//	GET  /consumer?name=N    the page of one consumer, with its partitions
//	GET  /consumers          the status of all consumers, as JSON
//	GET  /consumers/{name}   the status of one
//	GET  /lag?name=N         the page of the lag of a consumer's whole group
//	GET  /consumers/{name}/lag   the same as JSON: kafka.Manager.Lag
//	GET  /producers          the status of all producers
//	GET  /events             the latest events, as JSON, or as server-sent events
//	GET  /ready              200, or 503 with the reason: kafka.Manager.Ready
//	GET  /healthy            the same for kafka.Manager.Healthy
//	POST /actions/{action}   with WithControls: an action, see below
//
// A GET changes nothing. Everything but the lag of a group is about this process alone:
// another instance of the program has a page of its own.
//
// The lag of a group is asked of the brokers, when it is asked for, within five seconds.
// Readers of the same group share a question and, for two seconds, its answer. At most four
// groups are asked for at a time; a reader that finds no place in time gets 503. A driver
// that cannot read groups from outside makes it 501.
//
// # Access
//
// The handler knows no users. Every caller sees names of consumers, topics, groups and
// clients, offsets, and the texts of errors, which can quote data; never payloads, keys or
// the values of headers. [WithoutErrors] replaces the texts. With
// [WithControls] it also changes what runs. Put the program's authentication in front of
// all but the probes, whose answers name consumers and quote errors, too:
//
//	page := http.StripPrefix("/kafka", kafkahttp.New(manager, kafkahttp.WithControls()))
//	mux.Handle("GET /kafka/ready", page)
//	mux.Handle("GET /kafka/healthy", page)
//	mux.Handle("/kafka/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//		if !isOperator(r) {
//			http.Error(w, "forbidden", http.StatusForbidden)
//			return
//		}
//		page.ServeHTTP(w, r)
//	}))
//
// Requests of other sites are refused by http.CrossOriginProtection, so that a page
// elsewhere cannot press a button in an operator's browser. A proxy in front has to pass the
// Host on. DNS rebinding is not stopped by that, but by authentication.
//
// # Actions
//
// The body of an action is JSON or a form, with the fields of the action:
//
//	switch    consumer, on (true or false)
//	resolve   consumer, partition (topic/number), offset, do (keep, skip or dead letter);
//	          confirm (true) with skip and dead letter, which cannot be undone
//	end-hold  consumer
//	pause     consumer, partition (without it the whole consumer)
//	resume    consumer, partition (without it everything)
//	rate      consumer, perSecond
//	seek      consumer, partition (without it as kafka.Manager.Seek); to (beginning, end,
//	          time or offset), with time (RFC 3339) or offset; dryRun or confirm (true)
//	redrive   consumer; from (last, start or time), with time; to (empty for the first
//	          retry topic, or {source}); limit, perSecond; dryRun or confirm (true)
//
// The answer says what was done: as {"done": "..."}, or for a form by the page. An action
// that is refused says why, as {"error": "..."}: with 400 if the body makes no sense, 404 for
// an unknown consumer, 501 if the driver cannot do it, and 409 if the manager refuses it, or
// if the handler is still at the record after the five seconds for which resolve waits.
//
// With dryRun seek and redrive change nothing. The answer says what they would do: as
// {"would": "...", "partitions": [...]} or {"would": "...", "report": {...}}, or for a form by a
// page that asks for the confirmation. Without dryRun they need confirm, since they cannot be
// undone.
//
// The numbers of records of a seek are differences of offsets, and so upper bounds. A seek
// goes on when its caller leaves, for at most 30 seconds.
//
// A redrive sends at most limit dead letters (1,000 without it, at most 100,000). It ends after
// 30 seconds, and when its caller leaves. Its position is committed by then, and a later
// redrive from last goes on there. "more": true says that it has ended at its limit or its
// time. One redrive of a consumer runs at a time; another one is refused with 409.
//
// # Events
//
// The handler keeps the latest 500 events of the manager since New. A reader of /events
// that accepts text/event-stream gets those, and then each new one. After a reconnect it
// goes on behind its Last-Event-ID; an event named missed says how many are gone. A reader
// that does not read for ten seconds is dropped.
//
// # Shutdown
//
// Streams end when the manager has shut down. http.Server.Shutdown waits for them, so it
// comes after Manager.Shutdown, or the program's context is the BaseContext of the server,
// which ends them at once:
//
//	server := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
package kafkahttp
