package kafka

import (
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A draw is a random configuration and the fields that are wrong in it, as the
// documentation of the configuration has it.
type draw struct {
	t     *rapid.T
	right bool // draw right values only, and see what their relations give
	wrong map[string]bool
}

func newDraw(t *rapid.T) *draw {
	return &draw{t: t, right: rapid.Bool().Draw(t, "right"), wrong: map[string]bool{}}
}

// field draws a value for *v: most times a right one.
func field[V any](d *draw, name string, v *V, right, wrong []V) {
	if d.right || rapid.IntRange(0, 19).Draw(d.t, name+" is wrong if 0") > 0 {
		*v = rapid.SampledFrom(right).Draw(d.t, name)
		return
	}
	*v = rapid.SampledFrom(wrong).Draw(d.t, name)
	d.wrong[name] = true
}

func (d *draw) duration(name string, v *time.Duration, right ...time.Duration) {
	field(d, name, v, append(right, 0), []time.Duration{-1, -time.Second, 1, time.Millisecond - 1, math.MaxInt64, math.MinInt64})
}

func (d *draw) count(name string, v *int) {
	field(d, name, v, []int{0, 1, 7, 100 << 20}, []int{-1, math.MinInt})
}

// relation makes name wrong if the fields that it relates are right and broken is true.
func (d *draw) relation(name, other string, broken bool) {
	if broken && !d.wrong[name] && !d.wrong[other] {
		d.wrong[name+"*"] = true
	}
}

// fields returns the names of the wrong fields, those of broken relations too.
func (d *draw) fields() []string {
	names := map[string]bool{}
	for name := range d.wrong {
		names[strings.TrimSuffix(name, "*")] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func or[V comparable](v, def V) V {
	if v == *new(V) {
		return def
	}
	return v
}

func (d *draw) consumer() ConsumerConfig {
	var c ConsumerConfig
	field(d, "JobName", &c.JobName, []string{"orders", "ä b"}, []string{"", " ", "a/b", "\x00", strings.Repeat("x", 256)})
	field(d, "Topic", &c.Topic, []string{"t", "a.b"}, []string{".", "a b", "__consumer_offsets"})
	field(d, "Topics[1]", &c.Topics, [][]string{nil, {"u"}, {"u", "v"}}, [][]string{{"u", ""}, {"u", "u"}})
	field(d, "BootstrapServers[0]", &c.BootstrapServers, []string{"a:1", "a:1,[::1]:2"}, []string{"a", "a:0,b:1", ",a:1"})
	field(d, "ConsumerGroup", &c.ConsumerGroup, []string{"g"}, []string{"", "\n"})
	field(d, "InitialOffset", &c.InitialOffset, []InitialOffset{OffsetNewest, OffsetOldest}, []InitialOffset{-1, 2})
	field(d, "OutOfRange", &c.OutOfRange, []OutOfRange{OutOfRangeStop, OutOfRangeOldest, OutOfRangeNewest}, []OutOfRange{-1, 3})
	field(d, "IsolationLevel", &c.IsolationLevel, []IsolationLevel{ReadCommitted, ReadUncommitted}, []IsolationLevel{-1, 2})
	field(d, "BalanceStrategies[1]", &c.BalanceStrategies, [][]BalanceStrategy{nil, {Sticky}, {Range, RoundRobin}},
		[][]BalanceStrategy{{Range, Range}, {Range, 9}})
	d.timing(&c)
	d.protocol(&c)
	d.counts(&c)
	d.backoff(&c.Backoff)
	field(d, "ClientID", &c.ClientID, []string{"", "c"}, []string{" c"})
	field(d, "InstanceID", &c.InstanceID, []string{"", "pod-0"}, []string{"pod 0"})
	field(d, "RackID", &c.RackID, []string{"", "a b"}, []string{"\t"})
	field(d, "TLS.KeyFile", &c.TLS, []*TLSConfig{nil, {}, {ServerName: "n"}}, []*TLSConfig{{CertFile: "c"}})
	field(d, "SASL.User", &c.SASL, []*SASLConfig{nil, {Mechanism: SASLScramSHA256, User: "u", Password: "p"}},
		[]*SASLConfig{{Mechanism: SASLScramSHA256, Password: "p"}})
	return c
}

func (d *draw) timing(c *ConsumerConfig) {
	d.duration("CommitInterval", &c.CommitInterval, time.Millisecond, time.Hour)
	d.duration("SessionTimeout", &c.SessionTimeout, 9*time.Second, time.Minute)
	d.duration("HeartbeatInterval", &c.HeartbeatInterval, time.Millisecond, 3*time.Second+1)
	d.duration("RebalanceTimeout", &c.RebalanceTimeout, 10*time.Second, time.Hour)
	d.duration("DrainTimeout", &c.DrainTimeout, time.Millisecond, 10*time.Second)
	d.duration("MaxProcessingTime", &c.MaxProcessingTime, time.Second)
	session, rebalance := or(c.SessionTimeout, 10*time.Second), or(c.RebalanceTimeout, time.Minute)
	d.relation("SessionTimeout", "HeartbeatInterval", session < 3*or(c.HeartbeatInterval, 3*time.Second))
	d.relation("RebalanceTimeout", "SessionTimeout", c.RebalanceTimeout != 0 && rebalance < session)
	d.relation("DrainTimeout", "RebalanceTimeout", or(c.DrainTimeout, 1) >= rebalance)
}

// protocol draws the group protocol. With ConsumerProtocol two fields must be unset, what
// is wrong with them by themselves does not matter, and SessionTimeout stands alone.
func (d *draw) protocol(c *ConsumerConfig) {
	field(d, "GroupProtocol", &c.GroupProtocol, []GroupProtocol{ClassicProtocol, ClassicProtocol, ConsumerProtocol}, []GroupProtocol{-1, 2})
	if c.GroupProtocol != ConsumerProtocol {
		return
	}
	for _, name := range []string{"SessionTimeout*", "RebalanceTimeout*", "BalanceStrategies[1]", "HeartbeatInterval"} {
		delete(d.wrong, name)
	}
	if rapid.Bool().Draw(d.t, "the brokers' settings are unset") {
		c.BalanceStrategies, c.HeartbeatInterval = nil, 0
	}
	d.wrong["BalanceStrategies*"], d.wrong["HeartbeatInterval"] = len(c.BalanceStrategies) > 0, c.HeartbeatInterval != 0
	maps.DeleteFunc(d.wrong, func(_ string, wrong bool) bool { return !wrong })
}

func (d *draw) counts(c *ConsumerConfig) {
	field(d, "MaxMessageBytes", &c.MaxMessageBytes, []int{0, 1, 100 << 20}, []int{-1, 100<<20 + 1, math.MaxInt})
	d.count("MaxBufferedMessages", &c.MaxBufferedMessages)
	d.count("MaxBufferedBytes", &c.MaxBufferedBytes)
	d.count("MaxBatchSize", &c.MaxBatchSize)
	d.count("MaxTotalBufferedBytes", &c.MaxTotalBufferedBytes)
	field(d, "MaxDecompressedBytes", &c.MaxDecompressedBytes, []int{0, 1 << 20, 1 << 30}, []int{-1, 1, 1<<30 + 1})
	field(d, "MaxConsecutiveErrors", &c.MaxConsecutiveErrors, []int{0, 1, Unlimited, math.MaxInt}, []int{-2, math.MinInt})
	d.parallel(c)
	d.duration("DisabledRetry", &c.DisabledRetry, time.Second, time.Hour)
}

// parallel draws what is about many records at once. It leaves most configurations alone:
// few draws of these fields go together, and enough of all have to be accepted.
func (d *draw) parallel(c *ConsumerConfig) {
	if rapid.IntRange(0, 3).Draw(d.t, "many at once if 0") > 0 {
		return
	}
	field(d, "Order", &c.Order, []Order{OrderByPartition, OrderByKey, OrderNone}, []Order{-1, 3})
	field(d, "Parallelism", &c.Parallelism, []int{0, 1, 2, 7, 10_000}, []int{-1, 10_001, math.MinInt})
	field(d, "MaxConcurrency", &c.MaxConcurrency, []int{0, 1, 100_000}, []int{-1, math.MinInt})
	d.relation("Parallelism", "Order", c.Parallelism > 1 && c.Order == OrderByPartition)
	d.relation("Parallelism", "MaxBufferedMessages", max(1, c.Parallelism) > or(c.MaxBufferedMessages, 10_000))
	d.relation("MaxConcurrency", "Order", c.MaxConcurrency > 0 && c.Order == OrderByPartition)
}

func (d *draw) backoff(b *Backoff) {
	d.duration("Backoff.Min", &b.Min, time.Millisecond, time.Minute)
	d.duration("Backoff.Max", &b.Max, time.Second, time.Hour)
	d.relation("Backoff.Min", "Backoff.Max", b.Min != 0 && b.Max != 0 && b.Min > b.Max)
	field(d, "Backoff.Multiplier", &b.Multiplier, []float64{0, 1.001, 2, math.MaxFloat64}, []float64{1, -1, math.NaN(), math.Inf(1)})
	field(d, "Backoff.Jitter", &b.Jitter, []float64{0, NoJitter, 1, 0.5}, []float64{1.01, -0.1, math.NaN(), math.Inf(-1)})
}

func (d *draw) producer() ProducerConfig {
	var c ProducerConfig
	field(d, "Name", &c.Name, []string{"", "p"}, []string{"p/", "p "})
	field(d, "BootstrapServers", &c.BootstrapServers, []string{"a:1"}, []string{"", " "})
	field(d, "RequiredAcks", &c.RequiredAcks, []RequiredAcks{WaitForAll, WaitForLocal, NoResponse}, []RequiredAcks{-1, 3})
	field(d, "Compression", &c.Compression, []Compression{CompressionNone, CompressionZSTD}, []Compression{-1, 5})
	field(d, "MaxRetries", &c.MaxRetries, []int{NoRetries, 0, 1, 10000}, []int{-2, 10001, math.MinInt})
	d.duration("RetryBackoff", &c.RetryBackoff, time.Millisecond, time.Minute)
	d.duration("DeliveryTimeout", &c.DeliveryTimeout, time.Second, time.Hour)
	d.relation("DeliveryTimeout", "RetryBackoff", c.DeliveryTimeout > 0 && c.DeliveryTimeout < or(c.RetryBackoff, 100*time.Millisecond))
	d.relation("DeliveryTimeout", "MaxRetries", c.DeliveryTimeout > 0 && c.MaxRetries == NoRetries)
	field(d, "MaxMessageBytes", &c.MaxMessageBytes, []int{0, 1, 100 << 20}, []int{-1, 100<<20 + 1})
	field(d, "ClientID", &c.ClientID, []string{"", "c"}, []string{"c "})
	c.EnableIdempotent, c.EnableSyncProducer, c.EnableAsyncProducer = d.boolean("idempotent"), d.boolean("sync"), d.boolean("async")
	idempotent := c.EnableIdempotent != nil && *c.EnableIdempotent
	d.relation("EnableIdempotent", "RequiredAcks", idempotent && c.RequiredAcks != WaitForAll)
	d.relation("EnableIdempotent", "MaxRetries", idempotent && c.MaxRetries == NoRetries)
	noSync, async := c.EnableSyncProducer != nil && !*c.EnableSyncProducer, c.EnableAsyncProducer != nil && *c.EnableAsyncProducer
	d.relation("EnableSyncProducer", "EnableAsyncProducer", noSync && !async)
	return c
}

func (d *draw) boolean(name string) *bool {
	return rapid.SampledFrom([]*bool{nil, BoolPtr(false), BoolPtr(true)}).Draw(d.t, name)
}

// judge compares the fields that err names with those that are wrong.
func (d *draw) judge(kind, name string, err, again error) {
	require.Equal(d.t, err, again, "the second answer is another")
	var all []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	named := map[string]bool{}
	for _, err := range all {
		var f *FieldError
		require.ErrorAs(d.t, err, &f)
		require.Equal(d.t, kind, f.Kind)
		require.Equal(d.t, name, f.Name)
		require.NotContains(d.t, f.Error(), "\n")
		named[f.Field] = true
	}
	require.Equal(d.t, d.fields(), slices.Sorted(maps.Keys(named)), "the fields that the error names: %v", err)
}

// verdicts counts both answers, so that a property is not met by one alone.
type verdicts struct{ accepted, refused int }

func (v *verdicts) count(err error) {
	if err != nil {
		v.refused++
	} else {
		v.accepted++
	}
}

// check checks the property until it has seen both answers: of the few configurations that a
// short run draws all may be refused.
func (v *verdicts) check(t *testing.T, property func(*rapid.T)) {
	for range 10 {
		rapid.Check(t, property)
		if v.accepted > 0 && v.refused > 0 {
			return
		}
	}
	require.NotZero(t, v.accepted)
	require.NotZero(t, v.refused)
}

// Exactly the wrong fields are refused; what is accepted keeps every documented
// relation and resolves to itself.
func TestRandomConsumers(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	var v verdicts
	v.check(t, func(t *rapid.T) {
		d := newDraw(t)
		cfg := d.consumer()
		got, forDriver, err := resolveConsumer(&cfg, log, false)
		_, _, again := resolveConsumer(&cfg, log, false)
		v.count(err)
		d.judge("consumer", cfg.JobName, err, again)
		if err != nil {
			return
		}
		require.Empty(t, brokenRelation(got), "a relation that does not hold in %+v", got)
		fixed, forDriverAgain, err := resolveConsumer(&got, log, false)
		require.NoError(t, err, "resolved again")
		require.Equal(t, got, fixed, "resolved again")
		require.Equal(t, forDriver.Topics, forDriverAgain.Topics, "resolved again")
	})
}

// brokenRelation names a promise that a resolved configuration does not keep.
func brokenRelation(c ConsumerConfig) string {
	for what, holds := range map[string]bool{
		"there are topics, in Topics":                 c.Topic == "" && len(c.Topics) > 0,
		"there is a strategy, or the brokers have it": (len(c.BalanceStrategies) > 0) == (c.GroupProtocol == ClassicProtocol),
		"there is a client ID":                        c.ClientID != "",
		"durations are positive":                      min(c.CommitInterval, c.MaxProcessingTime, c.DrainTimeout, c.SessionTimeout) > 0,
		"there are heartbeats, or the brokers' own":   (c.HeartbeatInterval > 0) == (c.GroupProtocol == ClassicProtocol),
		"3 x HeartbeatInterval <= SessionTimeout":     3*c.HeartbeatInterval <= c.SessionTimeout,
		"SessionTimeout <= RebalanceTimeout":          c.SessionTimeout <= c.RebalanceTimeout || c.GroupProtocol == ConsumerProtocol,
		"DrainTimeout < RebalanceTimeout":             c.DrainTimeout < c.RebalanceTimeout,
		"counts are positive":                         min(c.MaxBufferedMessages, c.MaxBufferedBytes, c.MaxBatchSize) > 0,
		"0 < Parallelism <= MaxBufferedMessages":      0 < c.Parallelism && c.Parallelism <= min(10_000, c.MaxBufferedMessages),
		"many at once have no order of the partition": c.Order != OrderByPartition || c.Parallelism == 1 && c.MaxConcurrency == 0,
		"a limit is positive or Unlimited":            c.MaxConsecutiveErrors > 0 || c.MaxConsecutiveErrors == Unlimited,
		"bytes of a batch are bounded":                c.MaxDecompressedBytes >= 1<<20 && c.MaxDecompressedBytes <= 1<<30,
		"0 < MaxMessageBytes <= 100 MiB":              c.MaxMessageBytes > 0 && c.MaxMessageBytes <= 100<<20,
		"0 < Backoff.Min <= Backoff.Max":              0 < c.Backoff.Min && c.Backoff.Min <= c.Backoff.Max,
		"each wait is at most Max and not negative":   waits(c.Backoff),
		"Multiplier is above 1 and Jitter is at most": c.Backoff.Multiplier > 1 && c.Backoff.Jitter <= 1,
	} {
		if !holds {
			return what
		}
	}
	return ""
}

func waits(b Backoff) bool {
	for _, n := range []int{1, 2, 10, 1000} {
		if d := b.Wait(n); d < 0 || d > b.Max {
			return false
		}
	}
	return true
}

func TestRandomProducers(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	var v verdicts
	v.check(t, func(t *rapid.T) {
		d := newDraw(t)
		cfg := d.producer()
		got, forDriver, err := resolveProducer(cfg, "p", log)
		_, _, again := resolveProducer(cfg, "p", log)
		v.count(err)
		d.judge("producer", "p", err, again)
		if err != nil {
			return
		}
		if forDriver.Idempotent {
			require.Equal(t, WaitForAll, forDriver.RequiredAcks)
			require.NotZero(t, forDriver.MaxRetries)
		}
		require.GreaterOrEqual(t, forDriver.MaxRetries, 0)
		require.Positive(t, forDriver.RetryBackoff)
		require.Positive(t, forDriver.MaxMessageBytes)
		require.True(t, *got.EnableSyncProducer || *got.EnableAsyncProducer)
		fixed, _, err := resolveProducer(got, "p", log)
		require.NoError(t, err, "resolved again")
		require.Equal(t, got, fixed, "resolved again")
	})
}
