package drivertest_test

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// eachMessage makes a producer that has f change a copy of each message. What
// the driver below fills in is copied back.
func eachMessage(f func(p *producer, m *driver.Message)) func(*producer) {
	return func(p *producer) {
		p.produce = func(ctx context.Context, m *driver.Message) error {
			sent := *m
			sent.Acker = testkit.AckFunc(func(err error) {
				m.Partition, m.Offset = sent.Partition, sent.Offset
				m.Acker.Ack(err)
			})
			f(p, &sent)
			return p.Producer.Produce(ctx, &sent)
		}
	}
}

// eachAck makes a producer that has f hand on each answer.
func eachAck(f func(p *producer, m *driver.Message, err error, ack func(error))) func(*producer) {
	return func(p *producer) {
		p.produce = func(ctx context.Context, m *driver.Message) error {
			original := m.Acker
			m.Acker = testkit.AckFunc(func(err error) { f(p, m, err, original.Ack) })
			return p.Producer.Produce(ctx, m)
		}
	}
}

func wrongProducers() []wrong {
	return slices.Concat(wrongSends(), wrongAccepts(), wrongLookUps(), wrongProducerEnds())
}

// wrongSends break rules of how records are stored.
func wrongSends() []wrong {
	return []wrong{
		{name: "has a producer that depends on the context of Open", fails: "ProduceContextEndsNothing", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				if err := p.ctx.Err(); err != nil {
					return err
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "keeps to a topic's ID", fails: "ProducerFollowsItsTopic", producer: func(p *producer) {
			var known sync.Map // topic to ID
			p.produce = func(ctx context.Context, m *driver.Message) error {
				id := p.h.broker.TopicID(m.Topic)
				if first, _ := known.LoadOrStore(m.Topic, id); first != any(id) {
					go m.Acker.Ack(&driver.Error{Code: "UNKNOWN_TOPIC_ID"})
					return nil
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "answers twice", fails: "AckedOnce", producer: eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
			ack(err)
			ack(err)
		})},
		{name: "never answers one", fails: "AckedOnce", producer: func(p *producer) {
			var n atomic.Int64
			eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
				if n.Add(1) != 5 {
					ack(err)
				}
			})(p)
		}},
		{name: "answers a message that it refuses", fails: "ProduceWithEndedContext", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				err := p.Producer.Produce(ctx, m)
				if errors.Is(err, context.Canceled) {
					m.Acker.Ack(err)
				}
				return err
			}
		}},
		{name: "accepts with an ended context", fails: "ProduceWithEndedContext", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				return p.Producer.Produce(context.WithoutCancel(ctx), m)
			}
		}, also: []string{"ProduceBlocksForContext", "ProduceBlocksUntilClose"}},
		{name: "answers nil for what it drops", fails: "AckNilMeansStored", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				if strings.HasPrefix(string(m.Value), "v7") {
					m.Offset, m.Partition = 7, 0
					m.Acker.Ack(nil)
					return nil
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "reports a wrong offset", fails: "AckNilMeansStored", producer: eachAck(func(_ *producer, m *driver.Message, err error, ack func(error)) {
			if bytes.HasPrefix(m.Value, []byte("v2")) {
				m.Offset += 1000
			}
			ack(err)
		})},
		{name: "sends nil as empty", fails: "ProduceWholeRecords", producer: eachMessage(func(_ *producer, m *driver.Message) {
			m.Value = append([]byte{}, m.Value...)
		})},
		{name: "sends one header a key", fails: "ProduceAllHeaders", producer: eachMessage(func(_ *producer, m *driver.Message) {
			m.Headers = oneHeaderAKey(m.Headers)
		}), also: []string{"ProduceHeadersWithoutName"}},
		{name: "sends its own timestamp", fails: "ProduceTimestamps", producer: eachMessage(func(_ *producer, m *driver.Message) {
			m.Timestamp = time.Time{}
		}), also: []string{"ProduceRefusesOneAlone", "ProduceRefusesOldDates"}},
		{name: "reorders", fails: "ProduceKeepsOrder", producer: reorder(func(p *producer) bool { return !p.h.beenCut.Load() }),
			also: []string{"ProduceKeepsOrderInAnOutage", "ProducerCloseWaits"}},
		{name: "reorders when it sends again", fails: "ProduceKeepsOrderInAnOutage", producer: reorder(func(p *producer) bool { return p.h.cut.Load() }),
			also: []string{"ProduceSplitsLargeBatches", "ProduceLargerThanABatch", "ProduceRefusesOneAlone", "ProduceRefusesOldDates", "DeliveryTimeoutOutlasts", "FlushReturnsByItsContext", "NoAckAfterClose", "ProducerCloseReturnsInTime", "ProducerCloseReportsUnknown"}},
		{name: "partitions by another hash", fails: "ProducePartitionsLikeJava", producer: eachMessage(func(p *producer, m *driver.Message) {
			if m.Partition == -1 && m.Key != nil {
				h := fnv.New32a()
				h.Write(m.Key)
				m.Partition = int32(h.Sum32()&0x7fffffff) % int32(p.h.broker.Partitions(m.Topic))
			}
		})},
		{name: "drops what has no key", fails: "ProduceWithoutKey", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				if m.Partition == -1 && m.Key == nil {
					m.Acker.Ack(&driver.Error{Code: "INVALID_RECORD"})
					return nil
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "prefers the key to the partition", fails: "ProduceToPartition", producer: eachMessage(func(_ *producer, m *driver.Message) {
			if string(m.Key) == "the same key" {
				m.Partition = -1
			}
		})},
		{name: "compresses badly", fails: "ProduceCompressed", producer: eachMessage(func(p *producer, m *driver.Message) {
			if p.cfg.Compression == driver.CompressionLZ4 {
				m.Value = m.Value[1:]
			}
		})},
		{name: "guesses an offset", fails: "ProduceWithoutAcks", producer: eachAck(func(p *producer, m *driver.Message, err error, ack func(error)) {
			m.Offset = max(m.Offset, 0)
			ack(err)
		})},
	}
}

// wrongAccepts break rules of what Produce accepts and what an Ack means.
func wrongAccepts() []wrong {
	return []wrong{
		{name: "gives a message up with the context of Produce", fails: "ProduceContextBoundsAcceptance", producer: giveUpWithContext},
		{name: "blocks beyond the context of Produce", fails: "ProduceBlocksForContext", producer: blockWhen(func(p *producer, ctx context.Context, err error) bool {
			return errors.Is(err, context.DeadlineExceeded)
		}), also: []string{"ProduceBlocksUntilClose"}},
		{name: "blocks beyond Close", fails: "ProduceBlocksUntilClose", producer: blockWhen(func(p *producer, ctx context.Context, err error) bool {
			return errors.Is(err, driver.ErrClosed) && p.h.cut.Load()
		})},
		{name: "does not know of what it never sent", fails: "ProduceTooLarge", producer: eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
			if code(err) == "MESSAGE_TOO_LARGE" {
				err = &driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrUnknownOutcome}
			}
			ack(err)
		}), also: []string{"ProduceSplitsLargeBatches"}},
		{name: "returns what Ack is for", fails: "ProduceTooLarge", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				if len(m.Value) > p.cfg.MaxMessageBytes {
					return &driver.Error{Code: "MESSAGE_TOO_LARGE"}
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "does not know of a partition that does not exist", fails: "ProduceToUnknownPartition", producer: eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
			if code(err) == "UNKNOWN_TOPIC_OR_PARTITION" {
				err = &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION", Kind: driver.ErrUnknownOutcome}
			}
			ack(err)
		}), also: []string{"ProduceToUnknownPartitionNamesIt"}},
		{name: "is sure of what it does not know", fails: "AckIsTruthful", producer: eachAck(func(_ *producer, m *driver.Message, err error, ack func(error)) {
			if bytes.HasPrefix(m.Value, []byte("early-")) {
				err = &driver.Error{Code: "NOT_ENOUGH_REPLICAS"}
			}
			ack(err)
		})},
		{name: "believes a refusal after a lost answer", fails: "LostAnswerStaysUnknown", producer: eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
			if errors.Is(err, driver.ErrUnknownOutcome) && code(err) == "MESSAGE_TOO_LARGE" {
				err = &driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrPermanent}
			}
			ack(err)
		})},
		{name: "answers inside its lock", fails: "ProduceInsideAck", producer: func(p *producer) {
			lock := make(chan struct{}, 1)
			p.produce = func(ctx context.Context, m *driver.Message) error {
				select {
				case lock <- struct{}{}:
					defer func() { <-lock }()
				case <-p.h.released:
					return driver.ErrClosed
				}
				return p.Producer.Produce(ctx, m)
			}
		}},
		{name: "does not wait in Flush", fails: "FlushWaits", producer: func(p *producer) {
			ackLater(p)
			p.flush = func(context.Context) error { return nil }
		}, also: []string{"FlushReturnsByItsContext"}},
		{name: "flushes what comes later", fails: "FlushWaitsForNothingLater", producer: flushAll},
		{name: "flushes forever", fails: "FlushReturnsByItsContext", producer: func(p *producer) {
			p.flush = func(ctx context.Context) error { return p.Producer.Flush(context.WithoutCancel(ctx)) }
		}},
	}
}

// wrongProducerEnds break rules of limits, retries and Close.
func wrongProducerEnds() []wrong {
	return []wrong{
		{name: "does not wait in Close", fails: "NoAckAfterClose", producer: func(p *producer) {
			ackLater(p)
			p.close = p.Producer.Close
		}, wide: true},
		{name: "drops at Close what waits", fails: "ProducerCloseWaits", producer: dropAtClose},
		{name: "accepts after Close", fails: "ProduceAfterClose", producer: func(p *producer) {
			p.produce = func(ctx context.Context, m *driver.Message) error {
				err := p.Producer.Produce(ctx, m)
				if errors.Is(err, driver.ErrClosed) && string(m.Value) == "refused" {
					return nil
				}
				return err
			}
		}},
		{name: "closes forever", fails: "ProducerCloseReturnsInTime", producer: func(p *producer) {
			p.close = func(ctx context.Context) error {
				err := p.Producer.Close(ctx)
				if err != nil {
					<-p.h.released
				}
				return err
			}
		}},
		{name: "is sure at Close of what was not answered", fails: "ProducerCloseReportsUnknown", producer: eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
			if errors.Is(err, driver.ErrUnknownOutcome) {
				err = &driver.Error{Code: "CONNECTION_FAILED"}
			}
			ack(err)
		}), also: []string{"LostAnswerStaysUnknown"}},
		{name: "passes on to others that a batch is too large", fails: "ProduceSplitsLargeBatches", producer: afterRefusal("MESSAGE_TOO_LARGE", func(m *driver.Message) bool { return len(m.Value) > 1000 }),
			also: []string{"ProduceTooLarge"}},
		{name: "takes MaxBatchBytes for MaxMessageBytes", fails: "ProduceLargerThanABatch", sends: func(cfg *driver.ProducerConfig) {
			if cfg.MaxBatchBytes > 0 {
				cfg.MaxMessageBytes = cfg.MaxBatchBytes
			}
		}},
		{name: "passes on to others that one is refused", fails: "ProduceRefusesOneAlone", producer: afterRefusal("INVALID_TIMESTAMP", func(m *driver.Message) bool { return m.Timestamp.After(time.Now()) })},
		{name: "sends an old date as now", fails: "ProduceRefusesOldDates", producer: eachMessage(func(_ *producer, m *driver.Message) {
			if m.Timestamp.Before(time.Unix(0, 0)) {
				m.Timestamp = time.Time{}
			}
		})},
		{name: "sends elsewhere what has no partition", fails: "ProduceToUnknownPartitionNamesIt", producer: eachMessage(func(p *producer, m *driver.Message) {
			if n := int32(p.h.broker.Partitions(m.Topic)); n > 0 && m.Partition >= n {
				m.Partition %= n
			}
		}), also: []string{"ErrorsHaveNames", "ProduceToUnknownPartition"}},
		{name: "drops headers without a name", fails: "ProduceHeadersWithoutName", producer: eachMessage(func(_ *producer, m *driver.Message) {
			m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h driver.Header) bool { return h.Key == "" })
		}), also: []string{"ProduceAllHeaders"}},
		{name: "knows no DeliveryTimeout", fails: "DeliveryTimeoutOutlasts", sends: func(cfg *driver.ProducerConfig) { cfg.DeliveryTimeout = 0 }, also: []string{"FlushWaitsForNothingLater", "DeliveryTimeoutEnds"}},
		{name: "gives up before DeliveryTimeout", fails: "DeliveryTimeoutEnds", sends: func(cfg *driver.ProducerConfig) { cfg.DeliveryTimeout /= 2 }},
		{name: "answers a second Close with nil", fails: "ProducerCloseTwice", producer: func(p *producer) {
			var closed atomic.Bool
			p.close = func(ctx context.Context) error {
				if closed.Swap(true) {
					return nil
				}
				return p.Producer.Close(ctx)
			}
		}},
		{name: "fails a Close of the producer beside another", fails: "ProducerCloseConcurrently", producer: func(p *producer) {
			var closed atomic.Bool
			p.close = func(ctx context.Context) error {
				err := p.Producer.Close(ctx)
				if closed.Swap(true) && err == nil {
					return driver.ErrClosed
				}
				return err
			}
		}, also: []string{"ProducerCloseTwice"}},
	}
}

// afterRefusal gives the next messages the answer of one that is refused with code.
func afterRefusal(code string, refused func(*driver.Message) bool) func(*producer) {
	const others = 5
	return func(p *producer) {
		var mu sync.Mutex
		var verdict error
		left := 0
		eachAck(func(_ *producer, m *driver.Message, err error, ack func(error)) {
			mu.Lock()
			var typed *driver.Error
			switch {
			case errors.As(err, &typed) && typed.Code == code && refused(m):
				verdict, left = err, others
			case err == nil && left > 0:
				err, left = verdict, left-1
			}
			mu.Unlock()
			ack(err)
		})(p)
	}
}

// reorder holds every other message back for a millisecond while its condition is true.
func reorder(when func(p *producer) bool) func(*producer) {
	return func(p *producer) {
		var n atomic.Int64
		held := newFlight()
		var closing atomic.Bool
		p.produce = func(ctx context.Context, m *driver.Message) error {
			if ctx.Err() != nil || closing.Load() || n.Add(1)%2 == 0 || !when(p) {
				return p.Producer.Produce(ctx, m)
			}
			held.Go(func() {
				time.Sleep(time.Millisecond)
				if err := p.Producer.Produce(context.Background(), m); err != nil {
					m.Acker.Ack(err)
				}
			})
			return nil
		}
		p.flush = func(ctx context.Context) error { held.Wait(); return p.Producer.Flush(ctx) }
		p.close = func(ctx context.Context) error {
			closing.Store(true)
			held.Wait()
			return p.Producer.Close(ctx)
		}
	}
}

// giveUpWithContext answers a message when the context of Produce ends.
func giveUpWithContext(p *producer) {
	p.produce = func(ctx context.Context, m *driver.Message) error {
		var once sync.Once
		sent, original := *m, m.Acker
		sent.Acker = testkit.AckFunc(func(err error) {
			once.Do(func() {
				m.Partition, m.Offset = sent.Partition, sent.Offset
				original.Ack(err)
			})
		})
		err := p.Producer.Produce(ctx, &sent)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { once.Do(func() { original.Ack(context.Cause(ctx)) }) })
			go func() { <-p.h.released; stop() }()
		}
		return err
	}
}

// blockWhen makes Produce hang until the end of the case once its condition is true.
func blockWhen(hang func(p *producer, ctx context.Context, err error) bool) func(*producer) {
	return func(p *producer) {
		p.produce = func(ctx context.Context, m *driver.Message) error {
			err := p.Producer.Produce(ctx, m)
			if hang(p, ctx, err) {
				<-p.h.released
			}
			return err
		}
	}
}

// ackLater answers a millisecond late. Close and Flush wait for the answers.
func ackLater(p *producer) {
	late := newFlight()
	eachAck(func(_ *producer, _ *driver.Message, err error, ack func(error)) {
		late.Go(func() {
			time.Sleep(time.Millisecond)
			ack(err)
		})
	})(p)
	p.flush = func(ctx context.Context) error { err := p.Producer.Flush(ctx); late.Wait(); return err }
	p.close = func(ctx context.Context) error { err := p.Producer.Close(ctx); late.Wait(); return err }
}

// dropAtClose collects messages for a millisecond before it sends them, and
// fails at Close those that wait.
func dropAtClose(p *producer) {
	var closing atomic.Bool
	lingering := newFlight()
	p.produce = func(ctx context.Context, m *driver.Message) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if closing.Load() || !strings.HasPrefix(string(m.Value), "b-9") {
			return p.Producer.Produce(ctx, m)
		}
		lingering.Go(func() {
			time.Sleep(time.Millisecond)
			if closing.Load() {
				m.Acker.Ack(driver.ErrClosed)
			} else if err := p.Producer.Produce(context.Background(), m); err != nil {
				m.Acker.Ack(err)
			}
		})
		return nil
	}
	p.close = func(ctx context.Context) error {
		closing.Store(true)
		lingering.Wait()
		return p.Producer.Close(ctx)
	}
}

// flushAll flushes until no message is left.
func flushAll(p *producer) {
	unanswered := newFlight()
	p.produce = func(ctx context.Context, m *driver.Message) error {
		answered := make(chan struct{})
		original := m.Acker
		m.Acker = testkit.AckFunc(func(err error) {
			original.Ack(err)
			close(answered)
		})
		err := p.Producer.Produce(ctx, m)
		if err == nil {
			unanswered.Go(func() { <-answered })
		}
		return err
	}
	p.flush = func(ctx context.Context) error {
		err := p.Producer.Flush(ctx)
		if err == nil {
			unanswered.Wait()
		}
		return err
	}
}

// wrongLookUps break rules of how topics are looked up.
func wrongLookUps() []wrong {
	real := func(p *producer, ctx context.Context, topic string) error {
		return p.Producer.(driver.TopicFinder).FindTopic(ctx, topic)
	}
	return []wrong{
		{name: "creates the topic that it looks up", fails: "FindTopic", producer: func(p *producer) {
			p.find = func(ctx context.Context, topic string) error {
				err := real(p, ctx, topic)
				if err != nil && ctx.Err() == nil {
					p.h.broker.CreateTopic(topic, 1)
				}
				return err
			}
		}},
		{name: "finds every topic", fails: "FindTopic", producer: func(p *producer) {
			p.find = func(ctx context.Context, topic string) error {
				if err := real(p, ctx, topic); errors.Is(err, driver.ErrClosed) {
					return err
				}
				return ctx.Err()
			}
		}},
		{name: "answers a look-up from what it knew before", fails: "FindTopic", producer: func(p *producer) {
			var known sync.Map
			p.find = func(ctx context.Context, topic string) error {
				if err, ok := known.Load(topic); ok {
					return err.(error)
				}
				err := real(p, ctx, topic)
				if err != nil && ctx.Err() == nil && !errors.Is(err, driver.ErrClosed) {
					known.Store(topic, err)
				}
				return err
			}
		}},
		{name: "calls a missing topic permanent", fails: "FindTopic", producer: func(p *producer) {
			p.find = func(ctx context.Context, topic string) error {
				err := real(p, ctx, topic)
				if e, ok := errors.AsType[*driver.Error](err); ok {
					return &driver.Error{Code: e.Code, Kind: driver.ErrPermanent, Err: e.Err}
				}
				return err
			}
		}},
		{name: "looks up after its context has ended", fails: "FindTopicInTime", producer: func(p *producer) {
			p.find = func(ctx context.Context, topic string) error {
				return real(p, context.WithoutCancel(ctx), topic)
			}
		}},
		{name: "looks up after Close", fails: "FindTopicInTime", producer: func(p *producer) {
			p.find = func(ctx context.Context, topic string) error {
				if err := real(p, ctx, topic); !errors.Is(err, driver.ErrClosed) {
					return err
				}
				return nil
			}
		}},
	}
}
