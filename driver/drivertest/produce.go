package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func produceChecks() []check {
	return []check{
		{"ProduceContextEndsNothing", "The producer that OpenProducer returns must not depend on ctx.", produceContextEndsNothing},
		{ruleAckOnce, "After Produce has returned nil, the driver must call Ack exactly once, in all circumstances.", ackedOnce},
		{"AckNilMeansStored", "A nil error means that the record is in the log, at Partition and Offset.", ackNilMeansStored},
		{"ProduceWholeRecords", "A driver must store the key and the value of a message. A nil value is a tombstone.", produceWholeRecords},
		{"ProduceAllHeaders", "A driver must keep the order and the repetitions of a message's headers.", produceAllHeaders},
		{"ProduceTimestamps", "Timestamp is the record's creation time, with a precision of one millisecond. The zero time stands for now.", produceTimestamps},
		{"ProduceKeepsOrder", "A driver must keep the order in which one goroutine calls Produce as the order of its messages in each partition.", produceKeepsOrder},
		{"ProduceKeepsOrderInAnOutage", "A driver must keep the order also when it retries.", produceKeepsOrderInAnOutage},
		{"ProducePartitionsLikeJava", "With Partition -1 the driver must choose by the murmur2 hash of the key, as Java's client does.", producePartitionsLikeJava},
		{"ProduceWithoutKey", "With Partition -1 and without a key, the driver may choose any partition.", produceWithoutKey},
		{"ProduceToPartition", "Partition is the partition to send to, regardless of the key.", produceToPartition},
		{"ProduceCompressed", "Every Compression must store the records as they were sent.", produceCompressed},
		{"ProduceWithoutAcks", "Offset is -1 if the broker returns none: with NoResponse.", produceWithoutAcks},
	}
}

func produceContextEndsNothing(e *env) {
	topic := e.topic(1)
	ctx, cancel := context.WithCancel(e.context())
	producer, err := e.h.Driver().OpenProducer(ctx, e.producerConfig())
	cancel()
	if err != nil {
		e.fatalf("OpenProducer: %v", err)
	}
	wantDelivered(e, e.adoptProducer(producer).produceAll(topic, 0, "v")...)
}

func ackedOnce(e *env) {
	const goroutines, each = 4, 50
	topic := e.topic(3)
	p := e.producer()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { p.produceAll(topic, int32(g%3), numbered(fmt.Sprint(g), each)...) })
	}
	wg.Wait()
	p.stop()
	n := 0
	for part := range int32(3) {
		n += len(e.read(topic, part))
	}
	if n != goroutines*each {
		e.errorf("%d messages were acknowledged, but %d records are in the log", goroutines*each, n)
	}
}

func ackNilMeansStored(e *env) {
	topic := e.topic(3)
	p := e.producer()
	for i := range 30 {
		m := &driver.Message{Topic: topic, Partition: -1, Key: fmt.Append(nil, i), Value: fmt.Append(nil, "v", i)}
		s := p.produce(e.context(), m)
		wantDelivered(e, s)
		wantStored(e, s)
	}
}

// produceEach sends messages to partition 0 and checks the stored records.
func produceEach(e *env, messages ...*driver.Message) []*sent {
	e.t.Helper()
	topic := e.topic(1)
	p := e.producer()
	var all []*sent
	for _, m := range messages {
		m.Topic = topic
		all = append(all, p.produce(e.context(), m))
	}
	wantDelivered(e, all...)
	for _, s := range all {
		wantStored(e, s)
	}
	return all
}

func produceWholeRecords(e *env) {
	binary := bytes.Repeat([]byte{0, 1, 0xff, '\n', 0xc3, 0x28}, 100)
	produceEach(e,
		&driver.Message{Key: []byte("key"), Value: []byte("value")},
		&driver.Message{Key: nil, Value: []byte("no key")},
		&driver.Message{Key: []byte{}, Value: []byte("empty key")},
		&driver.Message{Key: []byte("tombstone"), Value: nil},
		&driver.Message{Key: []byte("empty value"), Value: []byte{}},
		&driver.Message{Key: nil, Value: nil},
		&driver.Message{Key: binary, Value: binary},
	)
}

func produceAllHeaders(e *env) {
	produceEach(e,
		&driver.Message{Value: []byte("order"), Headers: []driver.Header{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}},
		&driver.Message{Value: []byte("twice"), Headers: []driver.Header{
			{Key: "k", Value: []byte("1")}, {Key: "x", Value: []byte("x")}, {Key: "k", Value: []byte("2")}, {Key: "k", Value: []byte("1")}}},
		&driver.Message{Value: []byte("empty"), Headers: []driver.Header{{Key: "", Value: nil}, {Key: "e", Value: []byte{}}, {Key: "bin", Value: []byte{0, 0xff}}}},
	)
}

func produceTimestamps(e *env) {
	base := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	before := time.Now().Truncate(time.Millisecond)
	all := produceEach(e,
		&driver.Message{Value: []byte("an hour ago"), Timestamp: base},
		&driver.Message{Value: []byte("a millisecond later"), Timestamp: base.Add(time.Millisecond)},
		&driver.Message{Value: []byte("now")},
	)
	now := all[2].m
	for _, r := range e.read(now.Topic, 0) {
		if r.Offset == now.Offset && (r.Timestamp.Before(before) || r.Timestamp.After(time.Now())) {
			e.errorf("the zero Timestamp was stored as %v, want a time between %v and now", r.Timestamp, before)
		}
	}
}

// wantOrder reports a partition in which the values with a prefix are not numbered
// from 0 to n-1 in order.
func wantOrder(e *env, topic string, partition int32, prefix string, n int) {
	e.t.Helper()
	var got []string
	for _, v := range values(e.read(topic, partition)) {
		if strings.HasPrefix(v, prefix+"-") {
			got = append(got, v)
		}
	}
	if !slices.Equal(got, numbered(prefix, n)) {
		e.errorf("partition %d holds %s, want %s-0 to %s-%d in the order of sending", partition, brief(got), prefix, prefix, n-1)
	}
}

func produceKeepsOrder(e *env) {
	const goroutines, each = 4, 200
	topic := e.topic(2)
	p := e.producer()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() { wantDelivered(e, p.produceAll(topic, int32(g%2), numbered(fmt.Sprint(g), each)...)...) })
	}
	wg.Wait()
	for g := range goroutines {
		wantOrder(e, topic, int32(g%2), fmt.Sprint(g), each)
	}
}

func produceKeepsOrderInAnOutage(e *env) {
	topic := e.topic(1)
	p := e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	values := numbered("v", 200)
	all := p.produceAll(topic, 0, values[:50]...)
	heal := e.silence()
	all = append(all, p.produceAll(topic, 0, values[50:150]...)...)
	e.quiet()
	heal()
	all = append(all, p.produceAll(topic, 0, values[150:]...)...)
	wantDelivered(e, all...)
	wantOrder(e, topic, 0, "v", 200)
}

func producePartitionsLikeJava(e *env) {
	const partitions = 7
	topic := e.topic(partitions)
	p := e.producer()
	for _, key := range []string{"21", "foobar", "a-little-bit-long-string", "a-little-bit-longer-string", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", "abc", ""} {
		s := p.produce(e.context(), &driver.Message{Topic: topic, Partition: -1, Key: []byte(key), Value: []byte("v")})
		wantDelivered(e, s)
		if want := javaPartition([]byte(key), partitions); s.m.Partition != want {
			e.errorf("key %q was sent to partition %d of %d, want %d", key, s.m.Partition, partitions, want)
		}
		wantStored(e, s)
	}
}

func produceWithoutKey(e *env) {
	topic := e.topic(3)
	for _, s := range e.producer().produceAll(topic, -1, numbered("v", 20)...) {
		wantDelivered(e, s)
		if s.m.Partition < 0 || s.m.Partition > 2 {
			e.errorf("a message without a key was acknowledged in partition %d of 3", s.m.Partition)
			continue
		}
		wantStored(e, s)
	}
}

func produceToPartition(e *env) {
	const partitions = 5
	topic := e.topic(partitions)
	p := e.producer()
	for part := range int32(partitions) {
		s := p.produce(e.context(), &driver.Message{Topic: topic, Partition: part, Key: []byte("the same key"), Value: fmt.Append(nil, part)})
		wantDelivered(e, s)
		if s.m.Partition != part {
			e.errorf("a message for partition %d was acknowledged in partition %d", part, s.m.Partition)
		}
		wantStored(e, s)
	}
}

func produceCompressed(e *env) {
	topic := e.topic(1)
	for c := driver.CompressionNone; c <= driver.CompressionZSTD; c++ {
		p := e.producer(func(cfg *driver.ProducerConfig) { cfg.Compression = c })
		value := strings.Repeat(c.String()+" ", 200)
		for _, s := range p.produceAll(topic, 0, value, value+"2") {
			wantDelivered(e, s)
			wantStored(e, s)
		}
		p.stop()
	}
}

func produceWithoutAcks(e *env) {
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.RequiredAcks, cfg.Idempotent = driver.NoResponse, false })
	s := p.produceAll(topic, 0, "v")[0]
	wantDelivered(e, s)
	if s.m.Offset != -1 {
		e.errorf("Offset is %d with NoResponse, want -1", s.m.Offset)
	}
	e.eventually("the record in the log", func() bool { return len(e.read(topic, 0)) == 1 })
}
