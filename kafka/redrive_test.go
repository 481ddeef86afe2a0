package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

const (
	ordersRetry   = "orders.orders.retry.10s"
	ordersRedrive = "orders.redrive"
)

// redriveBroker has the topics of a consumer with a retry topic and dead letters.
func redriveBroker(t testing.TB, partitions int) *memory.Broker {
	b := memory.NewBroker()
	require.NoError(t, b.CreateTopic("orders", 1))
	require.NoError(t, b.CreateTopic(ordersRetry, 1))
	require.NoError(t, b.CreateTopic(ordersDLQ, partitions))
	return b
}

// redriver returns a manager with that consumer, which is off.
func redriver(t testing.TB, d driver.Driver, opts ...kafka.Option) *kafka.Manager {
	m := newManager(t, d, opts...)
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(retrying(10*time.Second), handleNothing)))
	return m
}

// deadHeaders are those of a dead letter.
func deadHeaders(topic, group string, offset int, more ...kafka.Header) []kafka.Header {
	hs := []kafka.Header{
		{Key: "own", Value: []byte("1")}, {Key: "own"},
		{Key: kafka.HeaderErrorTopic, Value: []byte(topic)},
		{Key: kafka.HeaderErrorPartition, Value: []byte("0")},
		{Key: kafka.HeaderErrorOffset, Value: fmt.Append(nil, offset)},
		{Key: kafka.HeaderErrorGroup, Value: []byte(group)},
		{Key: kafka.HeaderErrorDeliveryCount, Value: []byte("3")},
		{Key: kafka.HeaderErrorMessage, Value: []byte("it is bad")},
		{Key: kafka.HeaderErrorException, Value: []byte("*errors.errorString")},
		{Key: kafka.HeaderErrorTimestamp, Value: []byte("1700000000000")},
		{Key: kafka.HeaderErrorReason, Value: []byte(kafka.DeadLetterReasonAttempts)},
		{Key: kafka.HeaderErrorFailed, Value: []byte("1700000001000")},
	}
	return append(hs, more...)
}

func redrivenTimes(n int) kafka.Header {
	return kafka.Header{Key: kafka.HeaderRedrives, Value: fmt.Append(nil, n)}
}

// bury puts dead letters with the values from..to-1 into the dead-letter topic.
func bury(t require.TestingT, b *memory.Broker, from, to int) {
	for i := from; i < to; i++ {
		buryOne(t, b, fmt.Append(nil, i), deadHeaders("orders", "orders", i))
	}
}

func buryOne(t require.TestingT, b *memory.Broker, value []byte, hs []kafka.Header) {
	require.NoError(t, b.Send(ordersDLQ, value, value, memory.Headers(hs...)))
}

// valuesIn returns the values of a topic's records, in order of partition and offset.
func valuesIn(t testing.TB, b *memory.Broker, topic string) (values []string) {
	for _, r := range lettersIn(t, b, topic) {
		values = append(values, string(r.Value))
	}
	return values
}

// numbers returns the texts of from..to-1.
func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// redriven is bubble for a test of redrives over a topic with one partition.
func redriven(t *testing.T, test func(t *testing.T, b *memory.Broker, m *kafka.Manager)) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		test(t, b, redriver(t, b))
	})
}

func fromStart(change func(*kafka.RedriveConfig)) kafka.RedriveConfig {
	cfg := kafka.RedriveConfig{JobName: "orders", FromStart: true}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// The record is what it was, without our headers, counted as put back, dated now and in
// the retry topic, from which its own consumer gets it with its first place.
func TestRedriveIsTheWholeRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		rec := new(kafka.Recorder)
		m := newManager(t, b, kafka.WithHook(rec))
		got := make(chan *kafka.Message, 2)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(retrying(10*time.Second), func(_ context.Context, m *kafka.Message) error {
			got <- m
			return nil
		})))
		require.NoError(t, b.Send(ordersDLQ, []byte("k"), nil, memory.Headers(deadHeaders("orders", "orders", 42, redrivenTimes(1))...)))
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 1, Sent: 1}, report)

		sent := lettersIn(t, b, ordersRetry)
		require.Len(t, sent, 1)
		assert.Equal(t, []byte("k"), sent[0].Key)
		assert.Nil(t, sent[0].Value)
		assert.WithinDuration(t, time.Now(), sent[0].Timestamp, time.Second)
		own := []kafka.Header{{Key: "own", Value: []byte("1")}, {Key: "own"}, redrivenTimes(2)}
		assert.Equal(t, own, sent[0].Headers[:3])
		assert.Len(t, sent[0].Headers, 9)
		assert.EqualValues(t, 1, b.Committed(ordersRedrive, ordersDLQ, 0))

		require.NoError(t, m.SetConsumerSwitch("orders", true))
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		pass(9 * time.Second)
		assert.Empty(t, got, "it waits there as any other record")
		pass(2 * time.Second)
		require.Len(t, got, 1)
		handed := <-got
		assert.Equal(t, kafka.Source{Topic: "orders", Offset: 42, Timestamp: time.UnixMilli(1700000000000)}, handed.Source())
		assert.Equal(t, 1, handed.Attempt)
		assert.Equal(t, own, handed.Headers)
		assert.Zero(t, status(t, m).Unmarked+status(t, m).PassedOver)
		assert.Equal(t, []kafka.RedriveBegan{{JobName: "orders", Group: "orders", Topics: []string{ordersDLQ}, To: ordersRetry, Commits: true}}, kafka.EventsOf[kafka.RedriveBegan](rec))
		ended := kafka.EventsOf[kafka.RedriveEnded](rec)
		require.Len(t, ended, 1)
		ended[0].Took = 0
		assert.Equal(t, kafka.RedriveEnded{JobName: "orders", Group: "orders", Report: report}, ended[0])
	})
}

// A record that dies again after a redrive keeps the count, so that MaxRedrives ends it.
func TestRedriveEndsWithMaxRedrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		m := launch(t, b, retrying(10*time.Second), func(context.Context, *kafka.Message) error { return errBad })
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		cfg := kafka.RedriveConfig{JobName: "orders", MaxRedrives: 2, FromStart: true}
		for i := range 4 {
			pass(20 * time.Second)
			require.Len(t, lettersIn(t, b, ordersDLQ), min(i, 2)+1)
			report, err := m.Redrive(t.Context(), cfg)
			require.NoError(t, err)
			want := []kafka.RedriveReport{{Read: 1, Sent: 1}, {Read: 1, Sent: 1}, {Read: 1, Worn: 1}, {}}[i]
			assert.Equal(t, want, report, "redrive %d", i)
			cfg.FromStart = false
		}
		letters := lettersIn(t, b, ordersDLQ)
		assert.Equal(t, []string{"", "1", "2"}, []string{headerOf(letters[0], kafka.HeaderRedrives), headerOf(letters[1], kafka.HeaderRedrives), headerOf(letters[2], kafka.HeaderRedrives)})
		for _, l := range letters {
			assert.Equal(t, "0", headerOf(l, kafka.HeaderErrorOffset), "each names the first place")
		}
	})
}

// The next run goes on where the last one ended, and reads to the end as of its beginning.
func TestRedriveGoesOn(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 250)
		_, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.ErrorIs(t, err, kafka.ErrNoPosition)
		assert.Empty(t, lettersIn(t, b, ordersRetry))
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 250, Sent: 250}, report)
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{}, report, "all is done")
		bury(t, b, 250, 260)
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "ORDERS"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 10, Sent: 10}, report)
		assert.Equal(t, numbers(0, 260), valuesIn(t, b, ordersRetry))
		report, err = m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Limit = 7 }))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 7, Sent: 7}, report)
		assert.EqualValues(t, 7, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// The first redrive sets a position in every partition, also where nothing lies. A
// partition that is added later is read from its beginning.
func TestRedriveSetsPositionsEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 3)
		m := redriver(t, b)
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{}, report)
		for p := range int32(3) {
			assert.Zero(t, b.Committed(ordersRedrive, ordersDLQ, p))
		}
		require.NoError(t, b.AddPartitions(ordersDLQ, 4))
		require.NoError(t, b.Send(ordersDLQ, nil, []byte("0"), memory.ToPartition(3), memory.Headers(deadHeaders("orders", "orders", 0)...)))
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 1, Sent: 1}, report)
	})
}

// A topic that grows while it is redriven, since records fail again, is read to the end
// that it had.
func TestRedriveEndsAtTheEndAsItWas(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 10)
		grown := 10
		report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) {
			c.PassUnmatched = true
			c.Match = func(*kafka.Message) bool {
				bury(t, b, grown, grown+1)
				grown++
				return true
			}
		}))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 10, Sent: 10}, report)
		assert.EqualValues(t, 10, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// Where dead letters go: the first retry topic that is written, each record's own topic,
// or a topic by name. Only in a retry topic of the consumer they have its headers.
func TestRedriveTo(t *testing.T) {
	for _, tt := range []struct {
		name, to string
		change   func(*kafka.ConsumerConfig)
		want     map[string]int // records by topic
	}{
		{name: "the retry topic", want: map[string]int{ordersRetry: 1, "returns.orders.retry.10s": 1}},
		{name: "that is written", change: func(c *kafka.ConsumerConfig) {
			c.Failure.RetryTopics = []kafka.RetryTopic{{Delay: time.Second, Drain: true}, {Delay: 10 * time.Second}}
		}, want: map[string]int{ordersRetry: 1, "returns.orders.retry.10s": 1}},
		{name: "the source", to: kafka.ToSource, want: map[string]int{"orders": 1, "returns": 1}},
		{name: "a topic", to: "results", want: map[string]int{"results": 2}},
		{name: "a retry topic by name", to: ordersRetry, want: map[string]int{ordersRetry: 2}},
		{name: "without retry topics", to: kafka.ToSource, change: func(c *kafka.ConsumerConfig) { c.Failure.RetryTopics = nil }, want: map[string]int{"orders": 1, "returns": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := redriveBroker(t, 1)
				for _, topic := range []string{"returns", "results", "returns.orders.retry.10s", "returns.orders.dlq", "orders.orders.retry.1s", "returns.orders.retry.1s"} {
					require.NoError(t, b.CreateTopic(topic, 1))
				}
				m := newManager(t, b)
				cfg := retrying(10 * time.Second)
				cfg.Topic, cfg.Topics = "", []string{"orders", "returns"}
				if tt.change != nil {
					tt.change(&cfg)
				}
				require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
				bury(t, b, 0, 1)
				require.NoError(t, b.Send("returns.orders.dlq", nil, []byte("1"), memory.Headers(deadHeaders("returns", "orders", 1)...)))
				report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.To = tt.to }))
				require.NoError(t, err)
				assert.Equal(t, kafka.RedriveReport{Read: 2, Sent: 2}, report)
				got := map[string]int{}
				for _, topic := range []string{"orders", "returns", "results", ordersRetry, "returns.orders.retry.10s", "orders.orders.retry.1s"} {
					for _, r := range lettersIn(t, b, topic) {
						got[topic]++
						want := 3
						if strings.Contains(topic, "retry") {
							want = 9
						}
						assert.Len(t, r.Headers, want, topic)
						assert.Equal(t, "1", headerOf(r, kafka.HeaderRedrives))
					}
				}
				assert.Equal(t, tt.want, got)
			})
		})
	}
}

// What is no dead letter of this group and of a topic of this consumer stays, is counted,
// and is passed.
func TestRedriveLeavesForeignRecords(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		without := func(key string) []kafka.Header {
			return slices.DeleteFunc(deadHeaders("orders", "orders", 1), func(h kafka.Header) bool { return h.Key == key })
		}
		with := func(key, value string) []kafka.Header {
			return append(without(key), kafka.Header{Key: key, Value: []byte(value)})
		}
		foreign := [][]kafka.Header{
			nil,
			without(kafka.HeaderErrorTopic), without(kafka.HeaderErrorPartition), without(kafka.HeaderErrorOffset), without(kafka.HeaderErrorGroup),
			with(kafka.HeaderErrorTopic, ""), with(kafka.HeaderErrorTopic, "a b"), with(kafka.HeaderErrorPartition, "-1"), with(kafka.HeaderErrorPartition, "2147483648"),
			with(kafka.HeaderErrorOffset, "x"), with(kafka.HeaderErrorOffset, "-1"),
			deadHeaders("orders", "billing", 1), deadHeaders("returns", "orders", 1),
		}
		bury(t, b, 0, 1)
		for range foreign {
			buryOne(t, b, []byte("foreign"), foreign[0])
			foreign = foreign[1:]
		}
		buryOne(t, b, []byte("1"), deadHeaders("orders", "orders", 1, kafka.Header{Key: kafka.HeaderRedrives, Value: []byte("many")}))
		buryOne(t, b, []byte("2"), deadHeaders(ordersRetry, "orders", 1))
		matched := 0
		report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) {
			c.PassUnmatched = true
			c.Match = func(*kafka.Message) bool { matched++; return true }
		}))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 16, Sent: 3, Foreign: 13}, report)
		assert.Equal(t, 3, matched, "Match is not asked about others' records")
		assert.Equal(t, numbers(0, 3), valuesIn(t, b, ordersRetry))
		assert.EqualValues(t, 16, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// Match sees the dead letter. What it leaves is passed if PassUnmatched says so; else the
// run commits nothing and says that all is offered again.
func TestRedriveMatch(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 6)
		even := func(c *kafka.RedriveConfig) {
			c.Match = func(m *kafka.Message) bool {
				assert.Equal(t, "it is bad", string(m.Header(kafka.HeaderErrorMessage)))
				assert.Equal(t, ordersDLQ, m.Topic)
				assert.Equal(t, m.Offset, m.Source().Offset)
				return m.Offset%2 == 0
			}
		}
		report, err := m.Redrive(t.Context(), fromStart(even))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 6, Sent: 3, Unmatched: 3, Again: true}, report)
		assert.EqualValues(t, -1, b.Committed(ordersRedrive, ordersDLQ, 0))
		report, err = m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { even(c); c.PassUnmatched = true }))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 6, Sent: 3, Unmatched: 3}, report)
		assert.EqualValues(t, 6, b.Committed(ordersRedrive, ordersDLQ, 0))
		assert.Equal(t, []string{"0", "2", "4", "0", "2", "4"}, valuesIn(t, b, ordersRetry))

		bury(t, b, 6, 8)
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders", Match: func(m *kafka.Message) bool { return m.Offset != 6 }})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 2, Sent: 1, Unmatched: 1, Again: true}, report, "it begins where the last one ended")
		assert.EqualValues(t, 6, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// A panic of Match ends the run. What came before is done.
func TestRedriveMatchPanics(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 6)
		report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) {
			c.PassUnmatched = true
			c.Match = func(m *kafka.Message) bool {
				if m.Offset == 4 {
					panic("no")
				}
				return m.Offset != 1
			}
		}))
		var panicked *kafka.PanicError
		require.ErrorAs(t, err, &panicked)
		assert.Equal(t, `kafka: redrive of consumer "orders": dead letter orders.orders.dlq/0 at offset 4: Match panicked: no`, err.Error())
		assert.Equal(t, kafka.RedriveReport{Read: 4, Sent: 3, Unmatched: 1}, report)
		assert.EqualValues(t, 4, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// A dry run counts as a run would, and sends and commits nothing.
func TestRedriveDryRun(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 5)
		buryOne(t, b, []byte("worn"), deadHeaders("orders", "orders", 5, redrivenTimes(3)))
		buryOne(t, b, []byte("foreign"), nil)
		dry := func(c *kafka.RedriveConfig) { c.DryRun, c.Rate = true, 0.001 }
		_, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders", DryRun: true})
		require.ErrorIs(t, err, kafka.ErrNoPosition)
		want := kafka.RedriveReport{Read: 7, Sent: 5, Worn: 1, Foreign: 1, Again: true}
		for range 2 {
			report, err := m.Redrive(t.Context(), fromStart(dry))
			require.NoError(t, err)
			assert.Equal(t, want, report)
		}
		assert.Empty(t, lettersIn(t, b, ordersRetry))
		assert.EqualValues(t, -1, b.Committed(ordersRedrive, ordersDLQ, 0))
		_, err = m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Limit = 3 }))
		require.NoError(t, err)
		report, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders", DryRun: true})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 4, Sent: 2, Worn: 1, Foreign: 1, Again: true}, report)
		report, err = m.Redrive(t.Context(), fromStart(dry))
		require.NoError(t, err)
		assert.Equal(t, want, report, "from before the position, without moving it")
		assert.EqualValues(t, 3, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// Since begins with the first dead letter that is late enough, and the position is there
// from then on.
func TestRedriveSince(t *testing.T) {
	for name, wrap := range map[string]func(*memory.Broker) driver.Driver{
		"the brokers are asked": func(b *memory.Broker) driver.Driver { return b },
		"the topic is read":     func(b *memory.Broker) driver.Driver { return findless{b} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := redriveBroker(t, 1)
				testRedriveSince(t, b, redriver(t, wrap(b)))
			})
		})
	}
}

// A findless is a driver whose groups cannot look for a time.
type findless struct{ *memory.Broker }

func (d findless) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	g, err := d.Broker.OpenGroup(ctx, cfg)
	return struct{ driver.Group }{g}, err
}

func testRedriveSince(t *testing.T, b *memory.Broker, m *kafka.Manager) {
	start := time.Now()
	at := func(value string, after time.Duration) {
		require.NoError(t, b.Send(ordersDLQ, nil, []byte(value), memory.Timestamp(start.Add(after)), memory.Headers(deadHeaders("orders", "orders", 1)...)))
	}
	at("0", 0)
	at("1", time.Hour)
	at("2", 2*time.Hour)
	at("3", time.Hour) // written later, by another clock
	since := func(after time.Duration) kafka.RedriveConfig {
		return kafka.RedriveConfig{JobName: "orders", Since: start.Add(after), DryRun: true}
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{-time.Hour, 4}, {0, 4}, {time.Millisecond, 3}, {time.Hour, 3}, {2 * time.Hour, 2}, {3 * time.Hour, 0}} {
		report, err := m.Redrive(t.Context(), since(tt.after))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: tt.want, Sent: tt.want, Again: true}, report, "since %v", tt.after)
	}
	cfg := since(2 * time.Hour)
	cfg.DryRun, cfg.Limit = false, 1
	report, err := m.Redrive(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, kafka.RedriveReport{Read: 1, Sent: 1}, report)
	assert.Equal(t, []string{"2"}, valuesIn(t, b, ordersRetry))
	assert.EqualValues(t, 3, b.Committed(ordersRedrive, ordersDLQ, 0))
	cfg = since(24 * time.Hour)
	cfg.DryRun = false
	report, err = m.Redrive(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, kafka.RedriveReport{}, report)
	assert.EqualValues(t, 4, b.Committed(ordersRedrive, ordersDLQ, 0), "nothing was written since: the next run begins at the end")
}

// Rate spreads the sends: no second has more of them.
func TestRedriveRate(t *testing.T) {
	for _, tt := range []struct {
		rate    float64
		letters int
	}{{0.5, 4}, {2, 10}, {15, 40}, {250, 1000}, {5000, 12000}} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
				bury(t, b, 0, tt.letters)
				began := time.Now()
				report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Rate = tt.rate }))
				require.NoError(t, err)
				assert.Equal(t, tt.letters, report.Sent)
				took := time.Since(began).Seconds()
				round := max(min(tt.rate/10, 100), 1)
				assert.InDelta(t, (float64(tt.letters)-round)/tt.rate, took, 1/tt.rate+0.2)
				sent := lettersIn(t, b, ordersRetry)
				most := int(tt.rate + round + 1)
				for i := range sent {
					if i+most < len(sent) {
						assert.GreaterOrEqual(t, sent[i+most].Timestamp.Sub(sent[i].Timestamp), time.Second-time.Millisecond, "%d within a second from record %d", most, i)
					}
				}
			})
		})
	}
}

// What is refused, each with its reason. Nothing is opened.
func TestRedriveIsChecked(t *testing.T) {
	bare := orders()
	chosen := retrying(10 * time.Second)
	chosen.Failure.DeadLetter.Topic = ""
	chosen.Failure.DeadLetter.TopicFor = func(*kafka.Message, error) string { return "dlq" }
	drained := retrying(10 * time.Second)
	drained.Failure.RetryTopics[0].Drain = true
	match := func(*kafka.Message) bool { return true }
	for _, tt := range []struct {
		name   string
		job    kafka.ConsumerConfig
		cfg    kafka.RedriveConfig
		fields []string
		text   string
	}{
		{"no dead letters", bare, kafka.RedriveConfig{To: "results"}, []string{"JobName"}, "the consumer has no DeadLetter.Topic"},
		{"topics that are not known", chosen, kafka.RedriveConfig{}, []string{"JobName"}, "the consumer has DeadLetter.TopicFor, so that its dead-letter topics are not known"},
		{"no retry topic", forwarding(nil), kafka.RedriveConfig{}, []string{"To"}, "is missing, and the consumer has no retry topic to which it sends"},
		{"no retry topic that is written", drained, kafka.RedriveConfig{}, []string{"To"}, "is missing, and the consumer has no retry topic to which it sends"},
		{"the topic itself", forwarding(nil), kafka.RedriveConfig{To: ordersDLQ}, []string{"To"}, `"orders.orders.dlq" is the dead-letter topic`},
		{"no name", forwarding(nil), kafka.RedriveConfig{To: "{topic}"}, []string{"To"}, "has a character outside"},
		{"nothing to pass", forwarding(nil), kafka.RedriveConfig{To: "results", PassUnmatched: true}, []string{"PassUnmatched"}, "has no effect without Match"},
		{"redrives", forwarding(nil), kafka.RedriveConfig{To: "results", MaxRedrives: -2}, []string{"MaxRedrives"}, "-2 is negative and not Unlimited (-1)"},
		{"limit", forwarding(nil), kafka.RedriveConfig{To: "results", Limit: -1}, []string{"Limit"}, "-1 is negative"},
		{"rate", forwarding(nil), kafka.RedriveConfig{To: "results", Rate: -1}, []string{"Rate"}, "-1 is not a number of records per second"},
		{"no rate", forwarding(nil), kafka.RedriveConfig{To: "results", Rate: math.NaN()}, []string{"Rate"}, "NaN is not a number of records per second"},
		{"endless rate", forwarding(nil), kafka.RedriveConfig{To: "results", Rate: math.Inf(1)}, []string{"Rate"}, "+Inf is not a number of records per second"},
		{"two beginnings", forwarding(nil), kafka.RedriveConfig{To: "results", FromStart: true, Since: time.Unix(1, 0)}, []string{"Since"}, "is set, and so is FromStart"},
		{"all at once", forwarding(nil), kafka.RedriveConfig{Limit: -1, Rate: -1, Match: match, PassUnmatched: true}, []string{"To", "Limit", "Rate"}, "is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t, fault.Wrap(newBroker(t, 1), fault.Any(
				fault.On(fault.OpenGroup, fault.Before(errors.New("a group is opened"))),
				fault.On(fault.OpenProducer, fault.Before(errors.New("a producer is opened"))))))
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(tt.job, handleNothing)))
			tt.cfg.JobName = "orders"
			report, err := m.Redrive(t.Context(), tt.cfg)
			assert.Equal(t, kafka.RedriveReport{}, report)
			require.ErrorContains(t, err, tt.text)
			var fields []string
			for _, line := range strings.Split(err.Error(), "\n") {
				fields = append(fields, strings.Split(strings.TrimPrefix(line, `kafka: redrive "orders": `), ":")[0])
			}
			assert.Equal(t, tt.fields, fields)
			var field *kafka.FieldError
			require.ErrorAs(t, err, &field)
			assert.Equal(t, "redrive", field.Kind)
		})
	}
}

// What a manager cannot do.
func TestRedriveWithout(t *testing.T) {
	m := redriver(t, redriveBroker(t, 1))
	_, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "other"})
	require.ErrorIs(t, err, kafka.ErrUnknownConsumer)
	_, err = m.Redrive(nilContext(), fromStart(nil))
	require.EqualError(t, err, "kafka: redrive: ctx is nil")
	_, err = redriver(t, nil).Redrive(t.Context(), fromStart(nil))
	require.ErrorIs(t, err, kafka.ErrNoDriver)
	_, err = redriver(t, struct{ driver.Driver }{redriveBroker(t, 1)}).Redrive(t.Context(), fromStart(nil))
	require.ErrorIs(t, err, kafka.ErrUnsupported)
	require.NoError(t, m.Shutdown(t.Context()))
	_, err = m.Redrive(t.Context(), fromStart(nil))
	require.ErrorIs(t, err, kafka.ErrClosed)
}

func nilContext() context.Context { return nil }

// Topics that are missing are named, and no position is set.
func TestRedriveWithoutATopic(t *testing.T) {
	for _, missing := range []string{ordersDLQ, ordersRetry} {
		t.Run(missing, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := memory.NewBroker()
				for _, topic := range []string{"orders", ordersRetry, ordersDLQ} {
					if topic != missing {
						require.NoError(t, b.CreateTopic(topic, 1))
					}
				}
				report, err := redriver(t, b).Redrive(t.Context(), fromStart(nil))
				require.ErrorContains(t, err, `topic "`+missing+`" does not exist`)
				wantCode(t, err, "UNKNOWN_TOPIC_OR_PARTITION")
				assert.Equal(t, kafka.RedriveReport{}, report)
				assert.EqualValues(t, -1, b.Committed(ordersRedrive, ordersDLQ, 0))
			})
		})
	}
}

// A second redrive of the consumer in the same manager is refused while one runs; a dry
// run is not.
func TestRedriveTwiceInOneManager(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 10)
		done := make(chan error)
		go func() {
			_, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Rate = 1 }))
			done <- err
		}()
		pass(3 * time.Second)
		_, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.ErrorIs(t, err, kafka.ErrRedriving)
		report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.DryRun = true }))
		require.NoError(t, err)
		assert.Equal(t, 10, report.Sent)
		require.NoError(t, <-done)
		assert.Equal(t, numbers(0, 10), valuesIn(t, b, ordersRetry))
		_, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
	})
}

// Another process: what would move the positions under a run is refused; what goes on
// shares the partitions with it. Each dead letter is sent once, both come to the end, and
// what they count adds up.
func TestRedriveInTwoProcesses(t *testing.T) {
	for _, partitions := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := redriveBroker(t, partitions)
				bury(t, b, 0, 60)
				for p := range int32(partitions) { // offsets at the end that no round brings
					require.NoError(t, b.AppendControl(ordersDLQ, p))
				}
				one, two := redriver(t, b), redriver(t, b)
				reports := make(chan kafka.RedriveReport, 2)
				run := func(m *kafka.Manager, cfg kafka.RedriveConfig) {
					report, err := m.Redrive(t.Context(), cfg)
					assert.NoError(t, err)
					reports <- report
				}
				go run(one, fromStart(func(c *kafka.RedriveConfig) { c.Rate = 1 }))
				pass(10 * time.Second)
				_, err := two.Redrive(t.Context(), fromStart(nil))
				require.ErrorIs(t, err, kafka.ErrRedriving)
				require.ErrorIs(t, err, driver.ErrGroupHasMembers)
				go run(two, kafka.RedriveConfig{JobName: "orders", Rate: 2})
				a, z := <-reports, <-reports
				assert.Equal(t, 60, a.Sent+z.Sent)
				sent := valuesIn(t, b, ordersRetry)
				slices.Sort(sent)
				want := numbers(0, 60)
				slices.Sort(want)
				assert.Equal(t, want, sent)
			})
		})
	}
}

// The end of the context returns what was done: the answers to what was sent are waited
// for, counted and committed.
func TestRedriveEndsWithItsContext(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 100)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		report, err := m.Redrive(ctx, fromStart(func(c *kafka.RedriveConfig) { c.Rate = 1 }))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 30*time.Second, time.Since(began))
		assert.InDelta(t, 30, report.Sent, 1)
		assert.Len(t, lettersIn(t, b, ordersRetry), report.Sent)
		assert.EqualValues(t, report.Sent, b.Committed(ordersRedrive, ordersDLQ, 0))
		rest, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, 100, report.Sent+rest.Sent)
		assert.Equal(t, numbers(0, 100), valuesIn(t, b, ordersRetry))
	})
}

// What is under way when the context ends is waited for, and what is unanswered after some
// seconds is not counted and comes again.
func TestRedriveEndsWithAnswersOutstanding(t *testing.T) {
	for _, tt := range []struct {
		answer fault.Injector
		took   time.Duration
		sent   int
	}{
		{fault.Delay(3 * time.Second), 3 * time.Second, 5},
		{fault.Never(), 6 * time.Second, 0},
	} {
		t.Run(fmt.Sprint(tt.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := redriveBroker(t, 1)
				bury(t, b, 0, 5)
				m := redriver(t, fault.Wrap(b, fault.On(fault.Ack, tt.answer)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				report, err := m.Redrive(ctx, fromStart(nil))
				if tt.sent == 5 {
					require.NoError(t, err, "it came to the end")
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				assert.InDelta(t, tt.took.Seconds(), time.Since(began).Seconds(), 6)
				assert.Equal(t, kafka.RedriveReport{Read: tt.sent, Sent: tt.sent}, report)
				assert.EqualValues(t, tt.sent, b.Committed(ordersRedrive, ordersDLQ, 0))
			})
		})
	}
}

// A shutdown ends a redrive, waits for it, and names it if its time is up before.
func TestRedriveEndsWithTheManager(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 100)
		var ended atomic.Bool
		go func() {
			report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Rate = 1 }))
			assert.ErrorIs(t, err, kafka.ErrClosed)
			assert.Equal(t, 10, report.Sent)
			assert.EqualValues(t, 10, b.Committed(ordersRedrive, ordersDLQ, 0))
			ended.Store(true)
		}()
		pass(9500 * time.Millisecond)
		require.NoError(t, m.Shutdown(t.Context()))
		synctest.Wait()
		assert.True(t, ended.Load())
	})
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 1)
		release := make(chan struct{})
		go func() {
			_, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) {
				c.PassUnmatched = true
				c.Match = func(*kafka.Message) bool { <-release; return true }
			}))
			assert.ErrorIs(t, err, kafka.ErrClosed)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var stop *kafka.StopError
		require.ErrorAs(t, m.Shutdown(ctx), &stop)
		assert.Equal(t, []string{`redrive of consumer "orders"`}, stop.Running)
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A send that fails for a passing reason, or whose answer is lost, is repeated; what was
// acknowledged beside it is not.
func TestRedriveRepeatsSends(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  fault.Injector
		copies map[string]int // of the values that lie there more than once
	}{
		{"refused for a while", fault.Nth(3, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS"))), nil},
		{"all refused for a while", fault.First(20, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS"))), nil},
		{"the answer is lost", fault.Nth(3, fault.After(fault.Error("REQUEST_TIMED_OUT"))), map[string]int{"2": 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := redriveBroker(t, 1)
				bury(t, b, 0, 10)
				m := redriver(t, fault.Wrap(b, fault.On(fault.Produce, tt.fault)))
				report, err := m.Redrive(t.Context(), fromStart(nil))
				require.NoError(t, err)
				assert.Equal(t, kafka.RedriveReport{Read: 10, Sent: 10}, report)
				assert.EqualValues(t, 10, b.Committed(ordersRedrive, ordersDLQ, 0))
				got := map[string]int{}
				for _, v := range valuesIn(t, b, ordersRetry) {
					got[v]++
				}
				for _, v := range numbers(0, 10) {
					assert.Equal(t, max(tt.copies[v], 1), got[v], v)
				}
			})
		})
	}
}

// What no repetition can cure ends the run. The position is before the dead letter that
// could not be sent.
func TestRedriveEndsWithARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		bury(t, b, 0, 10)
		refusal := &driver.Error{Code: "TOPIC_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
		rec := new(kafka.Recorder)
		m := redriver(t, fault.Wrap(b, fault.On(fault.Produce, fault.Nth(4, fault.Before(refusal)))), kafka.WithHook(rec))
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.ErrorIs(t, err, kafka.ErrPermanent)
		require.ErrorContains(t, err, "dead letter orders.orders.dlq/0 at offset 3: ")
		assert.Equal(t, kafka.RedriveReport{Read: 9, Sent: 9}, report)
		assert.EqualValues(t, 3, b.Committed(ordersRedrive, ordersDLQ, 0))
		ended := kafka.EventsOf[kafka.RedriveEnded](rec)
		require.Len(t, ended, 1)
		assert.ErrorIs(t, ended[0].Err, refusal)
		assert.Equal(t, report, ended[0].Report)
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 7, Sent: 7}, report, "what was beyond it comes again")
	})
}

// A commit that fails for a passing reason is repeated before anything more is sent; one
// that is refused ends the run.
func TestRedriveCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		bury(t, b, 0, 250)
		m := redriver(t, fault.Wrap(b, fault.Any(
			fault.On(fault.Commit, fault.First(2, fault.Before(fault.Error("COORDINATOR_LOAD_IN_PROGRESS")))),
			fault.On(fault.Mark, fault.First(2, fault.After(fault.Error("REQUEST_TIMED_OUT")))))))
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 250, Sent: 250}, report)
		assert.Equal(t, numbers(0, 250), valuesIn(t, b, ordersRetry))
		assert.EqualValues(t, 250, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		bury(t, b, 0, 250)
		refusal := &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
		m := redriver(t, fault.Wrap(b, fault.On(fault.Mark, fault.Before(refusal))))
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.ErrorIs(t, err, refusal)
		assert.Equal(t, kafka.RedriveReport{Read: 100, Sent: 100}, report, "one round")
		assert.Zero(t, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// The brokers that cannot be asked for the positions, or refuse to move them, end a run
// before anything is sent.
func TestRedriveNeedsThePositions(t *testing.T) {
	for _, op := range []fault.Op{fault.OpenGroup, fault.ReadGroup, fault.CommitGroup, fault.OpenProducer, fault.OpenConsumer, fault.FindTopic} {
		synctest.Test(t, func(t *testing.T) {
			b := redriveBroker(t, 1)
			bury(t, b, 0, 1)
			down := fault.Error("CONNECTION_FAILED")
			report, err := redriver(t, fault.Wrap(b, fault.On(op, fault.Before(down)))).Redrive(t.Context(), fromStart(nil))
			require.ErrorIs(t, err, down, "%v", op)
			assert.Equal(t, kafka.RedriveReport{}, report)
			assert.Empty(t, lettersIn(t, b, ordersRetry))
		})
	}
}

// A crash between the send and the commit: what was under way is sent twice, and nothing
// else.
func TestRedriveAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 1)
		bury(t, b, 0, 350)
		lost := fault.NewSwitch(fault.On(fault.Commit, fault.Never()))
		lost.Set(false)
		m := redriver(t, fault.Wrap(b, lost))
		ctx, crash := context.WithCancel(t.Context())
		report, err := m.Redrive(ctx, fromStart(func(c *kafka.RedriveConfig) {
			c.PassUnmatched = true
			c.Match = func(m *kafka.Message) bool {
				if m.Offset == 200 { // the third round is sent and not committed
					lost.Set(true)
					crash()
				}
				return true
			}
		}))
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 300, report.Sent)
		assert.EqualValues(t, 200, b.Committed(ordersRedrive, ordersDLQ, 0))
		lost.Set(false)
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, 150, report.Sent)
		got := map[string]int{}
		for _, v := range valuesIn(t, b, ordersRetry) {
			got[v]++
		}
		for i, v := range numbers(0, 350) {
			want := 1
			if i >= 200 && i < 300 {
				want = 2
			}
			assert.Equal(t, want, got[v], v)
		}
	})
}

// A member that the group has lost goes on when it has joined again, and sends nothing
// twice that was acknowledged.
func TestRedriveOverLostSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 3)
		bury(t, b, 0, 300)
		m := redriver(t, b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Rate = 10 }))
			assert.NoError(t, err)
			assert.Equal(t, kafka.RedriveReport{Read: 300, Sent: 300}, report)
		}()
		for range 5 {
			time.Sleep(4 * time.Second)
			for _, member := range b.Members(ordersRedrive) {
				member.Expire()
			}
		}
		<-done
		sent := valuesIn(t, b, ordersRetry)
		slices.SortFunc(sent, func(a, b string) int { i, _ := strconv.Atoi(a); j, _ := strconv.Atoi(b); return i - j })
		assert.Equal(t, numbers(0, 300), sent)
	})
}

// A position that is not in the log: records that retention has deleted are passed, and of
// a log that has become shorter all is read.
func TestRedriveOutOfRange(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		bury(t, b, 0, 10)
		_, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Limit = 3 }))
		require.NoError(t, err)
		require.NoError(t, b.DeleteRecords(ordersDLQ, 0, 6))
		report, err := m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 4, Sent: 4}, report)
		assert.Equal(t, []string{"0", "1", "2", "6", "7", "8", "9"}, valuesIn(t, b, ordersRetry))

		require.NoError(t, b.SetCommitted(ordersRedrive, ordersDLQ, 0, 50))
		report, err = m.Redrive(t.Context(), kafka.RedriveConfig{JobName: "orders"})
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 4, Sent: 4}, report)
		assert.EqualValues(t, 10, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// Offsets without records, at the end of the topic too, are passed.
func TestRedriveOverHoles(t *testing.T) {
	redriven(t, func(t *testing.T, b *memory.Broker, m *kafka.Manager) {
		hole := func(n int) {
			for range n {
				require.NoError(t, b.AppendControl(ordersDLQ, 0))
			}
		}
		hole(3)
		bury(t, b, 0, 2)
		hole(2)
		bury(t, b, 2, 3)
		hole(4)
		report, err := m.Redrive(t.Context(), fromStart(nil))
		require.NoError(t, err)
		assert.Equal(t, kafka.RedriveReport{Read: 3, Sent: 3}, report)
		assert.EqualValues(t, 12, b.Committed(ordersRedrive, ordersDLQ, 0))
	})
}

// Dead letters that wait for their turn are bounded.
func TestRedriveBoundsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := redriveBroker(t, 2)
		bury(t, b, 0, 20000)
		cfg := retrying(10 * time.Second)
		cfg.MaxBufferedBytes, cfg.MaxMessageBytes = 10_000, 10_000
		var pauses, resumes atomic.Int64
		m := newManager(t, fault.Wrap(b, fault.Any(
			fault.On(fault.Pause, counting(&pauses)), fault.On(fault.Resume, counting(&resumes)))), kafka.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		report, err := m.Redrive(t.Context(), fromStart(func(c *kafka.RedriveConfig) { c.Rate = 1000 }))
		require.NoError(t, err)
		assert.Equal(t, 20000, report.Sent)
		assert.Greater(t, pauses.Load(), int64(2))
		assert.Greater(t, resumes.Load(), int64(2))
	})
}

// counting injects nothing, and counts.
func counting(n *atomic.Int64) fault.Injector { return countCalls{n} }

type countCalls struct{ n *atomic.Int64 }

func (c countCalls) Inject(fault.Call) fault.Fault { c.n.Add(1); return fault.Fault{} }
func (c countCalls) String() string                { return "counting" }
