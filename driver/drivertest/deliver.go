package drivertest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func deliverChecks() []check {
	return []check{
		{ruleOrder, "Deliver hands over records of a claim, in rising order of offset, without a gap and without a repetition within the claim.", deliverInOrder},
		{"DeliverWholeRecords", "A Record is one record as it is stored in a partition. A nil key or value differs from an empty one.", deliverWholeRecords},
		{"DeliverAllHeaders", "The order of headers is significant, and a key may occur more than once.", deliverAllHeaders},
		{"DeliverTimestamps", "A Record has the timestamp that is stored in the partition.", deliverTimestamps},
		{ruleBytes, "After Deliver the driver must never write to the slice of the records, nor to anything that a record points to, including the slice of its headers.", deliveredBytesAreNeverWritten},
		{"DeliverLargeRecords", "A record larger than MaxMessageBytes must still be delivered, never skipped.", deliverLargeRecords},
		{ruleNoOverlap, "A driver must not overlap the calls for one claim.", callsForAClaimNeverOverlap},
		{ruleNext, "Every offset below Next has been delivered or holds no record.", nextPassesHoles},
		{"ReadCommitted", "ReadCommitted delivers no record of an open or aborted transaction.", readCommitted},
		{"ReadUncommitted", "ReadUncommitted also delivers the records of open and aborted transactions.", readUncommitted},
		{"HighWatermark", "HighWatermark is the offset after the last replicated record of the claim's partition, or -1 while it is unknown.", highWatermark},
		{"HighWatermarkIsKnownAtDelivery", "HighWatermark must not return -1 from the first Deliver of the claim on.", highWatermarkIsKnownAtDelivery},
		{"HighWatermarkOfAPausedClaim", "HighWatermark must be at most 30 seconds old while a leader answers, also for a paused claim.", highWatermarkOfAPausedClaim},
		{"HighWatermarkOfAnOpenTransaction", "HighWatermark must include the records of open transactions, also for a claim whose next record belongs to one.", highWatermarkOfAnOpenTransaction},
	}
}

// consume joins a group of one for a topic of one partition.
func consume(e *env, topic string, adapt ...func(*driver.ConsumerConfig)) (*member, *driver.Claim) {
	e.t.Helper()
	cfg := e.consumerConfig(e.unique("group"), topic)
	for _, a := range adapt {
		a(&cfg)
	}
	m := e.join(cfg)
	return m, m.waitClaims(1)[0]
}

func deliverInOrder(e *env) {
	const n = 300
	topic := e.topic(3)
	for p := range int32(3) {
		e.send(topic, p, numbered(fmt.Sprintf("early-%d", p), n)...)
	}
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(3)
	for i := range 10 {
		for p := range int32(3) {
			e.send(topic, p, fmt.Sprintf("late-%d-%d", p, i))
		}
	}
	for p, c := range claims {
		m.waitRecords(c, n+10)
		want := append(numbered(fmt.Sprintf("early-%d", p), n), numbered(fmt.Sprintf("late-%d", p), 10)...)
		m.wantValues(ruleOrder, c, want)
	}
}

// wantRecords waits for the records of a claim and reports those that differ from the
// sent ones.
func wantRecords(e *env, m *member, c *driver.Claim, sent []driver.Record) {
	e.t.Helper()
	got := m.waitRecords(c, len(sent))
	for i, want := range sent {
		want.Offset = got[i].Offset
		if want.Timestamp.IsZero() {
			want.Timestamp = got[i].Timestamp
		}
		if !sameRecord(got[i], want) {
			e.errorf("delivered %s, want %s", show(got[i]), show(want))
		}
	}
}

func deliverWholeRecords(e *env) {
	topic := e.topic(1)
	binary := []byte{0, 1, 0xff, '\n', 0xc3, 0x28}
	sent := []driver.Record{
		{Key: []byte("key"), Value: []byte("value")},
		{Key: nil, Value: []byte("no key")},
		{Key: []byte{}, Value: []byte("empty key")},
		{Key: []byte("tombstone"), Value: nil},
		{Key: []byte("empty value"), Value: []byte{}},
		{Key: nil, Value: nil},
		{Key: binary, Value: bytes.Repeat(binary, 100)},
	}
	e.sendRecords(topic, 0, sent...)
	m, claim := consume(e, topic)
	wantRecords(e, m, claim, sent)
}

func deliverAllHeaders(e *env) {
	topic := e.topic(1)
	sent := []driver.Record{
		{Value: []byte("none")},
		{Value: []byte("order"), Headers: []driver.Header{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}},
		{Value: []byte("twice"), Headers: []driver.Header{
			{Key: "k", Value: []byte("1")}, {Key: "other", Value: []byte("x")}, {Key: "k", Value: []byte("2")}, {Key: "k", Value: []byte("1")}}},
		{Value: []byte("empty"), Headers: []driver.Header{{Key: "", Value: nil}, {Key: "e", Value: []byte{}}, {Key: "bin", Value: []byte{0, 0xff}}}},
	}
	e.sendRecords(topic, 0, sent...)
	m, claim := consume(e, topic)
	wantRecords(e, m, claim, sent)
}

func deliverTimestamps(e *env) {
	topic := e.topic(1)
	base := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	sent := []driver.Record{
		{Value: []byte("a"), Timestamp: base},
		{Value: []byte("b"), Timestamp: base.Add(time.Millisecond)},
		{Value: []byte("c"), Timestamp: base.Add(-10 * time.Minute)},
	}
	e.sendRecords(topic, 0, sent...)
	m, claim := consume(e, topic)
	wantRecords(e, m, claim, sent)
}

func deliveredBytesAreNeverWritten(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	for round := range 5 {
		var records []driver.Record
		for i := range 50 {
			text := []byte(fmt.Sprintf("%d-%02d", round, i))
			records = append(records, driver.Record{Key: text, Value: text, Headers: []driver.Header{{Key: "h", Value: text}}})
		}
		e.sendRecords(topic, 0, records...)
		m.waitRecords(claim, 50*(round+1))
	}
	m.stop()
}

func deliverLargeRecords(e *env) {
	topic := e.topic(1)
	large := bytes.Repeat([]byte("large "), 20_000)
	sent := []driver.Record{{Value: []byte("small")}, {Value: large}, {Value: []byte("small again")}, {Value: large}}
	for _, r := range sent {
		e.sendRecords(topic, 0, r)
	}
	m, claim := consume(e, topic, func(cfg *driver.ConsumerConfig) { cfg.MaxMessageBytes = 1000 })
	wantRecords(e, m, claim, sent)
}

func callsForAClaimNeverOverlap(e *env) {
	topic := e.topic(2)
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	m.onDeliver = func(*driver.Claim, driver.Batch) { time.Sleep(time.Millisecond) }
	m.start()
	claims := m.waitClaims(2)
	for i := range 40 {
		e.send(topic, int32(i%2), numbered("v", 3)...)
	}
	m.waitRecords(claims[0], 60)
	m.waitRecords(claims[1], 60)
	e.send(topic, 0, numbered("w", 30)...)
	m.stop()
}

func nextPassesHoles(e *env) {
	holes := ability[HoleMaker](e)
	topic, group := e.topic(1), e.unique("group")
	e.send(topic, 0, numbered("a", 3)...)
	e.must(holes.MakeHole(e.context(), topic, 0, 4))
	e.send(topic, 0, numbered("b", 3)...)
	e.must(holes.MakeHole(e.context(), topic, 0, 2))

	cfg := e.consumerConfig(group, topic)
	m := e.join(cfg)
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 6)
	m.wantValues(e.name, claim, append(numbered("a", 3), numbered("b", 3)...))
	if got := m.records(claim)[3].Offset; got != 7 {
		e.errorf("the record after a hole of offsets 3 to 6 has offset %d, want 7", got)
	}
	m.commit(claim, 7)
	m.stop()
	next := e.join(cfg)
	claim = next.waitClaims(1)[0]
	next.waitRecords(claim, 3)
	next.wantValues(e.name, claim, numbered("b", 3))
}

func readCommitted(e *env) {
	tx := ability[Transactor](e)
	topic := e.topic(1)
	e.send(topic, 0, "before")
	e.transaction(tx, topic, false, "aborted")
	e.transaction(tx, topic, true, "committed")
	end, err := tx.Begin(e.context(), topic, 0, driver.Record{Value: []byte("open")})
	e.must(err)
	e.send(topic, 0, "after")

	m, claim := consume(e, topic)
	m.waitRecords(claim, 2)
	e.quiet()
	m.wantValues(e.name, claim, []string{"before", "committed"})
	e.must(end(e.context(), true))
	m.waitRecords(claim, 4)
	m.wantValues(e.name, claim, []string{"before", "committed", "open", "after"})
}

func readUncommitted(e *env) {
	tx := ability[Transactor](e)
	topic := e.topic(1)
	e.send(topic, 0, "before")
	e.transaction(tx, topic, false, "aborted")
	end, err := tx.Begin(e.context(), topic, 0, driver.Record{Value: []byte("open")})
	e.must(err)
	e.send(topic, 0, "after")

	m, claim := consume(e, topic, func(cfg *driver.ConsumerConfig) { cfg.IsolationLevel = driver.ReadUncommitted })
	m.waitRecords(claim, 4)
	m.wantValues(e.name, claim, []string{"before", "aborted", "open", "after"})
	e.must(end(e.context(), false))
}

// transaction sends records to partition 0 in one transaction and ends it.
func (e *env) transaction(tx Transactor, topic string, commit bool, values ...string) {
	e.t.Helper()
	var records []driver.Record
	for _, v := range values {
		records = append(records, driver.Record{Value: []byte(v)})
	}
	end, err := tx.Begin(e.context(), topic, 0, records...)
	e.must(err)
	e.must(end(e.context(), commit))
}

// watermarker returns the consumer of a member as a driver.HighWatermarker, or skips
// the case.
func watermarker(e *env, m *member) driver.HighWatermarker {
	e.t.Helper()
	hw, ok := m.consumer.(driver.HighWatermarker)
	if !ok {
		e.t.Skipf("the consumer does not implement driver.HighWatermarker")
	}
	return hw
}

// wantWatermark waits for a high watermark for as long as an old one may be reported.
func wantWatermark(e *env, m *member, c *driver.Claim, want int64) {
	e.t.Helper()
	hw := watermarker(e, m)
	deadline := time.Now().Add(30*time.Second + e.Grace)
	for hw.HighWatermark(c) != want {
		if time.Now().After(deadline) {
			e.fatalf("after 30 seconds the high watermark is %d, want %d", hw.HighWatermark(c), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func highWatermarkOfAPausedClaim(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	watermarker(e, m)
	e.send(topic, 0, numbered("v", 3)...)
	m.waitRecords(claim, 3)
	m.callPause(claim)
	wantStopped(e, m, claim)
	e.send(topic, 0, numbered("w", 40)...)
	wantWatermark(e, m, claim, int64(len(e.read(topic, 0))))
}

func highWatermarkOfAnOpenTransaction(e *env) {
	tx := ability[Transactor](e)
	topic := e.topic(1)
	m, claim := consume(e, topic)
	watermarker(e, m)
	e.send(topic, 0, numbered("v", 3)...)
	m.waitRecords(claim, 3)
	end, err := tx.Begin(e.context(), topic, 0, driver.Record{Value: []byte("open")})
	e.must(err)
	e.send(topic, 0, numbered("w", 20)...)
	wantWatermark(e, m, claim, 24)
	e.must(end(e.context(), true))
}

func highWatermarkIsKnownAtDelivery(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 7)...)
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	hw := watermarker(e, m)
	seen := make(chan int64, 1)
	m.onDeliver = func(c *driver.Claim, _ driver.Batch) {
		select {
		case seen <- hw.HighWatermark(c):
		default:
		}
	}
	m.start()
	if got := receive(e, "a delivery", seen); got != 7 {
		e.errorf("inside the first Deliver the high watermark is %d, want 7", got)
	}
}

func highWatermark(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	hw := watermarker(e, m)
	e.send(topic, 0, numbered("v", 7)...)
	m.waitRecords(claim, 7)
	e.eventually("a high watermark of 7", func() bool { return hw.HighWatermark(claim) == 7 })
	e.send(topic, 0, "v")
	m.waitRecords(claim, 8)
	e.eventually("a high watermark of 8", func() bool { return hw.HighWatermark(claim) == 8 })
}
