package kafkahttp

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/kafka"
)

// What a page says of each way to stand still: why, and what helps.
func TestWhy(t *testing.T) {
	now := time.Now()
	down := errors.New("down")
	running := kafka.ConsumerStatus{State: kafka.StateRunning, Switch: true}
	with := func(change func(*kafka.ConsumerStatus)) kafka.ConsumerStatus {
		s := running
		change(&s)
		return s
	}
	part := func(p kafka.PartitionStatus) kafka.ConsumerStatus {
		return with(func(s *kafka.ConsumerStatus) { s.Partitions = []kafka.PartitionStatus{p} })
	}
	for _, tt := range []struct {
		status kafka.ConsumerStatus
		label  string
		level  level
		text   string
	}{
		{part(kafka.PartitionStatus{Lag: 5}), "running", levelWell, ""},
		{running, "standby", levelOff, "On standby: it has no partitions here."},
		{kafka.ConsumerStatus{}, "off", levelOff, "Switched off in this process."},
		{kafka.ConsumerStatus{Switch: true}, "off", levelWarn, "Switched on, but the manager has not been started."},
		{kafka.ConsumerStatus{State: kafka.StateStarting}, "starting", levelBusy, "Waits to be let into its group."},
		{kafka.ConsumerStatus{State: kafka.StateStarting, Reason: down}, "starting", levelWarn, "Not a member of its group."},
		{kafka.ConsumerStatus{State: kafka.StateBackingOff, Reason: down, Errors: 1}, "backing off", levelWarn, "The start has failed."},
		{kafka.ConsumerStatus{State: kafka.StateBackingOff, Reason: down, Errors: 4}, "backing off", levelWarn, "4 starts in a row have failed."},
		{kafka.ConsumerStatus{State: kafka.StateDisabled, Reason: down}, "disabled", levelBad, "Given up."},
		{kafka.ConsumerStatus{State: kafka.StateStopping}, "stopping", levelBusy, "Waits for its handlers, then leaves its group."},
		{kafka.ConsumerStatus{State: kafka.StateStopped}, "stopped", levelOff, "The manager has shut down."},
		{with(func(s *kafka.ConsumerStatus) {
			s.Held = &kafka.HeldStatus{Err: down}
			s.Partitions = []kafka.PartitionStatus{{Buffered: 3, StandsSince: now.Add(-time.Hour), LastError: down, Failing: 3}}
		}), "held", levelWarn, "Held: nothing is handed out."},
		{with(func(s *kafka.ConsumerStatus) {
			s.CommitError, s.Partitions = down, []kafka.PartitionStatus{{}}
		}), "in trouble", levelWarn, "Positions cannot be committed."},
		{with(func(s *kafka.ConsumerStatus) {
			s.PolicyError, s.Partitions = down, []kafka.PartitionStatus{{}}
		}), "in trouble", levelWarn, "The failure policy does not work; such records are kept."},
		{with(func(s *kafka.ConsumerStatus) {
			s.DriverError, s.Partitions = down, []kafka.PartitionStatus{{}}
		}), "in trouble", levelWarn, "The connection to the brokers has had an error."},
		{with(func(s *kafka.ConsumerStatus) {
			s.TopicErrors = []kafka.TopicError{{Topic: "orders", Partition: -1, Err: down}}
		}), "in trouble", levelWarn, "orders cannot be read."},
		{with(func(s *kafka.ConsumerStatus) {
			s.TopicErrors = []kafka.TopicError{{Topic: "orders", Partition: 3, Err: down}}
		}), "in trouble", levelWarn, "orders/3 cannot be read."},
		{part(kafka.PartitionStatus{LastError: down, Errors: 1, Failing: 7}), "stands still", levelBad, "The record at offset 7 has failed."},
		{part(kafka.PartitionStatus{LastError: down, Errors: 9, Failing: 7}), "stands still", levelBad, "The record at offset 7 has failed 9 times."},
		{part(kafka.PartitionStatus{LastError: down, ForwardError: down, Errors: 9, Failing: 7}), "stands still", levelBad, "The copy of offset 7 to another topic fails."},
		{part(kafka.PartitionStatus{LastError: down, Errors: 9, Failing: 7, Undone: 1, BackingOff: 1}), "in trouble", levelBad, "The record at offset 7 has failed 9 times."},
		{part(kafka.PartitionStatus{LastError: down, Errors: 9, Failing: 7, Undone: 9, BackingOff: 1, Waiting: 5, Workers: 3}), "in trouble", levelBad, "The record at offset 7 has failed 9 times."},
		{part(kafka.PartitionStatus{LastError: down, Errors: 9, Failing: 7, Undone: 9, BackingOff: 1, Waiting: 8}), "stands still", levelBad, "The record at offset 7 has failed 9 times."},
		{part(kafka.PartitionStatus{StuckSince: now, Position: 7, Undone: 3}), "stands still", levelBad, "A handler does not return, though its time is up."},
		{part(kafka.PartitionStatus{StuckSince: now, Position: 7}), "stands still", levelBad, "The handler does not return from offset 7, though its time is up."},
		{part(kafka.PartitionStatus{InFlight: 1, Position: 7, StandsSince: now.Add(-time.Minute)}), "stands still", levelWarn, "The handler has been at offset 7 for a long time."},
		{part(kafka.PartitionStatus{InFlight: 1, Position: 7, StandsSince: now.Add(-time.Second)}), "running", levelWell, ""},
		{part(kafka.PartitionStatus{Buffered: 1, Position: 7, StandsSince: now.Add(-time.Minute)}), "stands still", levelWarn, "Offset 7 is ready and is not handed out."},
		{part(kafka.PartitionStatus{FetchError: down}), "stands still", levelBad, "Nothing more can be read."},
		{part(kafka.PartitionStatus{Paused: true}), "running", levelBusy, "Fetching waits for the handler, whose queue is full."},
	} {
		r := newRow(&tt.status, now, nil)
		said := ""
		if len(r.Whys) > 0 {
			said = r.Whys[0].Text
		} else if len(r.Parts) > 0 && len(r.Parts[0].Whys) > 0 {
			said = r.Parts[0].Whys[0].Text
		}
		assert.Equal(t, tt.text, said)
		assert.Equal(t, tt.label, r.Label(), tt.text)
		assert.Equal(t, tt.level, r.Level, tt.text)
		if r.Level >= levelWarn {
			assert.NotContains(t, get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{tt.status}}), "/").Body.String(), "</b> well", tt.text)
		}
	}
}

// A record that fails is more urgent than what passes, or may pass, by itself.
func TestUrgentReasonFirst(t *testing.T) {
	down := errors.New("down")
	s := kafka.ConsumerStatus{JobName: "orders", State: kafka.StateRunning, Switch: true, DriverError: down, CommitError: down, PolicyError: down}
	for i := range 25 {
		s.TopicErrors = append(s.TopicErrors, kafka.TopicError{Topic: fmt.Sprint("topic-", i), Partition: -1, Err: down})
	}
	page := func(path string) string {
		return get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}), path).Body.String()
	}
	assert.Contains(t, page("/"), "Positions cannot be committed.")
	one := page("/consumer?name=orders")
	assert.Equal(t, maxTopics, strings.Count(one, " cannot be read.</b>")-1)
	assert.Contains(t, one, "5 more topics or partitions cannot be read.")
	s.Partitions = []kafka.PartitionStatus{{Topic: "orders", Partition: 1, LastError: down, Errors: 2, Failing: 7}}
	for _, path := range []string{"/", "/consumer?name=orders"} {
		assert.Contains(t, page(path), "<b>orders/1</b> The record at offset 7 has failed 2 times.", path)
	}
	s = kafka.ConsumerStatus{JobName: "orders", State: kafka.StateRunning, Switch: true, DriverError: down}
	assert.Contains(t, page("/"), "The connection to the brokers has had an error.", "it comes before the standby")
}

// What a page says of the other records of a partition in which one fails.
func TestOtherRecords(t *testing.T) {
	p := kafka.PartitionStatus{LastError: errors.New("down"), Errors: 1, Failing: 7}
	assert.Equal(t, "The handler is at it again. Later records of this partition wait for it.", whyPartition(&p, false, time.Now())[0].Help)
	p.Undone, p.BackingOff, p.Waiting, p.DoneAbove, p.Workers, p.NextRetry = 1234, 2, 3, 4, 5, time.Now().Add(time.Minute)
	assert.Equal(t, "Records that need not wait for it go on. Of this partition, failed and waiting: 2; behind an earlier record of their key: 3; done above the position: 4.",
		whyPartition(&p, false, time.Now())[0].Help)
	h := newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "orders", State: kafka.StateRunning, Partitions: []kafka.PartitionStatus{p}}}})
	assert.Contains(t, get(t, h, "/consumer?name=orders").Body.String(), "<dt>Done above</dt><dd>4</dd>")
}

// What a page says of a pause: who has paused, and no fault that is none.
func TestPaused(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	s := kafka.ConsumerStatus{JobName: "orders", State: kafka.StateRunning, Switch: true, Partitions: []kafka.PartitionStatus{
		{Topic: "orders", Buffered: 3, StandsSince: long, Paused: true, PausedBy: []kafka.PauseReason{kafka.PausedByOperator}},
	}, PausedPartitions: []kafka.TopicPartition{{Topic: "orders"}, {Topic: "orders", Partition: 8}}}
	page := func(path string) string {
		return get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}), path).Body.String()
	}
	assert.Contains(t, page("/"), "Paused by an operator: orders/0, orders/8.")
	assert.Contains(t, page("/consumer?name=orders"), "<b>Paused by an operator.</b>")
	assert.NotContains(t, page("/consumer?name=orders"), "is not handed out.")
	s.Paused = true
	assert.Contains(t, page("/"), "Paused by an operator: nothing is handed out.")
	assert.Contains(t, page("/"), ">paused<")
	s.Paused, s.PausedPartitions = false, nil
	s.Partitions[0] = kafka.PartitionStatus{Topic: "orders", Paused: true, PausedBy: []kafka.PauseReason{kafka.PausedByDone}}
	assert.Contains(t, page("/consumer?name=orders"), "too many records are done above one that is not")
	s.Partitions[0].PausedBy = []kafka.PauseReason{kafka.PausedByQueue}
	assert.Contains(t, page("/consumer?name=orders"), "Fetching waits for the handler, whose queue is full.")
}

// What a page says of a rate: that it slows, where a record waits for its turn.
func TestRate(t *testing.T) {
	s := kafka.ConsumerStatus{JobName: "orders", State: kafka.StateRunning, Switch: true, MaxRate: 2.5, Partitions: []kafka.PartitionStatus{
		{Topic: "orders", Buffered: 3, StandsSince: time.Now().Add(-time.Hour), RateLimited: true},
	}}
	page := func(path string) string {
		return get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}), path).Body.String()
	}
	assert.Contains(t, page("/"), "Slowed by its rate: at most 2.5 records per second.")
	one := page("/consumer?name=orders")
	assert.Contains(t, one, "Slowed by the rate of the consumer.")
	assert.Contains(t, one, "<dt>Rate</dt><dd>at most 2.5 records per second</dd>")
	assert.NotContains(t, one, "is not handed out.")
	s.Partitions[0] = kafka.PartitionStatus{Topic: "orders"}
	assert.NotContains(t, page("/"), "Slowed")
}

// A record that is with its handler, or has failed, is shown though a later one of its retry
// topic waits.
func TestOldestOfARetryTopic(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name        string
		due, oldest time.Time
		isOld       bool
	}{
		{"all wait", now.Add(time.Minute), now.Add(time.Minute), false},
		{"the handler is at one that was due, and a later one waits", now.Add(time.Minute), now.Add(-time.Hour), true},
		{"all are due", time.Time{}, now.Add(-time.Hour), true},
		{"empty", time.Time{}, time.Time{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "orders", State: kafka.StateRunning, Switch: true, Since: now, Partitions: []kafka.PartitionStatus{{
				Topic: "retry", Failing: -1, Delay: time.Minute, Due: tt.due, Oldest: tt.oldest, InFlight: 1,
			}}}}}
			r := newRow(&s.consumers[0], now, nil)
			if assert.Equal(t, tt.isOld, r.Parts[0].IsOld); tt.isOld {
				assert.Equal(t, tt.oldest, r.Oldest)
			} else {
				assert.Zero(t, r.Oldest)
			}
			page := get(t, newTest(t, s), "/consumer?name=orders").Body.String()
			assert.Equal(t, !tt.due.IsZero(), strings.Contains(page, "<dt>Next due</dt>"))
			assert.Equal(t, tt.isOld, strings.Contains(page, "<dt>Oldest</dt>"))
			assert.Equal(t, tt.isOld, strings.Contains(page, "the oldest record is of"))
		})
	}
}

// The most urgent consumer comes first, and its worst partition with it.
func TestUrgentFirst(t *testing.T) {
	down := errors.New("down")
	h := newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{
		{JobName: "a-well", State: kafka.StateRunning, Partitions: []kafka.PartitionStatus{{}}},
		{JobName: "b-off"},
		{JobName: "c-fails", State: kafka.StateRunning, Partitions: []kafka.PartitionStatus{
			{Topic: "orders", Partition: 0}, {Topic: "orders", Partition: 1, LastError: down, Errors: 1, Lag: 3}, {Topic: "orders", Partition: 2, LastError: down, Errors: 2, Lag: 9}}},
	}})
	page := get(t, h, "/").Body.String()
	order := []int{strings.Index(page, "c-fails"), strings.Index(page, "b-off"), strings.Index(page, "a-well")}
	assert.IsIncreasing(t, order)
	assert.Contains(t, page, "<b>orders/2</b> The record at offset 0 has failed 2 times.")
	assert.Contains(t, page, "2 partitions stand still.")
	assert.Contains(t, page, `<li class="bad"><b>1</b> waiting for an operator</li>`)
	one := get(t, h, "/consumer?name=c-fails").Body.String()
	assert.IsIncreasing(t, []int{strings.Index(one, `id="p-orders/1"`), strings.Index(one, `id="p-orders/2"`), strings.Index(one, `id="p-orders/0"`)})
}

// Buttons show what can be done now, and no other.
func TestButtons(t *testing.T) {
	down := errors.New("down")
	flow := regexp.MustCompile(`^(Pause|Resume) orders|^Set the rate$|^Show what a (move|redrive) would do$`)
	split := func(s kafka.ConsumerStatus) (all, flowing []string) {
		s.JobName = "orders"
		page := get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}, WithControls()), "/consumer?name=orders").Body.String()
		for _, b := range strings.Split(page, "<button")[1:] {
			_, b, _ = strings.Cut(b, ">")
			if b, _, _ = strings.Cut(b, "<"); flow.MatchString(b) {
				flowing = append(flowing, b)
			} else {
				all = append(all, b)
			}
		}
		return all, flowing
	}
	buttons := func(s kafka.ConsumerStatus) []string {
		all, _ := split(s)
		return all
	}
	failing := []kafka.PartitionStatus{{Topic: "orders", LastError: down, Errors: 1, Failing: 7}, {Topic: "orders", Partition: 1, Failing: -1}}
	assert.Equal(t, []string{"Switch on"}, buttons(kafka.ConsumerStatus{}))
	assert.Equal(t, []string{"Switch on"}, buttons(kafka.ConsumerStatus{State: kafka.StateDisabled}))
	assert.Empty(t, buttons(kafka.ConsumerStatus{State: kafka.StateStopped}))
	assert.Empty(t, buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateStopped}))
	assert.Equal(t, []string{"Switch orders off"}, buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateRunning}))
	assert.Equal(t, []string{"Switch orders off", "Start now"}, buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateBackingOff}))
	assert.Equal(t, []string{"Switch orders off", "End the hold"}, buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateRunning, Held: &kafka.HeldStatus{}}))
	assert.Equal(t, []string{"Switch orders off", "Try offset 7 now", "Skip offset 7"}, buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateRunning, Partitions: failing}))
	assert.Equal(t, []string{"Switch orders off", "Try offset 7 now", "Send offset 7 to the dead letters", "Skip offset 7"},
		buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateRunning, Forwards: true, Partitions: failing}))
	assert.Equal(t, []string{"Switch orders off", "End the hold", "Skip offset 7"},
		buttons(kafka.ConsumerStatus{Switch: true, State: kafka.StateRunning, Held: &kafka.HeldStatus{}, Partitions: failing}))
	flowing := func(s kafka.ConsumerStatus) []string {
		_, flowing := split(s)
		return flowing
	}
	assert.Equal(t, []string{"Pause orders", "Set the rate", "Show what a move would do"}, flowing(kafka.ConsumerStatus{}))
	assert.Equal(t, []string{"Pause orders", "Set the rate", "Show what a move would do"}, flowing(kafka.ConsumerStatus{State: kafka.StateDisabled}))
	for _, state := range []kafka.State{kafka.StateStarting, kafka.StateBackingOff, kafka.StateStopping, kafka.StateRunning} {
		assert.Equal(t, []string{"Pause orders", "Set the rate"}, flowing(kafka.ConsumerStatus{State: state}), "%v, without partitions", state)
	}
	assert.Empty(t, flowing(kafka.ConsumerStatus{State: kafka.StateStopped}))
	own := []kafka.TopicPartition{{Topic: "orders", Partition: 1}}
	assert.Equal(t, []string{"Pause orders", "Resume orders", "Set the rate", "Show what a move would do", "Pause orders/0", "Resume orders/1"},
		flowing(kafka.ConsumerStatus{State: kafka.StateRunning, PausedPartitions: own, Partitions: failing}))
	assert.Equal(t, []string{"Resume orders", "Set the rate", "Show what a move would do", "Pause orders/0", "Resume orders/1"},
		flowing(kafka.ConsumerStatus{State: kafka.StateRunning, Paused: true, PausedPartitions: own, Partitions: failing}))
}

// many returns consumers with partitions, of which the first of each fails.
func many(consumers, partitions int) *fakeSource {
	now, s := time.Now(), &fakeSource{}
	err := errors.New(`post "https://payments.internal/charge": dial tcp 10.0.0.1:443: connect: connection refused & more <text> that is long enough to be cut`)
	for i := range consumers {
		c := kafka.ConsumerStatus{JobName: fmt.Sprintf("consumer-of-some-orders-%d", i), Group: "shop", Topics: []string{fmt.Sprint("orders-of-region-", i)}, State: kafka.StateRunning,
			Switch: true, Since: now, DeadLetters: 12345, Skipped: 17}
		for p := range partitions {
			ps := kafka.PartitionStatus{Topic: c.Topics[0], Partition: int32(p), Position: 123456789, Committed: 123456789, HighWatermark: 123457789, Lag: 1000, Buffered: 500,
				InFlight: 1, Oldest: now, StandsSince: now, Failing: -1}
			if p == 0 {
				ps.Failing, ps.Errors, ps.LastError, ps.NextRetry = ps.Position, 7, err, now.Add(time.Minute)
			}
			c.Partitions = append(c.Partitions, ps)
		}
		s.consumers = append(s.consumers, c)
	}
	return s
}

// The overview of 1,000 failing consumers with 100 partitions each is less than 2 MB, and
// made in less than a second; BenchmarkOverview says how long it takes.
func TestOverviewIsBounded(t *testing.T) {
	h := newTest(t, many(1000, 100))
	for range historyKept {
		h.history.take()
	}
	for _, e := range allEvents(strings.Repeat("long ", 500)) {
		h.event(e)
	}
	began := time.Now()
	n := get(t, h, "/").Body.Len()
	took := time.Since(began)
	t.Logf("%d bytes in %v", n, took)
	assert.Less(t, n, 2_000_000)
	assert.Greater(t, n, 200_000)
	if took > time.Second { // a machine that does other things besides
		began = time.Now()
		get(t, h, "/")
		took = time.Since(began)
	}
	if race {
		t.Log("the time is not judged with the race detector")
	} else {
		assert.Less(t, took, time.Second)
	}

	one := newTest(t, many(1, 5000))
	page := get(t, one, "/consumer?name=consumer-of-some-orders-0").Body.String()
	assert.Equal(t, maxParts, strings.Count(page, `<li id="p-`))
	assert.Contains(t, page, "4000 more partitions")
	assert.Less(t, len(page), 2_000_000)
	assert.Contains(t, get(t, newTest(t, many(2000, 1)), "/").Body.String(), "500 more consumers")
}

func BenchmarkOverview(b *testing.B) {
	h := newTest(b, many(1000, 100))
	for b.Loop() {
		get(b, h, "/")
	}
}

// BenchmarkLive is one version of the overview that all readers share: 20 consumers of 8
// partitions. One is made every two seconds.
func BenchmarkLive(b *testing.B) {
	h := newTest(b, many(20, 8))
	for b.Loop() {
		_, found := h.fragment("")
		assert.True(b, found)
	}
}

// Times in words, numbers in groups.
func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min 1 s", 2*time.Hour + 3*time.Minute: "2 h 3 min", 50 * time.Hour: "2 d 2 h",
	} {
		assert.Equal(t, want, span(d))
	}
	assert.Equal(t, "–", number(-1))
	assert.Equal(t, "1\u202f234\u202f567", number(1234567))
	assert.Equal(t, "12", number(12))
	assert.Equal(t, graph{}, newGraph(nil))
	assert.Equal(t, graph{}, newGraph([]int64{-1, -1, 3, 3, 3, 3, 3}))
	assert.Equal(t, graph{[]string{"109,23 111,23 113,23 115,23 117,1 120,12"}, "Lag over the last 1 min: from 0 to 5, at most 10.", "lag, last 10 min, at most 10"}, newGraph([]int64{0, 0, 0, 0, 10, 5}))
	assert.Equal(t, graph{[]string{"109,23 111,23 113,23 115,23 117,23 120,23"}, "Lag over the last 1 min: from 0 to 0, at most 0.", "lag, last 10 min, at most 0"}, newGraph([]int64{0, 0, 0, 0, 0, 0}))
	assert.Equal(t, graph{[]string{"107,1 109,1", "113,1 115,1 117,1"}, "Lag over the last 1 min: from 3 to unknown, at most 3.", "lag, last 10 min, at most 3"}, newGraph([]int64{-1, 3, 3, -1, 3, 3, 3, -1}))
	assert.Empty(t, text(nil))
	assert.Less(t, len(printable(strings.Repeat("ä", 5000))), maxText+10)
}
