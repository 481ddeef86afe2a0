package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// produceLimitChecks check two rules. A broker's refusal of a batch or a request
// applies to a message only if the message is alone in it. The configuration alone
// decides for how long a message is retried.
func produceLimitChecks() []check {
	return []check{
		{"ProduceSplitsLargeBatches", "A driver must split a batch that is too large for the topic and send its parts in order. Only a message that is too large by itself fails.", produceSplits},
		{"ProduceLargerThanABatch", "One message may be larger than MaxBatchBytes, up to MaxMessageBytes.", produceLargerThanABatch},
		{"ProduceRefusesOneAlone", "A message that the broker refuses must fail alone and permanently. The driver must send the others of its batch, in order.", produceRefusesOne},
		{"ProduceRefusesOldDates", "A message dated before 1970 must fail alone and permanently.", produceRefusesOldDates},
		{"ProduceToUnknownPartitionNamesIt", "A message to a partition that does not exist must fail with UNKNOWN_TOPIC_OR_PARTITION, and must never go to another partition.", produceUnknownPartitionSays},
		{"ProduceHeadersWithoutName", "A header may have an empty key, a nil value or an empty value.", produceHeadersWithoutName},
		{"DeliveryTimeoutOutlasts", "With DeliveryTimeout, a driver must retry until then, regardless of MaxRetries.", deliveryTimeoutOutlasts},
		{"DeliveryTimeoutEnds", "At the end of DeliveryTimeout, counted from acceptance, the driver must acknowledge the message with an error.", deliveryTimeoutEnds},
	}
}

// together sends messages while no broker answers, so that a driver that batches
// messages batches these.
func together(e *env, p *sender, messages ...*driver.Message) (all []*sent) {
	e.t.Helper()
	heal := e.silence()
	for _, m := range messages {
		all = append(all, p.produce(e.context(), m))
	}
	heal()
	return all
}

// wantAllBut reports a good message that is not stored, in order, and a bad message
// that was not refused permanently with code.
func wantAllBut(e *env, all []*sent, code string, bad ...int) {
	e.t.Helper()
	var want []string
	for i, s := range all {
		if slices.Contains(bad, i) {
			wantRefusedPermanently(e, s, code)
			continue
		}
		wantDelivered(e, s)
		want = append(want, number(string(s.m.Value)))
	}
	var got []string
	for _, v := range values(e.read(all[0].m.Topic, all[0].m.Partition)) {
		got = append(got, number(v))
	}
	if !slices.Equal(got, want) {
		e.errorf("the log holds %s, want all messages but %d refused ones, in order: %s", brief(got), len(bad), brief(want))
	}
}

func wantRefusedPermanently(e *env, s *sent, code string) {
	e.t.Helper()
	err := s.outcome()
	if codeOf(err) != code || !errors.Is(err, driver.ErrPermanent) || errors.Is(err, driver.ErrUnknownOutcome) {
		e.errorf("message %s was acknowledged with %v, want a permanent %s", showBytes(s.m.Value), err, code)
	}
}

// number returns the number of a padded value.
func number(value string) string {
	n, _, _ := strings.Cut(value, "-")
	return n
}

// padded returns n numbered messages to partition 0, with size bytes of padding.
func padded(topic string, n, size int) (messages []*driver.Message) {
	for i := range n {
		value := append(fmt.Appendf(nil, "%04d-", i), bytes.Repeat([]byte("."), size)...)
		messages = append(messages, &driver.Message{Topic: topic, Value: value})
	}
	return messages
}

func produceSplits(e *env) {
	const limit = 20_000
	topic := e.limitedTopic(1, limit, 0)
	p := e.producer()
	messages := padded(topic, 300, 500)
	for _, i := range []int{100, 299} {
		messages[i].Value = append(messages[i].Value, make([]byte, limit)...)
	}
	wantAllBut(e, together(e, p, messages...), "MESSAGE_TOO_LARGE", 100, 299)
}

func produceLargerThanABatch(e *env) {
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxMessageBytes, cfg.MaxBatchBytes = 100_000, 2_000 })
	messages := padded(topic, 100, 500)
	for _, i := range []int{0, 50, 99} {
		messages[i].Value = append(messages[i].Value, make([]byte, 50_000)...)
	}
	wantAllBut(e, together(e, p, messages...), "")
}

func produceRefusesOne(e *env) {
	topic := e.limitedTopic(1, 0, time.Hour)
	p := e.producer()
	messages := padded(topic, 300, 10)
	for _, i := range []int{0, 150, 299} {
		messages[i].Timestamp = time.Now().Add(48 * time.Hour)
	}
	wantAllBut(e, together(e, p, messages...), "INVALID_TIMESTAMP", 0, 150, 299)
}

func produceRefusesOldDates(e *env) {
	topic := e.topic(1)
	p := e.producer()
	messages := padded(topic, 100, 10)
	for _, i := range []int{0, 50, 99} {
		messages[i].Timestamp = time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	wantAllBut(e, together(e, p, messages...), "INVALID_TIMESTAMP", 0, 50, 99)
}

func produceUnknownPartitionSays(e *env) {
	topic := e.topic(2)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 3 })
	s := p.produceAll(topic, 99, "v")[0]
	if err := s.outcome(); codeOf(err) != "UNKNOWN_TOPIC_OR_PARTITION" || errors.Is(err, driver.ErrUnknownOutcome) {
		e.errorf("a message to partition 99 of 2 was acknowledged with %v, want a certain UNKNOWN_TOPIC_OR_PARTITION", err)
	}
	for id := range int32(2) {
		if n := len(e.read(topic, id)); n > 0 {
			e.errorf("a message to partition 99 is stored in partition %d", id)
		}
	}
}

func produceHeadersWithoutName(e *env) {
	produceEach(e, &driver.Message{Value: []byte("v"), Headers: []driver.Header{
		{Key: "", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "", Value: []byte{}}, {Key: "k", Value: []byte{}},
	}})
}

func deliveryTimeoutOutlasts(e *env) {
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries, cfg.DeliveryTimeout = 1, e.Patience })
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	all := p.produceAll(topic, 0, numbered("before", 20)...)
	heal := e.cut(cutter)
	all = append(all, p.produceAll(topic, 0, numbered("v", 50)...)...)
	e.quiet()
	heal()
	wantDelivered(e, all...)
	wantOrder(e, topic, 0, "v", 50)
}

func deliveryTimeoutEnds(e *env) {
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.DeliveryTimeout = e.Quiet })
	e.eventually("a message is delivered", func() bool { // on a busy machine the first may expire
		return p.produceAll(topic, 0, "first")[0].outcome() == nil
	})
	e.cut(cutter)
	began := time.Now()
	s := p.produceAll(topic, 0, "v")[0]
	if err := s.outcome(); err == nil {
		e.errorf("a message was acknowledged with nil while the brokers were unreachable")
	}
	switch took := time.Since(began); {
	case took < e.Quiet:
		e.errorf("a message failed after %v, want at least DeliveryTimeout, %v", took, e.Quiet)
	case took > e.Quiet+e.Grace:
		e.errorf("a message failed after %v, want about DeliveryTimeout, %v", took, e.Quiet)
	}
}
