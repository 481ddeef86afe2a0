package drivertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func findOffsetsChecks() []check {
	return []check{
		{"FindOffsets", "FindOffsets asks for partitions of ConsumerConfig.Topics. A topic with an empty list stands for all of its partitions. The order of the answers is that of Topics, then of partitions. FindOffsets must ask the brokers at each call.", findOffsets},
		{"FindOffsetsByTime", "FoundOffsets.At is the offset of the first record in the log with a Timestamp of t or later. If there is no such record, At is End. A driver must round t up to milliseconds. For a t before 1970, At must be Begin.", findOffsetsByTime},
		{"FindOffsetsOfOpenTransactions", "FoundOffsets.End is the high watermark, and At may be a record of an open transaction, whatever ConsumerConfig.IsolationLevel is.", findOffsetsOfOpenTransactions},
		{"FindOffsetsAsksForTheEndsFirst", "FindOffsets must ask for the ends of the logs first and for the time after that, so that it does not pass a record that arrives in between.", findOffsetsAsksForTheEndsFirst},
		{"FindOffsetsBesideAMissingTopic", "What Read does about trouble of one partition and about missing topics, FindOffsets must do as well. A number above the partitions of a topic is an answer whose Err has the code UNKNOWN_TOPIC_OR_PARTITION.", findOffsetsBesideAMissingTopic},
	}
}

// offsetFinder returns a group that can look offsets up, or skips the case.
func (e *env) offsetFinder(cfg driver.ConsumerConfig) driver.OffsetFinder {
	e.t.Helper()
	f, ok := e.group(cfg).(driver.OffsetFinder)
	if !ok {
		e.t.Skipf("the group does not implement driver.OffsetFinder")
	}
	return f
}

// findOffsetsOf looks offsets up, which must succeed.
func (e *env) findOffsetsOf(f driver.OffsetFinder, of map[string][]int32, t time.Time) []driver.FoundOffsets {
	e.t.Helper()
	all, err := f.FindOffsets(e.context(), of, t)
	if err != nil {
		e.fatalf("FindOffsets: %v", err)
	}
	return all
}

// wantFound reports answers that differ from want.
func (e *env) wantFound(f driver.OffsetFinder, of map[string][]int32, t time.Time, want ...driver.FoundOffsets) {
	e.t.Helper()
	if got := e.findOffsetsOf(f, of, t); !slices.Equal(got, want) {
		e.errorf("FindOffsets of %v at %v returned\n%s\nwant\n%s", of, t, showFound(got), showFound(want))
	}
}

func showFound(all []driver.FoundOffsets) string {
	var lines []string
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("%s/%d: log from %d to %d, at %d, error %v", p.Topic, p.Partition, p.Begin, p.End, p.At, p.Err))
	}
	return strings.Join(lines, "\n")
}

// dated returns one record per time.
func dated(times ...time.Time) (records []driver.Record) {
	for i, t := range times {
		records = append(records, driver.Record{Value: fmt.Appendf(nil, "v%d", i), Timestamp: t})
	}
	return records
}

// anHourAgo returns a time of whole milliseconds, which no retention has reached.
func anHourAgo() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Millisecond) }

func findOffsets(e *env) {
	past := anHourAgo()
	one, two, three := e.topic(3), e.topic(1), e.topic(1)
	f := e.offsetFinder(e.consumerConfig(e.unique("group"), two, one, three))
	e.sendRecords(one, 0, dated(past, past.Add(time.Minute))...)
	e.sendRecords(one, 2, dated(past.Add(time.Minute))...)
	e.sendRecords(two, 0, dated(past, past, past)...)
	at := past.Add(time.Second)
	e.wantFound(f, map[string][]int32{one: nil, two: {}}, at,
		driver.FoundOffsets{Topic: two, End: 3, At: 3},
		driver.FoundOffsets{Topic: one, Partition: 0, End: 2, At: 1},
		driver.FoundOffsets{Topic: one, Partition: 1},
		driver.FoundOffsets{Topic: one, Partition: 2, End: 1})
	e.wantFound(f, map[string][]int32{one: {2, 0}}, at,
		driver.FoundOffsets{Topic: one, Partition: 0, End: 2, At: 1},
		driver.FoundOffsets{Topic: one, Partition: 2, End: 1})
	e.sendRecords(one, 1, dated(past, at)...)
	e.wantFound(f, map[string][]int32{one: {1}, three: nil}, at,
		driver.FoundOffsets{Topic: one, Partition: 1, End: 2, At: 1},
		driver.FoundOffsets{Topic: three})
}

func findOffsetsByTime(e *env) {
	past := anHourAgo()
	truncater := ability[Truncater](e)
	topic := e.topic(1)
	f := e.offsetFinder(e.consumerConfig(e.unique("group"), topic))
	ms := func(n int) time.Time { return past.Add(time.Duration(n) * time.Millisecond) }
	// One Send each: brokers keep the index of times per batch.
	for _, r := range dated(ms(0), ms(10), ms(20), ms(15), ms(30), ms(30)) {
		e.sendRecords(topic, 0, r)
	}
	e.must(truncater.Truncate(e.context(), topic, 0, 1))
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Time{}, 1}, {time.Unix(0, -1), 1}, {time.Unix(0, 0), 1}, {ms(0), 1}, {ms(10), 1}, {ms(10).Add(1), 2}, {ms(16), 2},
		{ms(20), 2}, {ms(20).Add(time.Microsecond), 4}, {ms(30), 4}, {ms(30).Add(1), 6}, {past.AddDate(5, 0, 0), 6},
	} {
		e.wantFound(f, map[string][]int32{topic: {0}}, c.at, driver.FoundOffsets{Topic: topic, Begin: 1, End: 6, At: c.want})
	}
}

func findOffsetsOfOpenTransactions(e *env) {
	past := anHourAgo()
	transactor := ability[Transactor](e)
	topic := e.topic(1)
	e.sendRecords(topic, 0, dated(past, past)...)
	end, err := transactor.Begin(e.context(), topic, 0, driver.Record{Value: []byte("open")}, driver.Record{Value: []byte("open")})
	e.must(err)
	defer func() { e.must(end(e.context(), false)) }()
	for _, level := range []driver.IsolationLevel{driver.ReadCommitted, driver.ReadUncommitted} {
		cfg := e.consumerConfig(e.unique("group"), topic)
		cfg.IsolationLevel = level
		e.wantFound(e.offsetFinder(cfg), map[string][]int32{topic: nil}, past.Add(time.Minute), driver.FoundOffsets{Topic: topic, End: 4, At: 2})
	}
}

func findOffsetsAsksForTheEndsFirst(e *env) {
	past := anHourAgo()
	const rounds = 10
	topic := e.topic(rounds)
	f := e.offsetFinder(e.consumerConfig(e.unique("group"), topic))
	for p := range int32(rounds) {
		e.sendRecords(topic, p, dated(past)...)
		answer := make(chan driver.FoundOffsets, 1)
		go func() {
			all, err := f.FindOffsets(e.context(), map[string][]int32{topic: {p}}, past.Add(time.Minute))
			if err != nil || len(all) != 1 {
				e.errorf("FindOffsets: %v, %v", all, err)
				all = make([]driver.FoundOffsets, 1)
			}
			answer <- all[0]
		}()
		time.Sleep(time.Duration(p) * time.Millisecond / 2)
		e.sendRecords(topic, p, dated(past.Add(time.Hour))...)
		if got := receive(e, "the answer of FindOffsets", answer); got.At != 1 {
			e.errorf("FindOffsets returned %s, want at 1: a record of the time asked for arrived there meanwhile", showFound([]driver.FoundOffsets{got}))
		}
	}
}

func findOffsetsBesideAMissingTopic(e *env) {
	past := anHourAgo()
	there, missing := e.topic(1), e.unique("missing")
	e.sendRecords(there, 0, dated(past)...)
	f := e.offsetFinder(e.consumerConfig(e.unique("group"), missing, there))
	for range 2 { // the second call would find what the first one has created
		all := e.findOffsetsOf(f, map[string][]int32{missing: nil, there: {0, 7}}, past)
		if len(all) != 3 {
			e.fatalf("FindOffsets returned\n%s\nwant a missing topic, a partition and a missing partition", showFound(all))
		}
		for _, i := range []int{0, 2} {
			if err := all[i].Err; codeOf(err) != "UNKNOWN_TOPIC_OR_PARTITION" || errors.Is(err, driver.ErrPermanent) {
				e.errorf("partition %d of %s, which does not exist: %v, want UNKNOWN_TOPIC_OR_PARTITION, not permanent", all[i].Partition, all[i].Topic, err)
			}
			all[i].Err = nil
		}
		want := []driver.FoundOffsets{
			{Topic: missing, Partition: -1, Begin: -1, End: -1, At: -1},
			{Topic: there, End: 1},
			{Topic: there, Partition: 7, Begin: -1, End: -1, At: -1},
		}
		if !slices.Equal(all, want) {
			e.errorf("FindOffsets returned\n%s\nwant\n%s", showFound(all), showFound(want))
		}
		e.quiet()
	}
}
