package simulation

// operatingMutations are bugs of pauses, rates and retry topics. The simulation finds the
// first ones. Tests of package kafka find those that hand out or commit too late, or handle
// more than need be, of which the judge expects nothing, and one that strikes between two
// steps of a lane.
var operatingMutations = append(planted([][4]string{
	// Pauses.
	{"resume by the queue", "partition_flow.go", "in.flow.lift(pauseQueue)", "in.flow.lift(pauseQueue | pauseOperator)"},
	{"a pause ends with its claim", "pause.go", "\tif s.holds(p) {\n\t\tp.setPaused(true)\n\t}\n", ""},
	{"a pause stops fetching alone", "pause.go", "\tp.brake.setPaused(paused)\n", ""},
	{"a resumed partition is not fetched", "pause.go", "\t\tin.flow.lift(pauseOperator)\n", ""},
	{"no lane begins after a pause", "pause.go", "\tif p.crew != nil {\n\t\tp.crew.begin(seats)\n\t}\n\tin.settle(unmet, false)", "\t_ = seats\n\tin.settle(unmet, false)"},

	// Rates.
	{"rate ignored after a rebalance", "rate.go", "\tr.brakes[b] = true\n\tb.setRated(r.perSecond > 0)\n", "\tr.brakes[b] = true\n\tb.setRated(r.perSecond > 0 && r.at.IsZero())\n"},
	{"another burst after a rebalance", "rate.go", "\tr.brakes[b] = true\n\tb.setRated(r.perSecond > 0)\n", "\tr.brakes[b] = true\n\tr.tokens = r.burst()\n\tb.setRated(r.perSecond > 0)\n"},
	{"a turn at the rate waits for a place of the consumer", "partition_crew.go", "\tif waits && c.brake.rated() {\n", "\tif waits && false {\n"},
	{"a record that waits for the rate is forgotten", "rate.go", "r.timer = time.AfterFunc(wait, r.tick)", "r.timer = time.AfterFunc(wait, r.running.Done)"},

	// Retry topics.
	{"a record comes before its time", "partition_due.go", "return at.Add(w.delay)", "return at.Add(w.delay / 2)"},
	{"no timer for a record that waits", "partition_due.go", "w.timer = time.AfterFunc(left, w.ring)", "w.timer = time.AfterFunc(left, func() {})"},
	{"the next retry topic is the first", "retry_topic.go", "\t\tfrom = p.tier + 1\n", "\t\tfrom = 0 * p.tier\n"},
	{"a drained retry topic is written", "retry_topic.go", "if t := &r.tiers[i]; !t.Drain {", "if t := &r.tiers[i]; true {"},
	{"attempts begin again in a retry topic", "retry_headers.go", "\t\tm.Attempt += o.attempts\n", ""},
	{"a record of another group is handled", "retry_headers.go", "case string(group) != r.group:", "case false:"},
	{"a copy in a retry topic that no broker has", "failure_forward.go", "if f := letters[i]; answer.err == nil {", "if f := letters[i]; answer.err == nil || f.do == FailureRetryTopic {"},
	{"several attempts in a retry topic", "failure.go", "(usedUp || l.delays) && f.do", "usedUp && f.do"},
	{"a retry topic is read from its end", "config_consumer.go", "\td.OldestTopics = newRetries(&c).topics(false)\n\td.Topics = slices.Concat(c.Topics, d.OldestTopics)", "\td.Topics = slices.Concat(c.Topics, newRetries(&c).topics(false))"},
	{"a batch has records that are not due", "partition_due.go", "return in.serial.Prefix(n, in.wait.isDue)", "return n"},
	{"a lane of a crew does not wait until a record is due", "partition_crew.go", " || c.early()", ""},
	{"a handler gets the marks of a retry topic", "retry_headers.go", "\tm.Headers = withoutRetry(m.Headers)\n", ""},
	{"dead letter names the retry topic", "deadletter.go", "\t\tsource:   f.origin.source,\n", "\t\tsource:   Source{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset},\n"},
}),
	mutation{"a record that is dated ahead waits as long", "partition_due.go", "w.ahead[i].at.Before(at)", "false", [2]string{"kafka", "Clock|Ahead|Dated"}},
	mutation{"when a record came is forgotten", "partition_due.go", "w.ahead[0].offset < next.Offset", "w.ahead[0].offset <= next.Offset", [2]string{"kafka", "Clock|Ahead|Dated"}},
	mutation{"a retry topic stands still while all wait", "health.go", "case !ps.Due.IsZero() && len(calls) == 0:", "case false:", [2]string{"kafka", "Retry|Health|Stuck|Stand"}},
	mutation{"a probe of a paused partition", "partition_brake.go", "\t\tflags &^= flagHeld\n", "\t\tflags &^= flagHeld | flagPaused\n", [2]string{"kafka", "TestAPauseBehindTheGateBarsTheProbe"}},
	mutation{"a commit forgets what has moved meanwhile", "session_schedule.go", "\ts.earliest = time.Now().Add(commitGap)\n\tif err", "\ts.earliest = time.Now().Add(commitGap)\n\ts.clear()\n\tif err", [2]string{"kafka", "TestAPositionThatMovesDuringACommitIsInTheNext"}},
)
