package kafka

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	minDuration = time.Millisecond                 // the protocol counts in milliseconds: less would become none
	maxDuration = math.MaxInt32 * time.Millisecond // and it does so in 32 bits
	maxMessage  = 100 << 20
)

// resolveConsumer returns a copy of cfg that shares nothing with it and has
// every default filled in, and what the driver has to know of it. In the copy
// Topics names all topics and Topic is empty. batch says that it is a BatchConsumer's.
// The error joins a FieldError for everything that is wrong.
func resolveConsumer(cfg *ConsumerConfig, log *slog.Logger, batch bool) (ConsumerConfig, driver.ConsumerConfig, error) {
	if cfg == nil {
		return ConsumerConfig{}, driver.ConsumerConfig{},
			&FieldError{Kind: "consumer", Field: "GetConfig", Problem: "returned nil"}
	}
	c := *cfg
	p := &problems{kind: "consumer", name: c.JobName}
	p.log = log.With(p.kind, p.name)
	d := driver.ConsumerConfig{Logger: p.log}
	p.identity(&c, &d)
	p.reading(&c)
	p.timing(&c)
	p.limits(&c)
	p.backoff(&c.Backoff)
	p.limit("MaxConsecutiveErrors", &c.MaxConsecutiveErrors, 10)
	p.disabledRetry(c.DisabledRetry)
	p.member(&c)
	c.TLS, d.TLS = p.tls(c.TLS)
	c.SASL, d.SASL = p.sasl(c.SASL, c.TLS != nil)
	p.failure(&c)
	p.order(&c, batch)
	if err := p.report(log); err != nil {
		return ConsumerConfig{}, driver.ConsumerConfig{}, err
	}
	tell(&d, c)
	return c, d, nil
}

// tell copies to d what the two configurations have in common.
func tell(d *driver.ConsumerConfig, c ConsumerConfig) {
	d.ClientID = c.ClientID
	d.Group = c.ConsumerGroup
	d.OldestTopics = newRetries(&c).topics(false)
	d.Topics = slices.Concat(c.Topics, d.OldestTopics)
	d.InstanceID = c.InstanceID
	d.RackID = c.RackID
	d.InitialOffset = c.InitialOffset
	d.OutOfRange = c.OutOfRange
	d.IsolationLevel = c.IsolationLevel
	d.GroupProtocol = c.GroupProtocol
	d.BalanceStrategies = slices.Clone(c.BalanceStrategies)
	d.SessionTimeout = c.SessionTimeout
	d.HeartbeatInterval = c.HeartbeatInterval
	d.RebalanceTimeout = c.RebalanceTimeout
	d.DrainTimeout = c.DrainTimeout
	d.MaxProcessingTime = c.MaxProcessingTime
	d.MaxMessageBytes = c.MaxMessageBytes
	d.MaxDecompressedBytes = c.MaxDecompressedBytes
}

func (p *problems) identity(c *ConsumerConfig, d *driver.ConsumerConfig) {
	p.jobName(c.JobName)
	c.Topics = p.topics(c.Topic, c.Topics)
	c.Topic = ""
	d.Brokers = p.brokers(c.BootstrapServers)
	p.named("ConsumerGroup", c.ConsumerGroup)
}

func (p *problems) reading(c *ConsumerConfig) {
	p.duration("CommitInterval", &c.CommitInterval, time.Second)
	oneOf(p, "InitialOffset", c.InitialOffset, "OffsetNewest, OffsetOldest")
	oneOf(p, "OutOfRange", c.OutOfRange, "OutOfRangeStop, OutOfRangeOldest, OutOfRangeNewest")
	oneOf(p, "IsolationLevel", c.IsolationLevel, "ReadCommitted, ReadUncommitted")
	oneOf(p, "GroupProtocol", c.GroupProtocol, "ClassicProtocol, ConsumerProtocol")
	c.BalanceStrategies = p.strategies(c)
}

func (p *problems) strategies(c *ConsumerConfig) []BalanceStrategy {
	given := c.BalanceStrategies
	switch {
	case c.GroupProtocol == ConsumerProtocol:
		if len(given) > 0 {
			p.add("BalanceStrategies", "%v must be unset with ConsumerProtocol: the brokers assign the partitions", given)
		}
		return nil
	case len(given) == 0:
		return []BalanceStrategy{RoundRobin, Range}
	}
	wrong := few{p: p, field: "BalanceStrategies"}
	seen := map[BalanceStrategy]int{}
	for i, s := range given {
		first, twice := seen[s]
		switch {
		case s.String() == "":
			wrong.add(i, "%d is none of RoundRobin, Range, Sticky, CooperativeSticky", int(s))
		case twice:
			wrong.add(i, "%v is the same as [%d]", s, first)
		default:
			seen[s] = i
		}
	}
	wrong.end()
	return slices.Clone(given)
}

// timing fills in and checks how long the group waits. A relation is judged only
// between durations that are right by themselves.
func (p *problems) timing(c *ConsumerConfig) {
	if c.GroupProtocol == ConsumerProtocol {
		p.fence(c)
	} else {
		p.session(c)
	}
	p.duration("DrainTimeout", &c.DrainTimeout, c.RebalanceTimeout/2)
	p.duration("MaxProcessingTime", &c.MaxProcessingTime, 100*time.Millisecond)
	if rebalance, drain := c.RebalanceTimeout, c.DrainTimeout; drain > 0 && rebalance > 0 && drain >= rebalance {
		p.add("DrainTimeout", "%v is not less than RebalanceTimeout (%v)", drain, rebalance)
	}
}

// session is the part of timing that ClassicProtocol alone has.
func (p *problems) session(c *ConsumerConfig) {
	p.duration("SessionTimeout", &c.SessionTimeout, 10*time.Second)
	p.duration("HeartbeatInterval", &c.HeartbeatInterval, 3*time.Second)
	p.duration("RebalanceTimeout", &c.RebalanceTimeout, fit(time.Minute, c.SessionTimeout, 0))
	session, heartbeat, rebalance := c.SessionTimeout, c.HeartbeatInterval, c.RebalanceTimeout
	if session > 0 && heartbeat > 0 && session < 3*heartbeat {
		p.add("SessionTimeout", "%v is less than 3 x HeartbeatInterval (%v)", session, heartbeat)
	}
	if session > 0 && rebalance > 0 && rebalance < session {
		p.add("RebalanceTimeout", "%v is less than SessionTimeout (%v)", rebalance, session)
	}
	p.sessionBounds(session)
}

// fence is the part of timing that ConsumerProtocol alone has. Its bounds are warnings,
// for the reason that sessionBounds has. Below the lower one a member could end its
// claims while its heartbeats are answered: brokers ask for one every 5s by default.
func (p *problems) fence(c *ConsumerConfig) {
	const least, most = 15 * time.Second, 45 * time.Second
	p.duration("SessionTimeout", &c.SessionTimeout, most)
	if d := c.HeartbeatInterval; d != 0 {
		p.add("HeartbeatInterval", "%v must be unset with ConsumerProtocol: the brokers choose the interval", d)
		c.HeartbeatInterval = 0
	}
	p.duration("RebalanceTimeout", &c.RebalanceTimeout, time.Minute)
	if d := c.SessionTimeout; d < least || d > most {
		p.warn("SessionTimeout: %v is outside %v to %v, from three heartbeats to the session timeout "+
			"that brokers have by default with ConsumerProtocol", d, least, most)
	}
}

// fit keeps a default that depends on another field from contradicting it. A
// bound that is not positive, as of a field that is wrong itself, is none.
func fit(def, least, most time.Duration) time.Duration {
	def = max(def, least)
	if most > 0 {
		def = min(def, most)
	}
	return def
}

// sessionBounds warns of what brokers refuse unless they are configured for it. It
// is no error: the bounds are the brokers' own settings
// (group.min.session.timeout.ms and its max), which cannot be asked for before a
// connection is opened, and a broker in memory has none.
func (p *problems) sessionBounds(session time.Duration) {
	const least, most = 6 * time.Second, 30 * time.Minute
	if session < least || session > most {
		p.warn("SessionTimeout: %v is outside %v to %v, which is what brokers accept by default", session, least, most)
	}
}

func (p *problems) limits(c *ConsumerConfig) {
	p.messageBytes(&c.MaxMessageBytes)
	p.count("MaxBufferedMessages", &c.MaxBufferedMessages, 10000)
	p.count("MaxBufferedBytes", &c.MaxBufferedBytes, 4<<20)
	p.count("MaxTotalBufferedBytes", &c.MaxTotalBufferedBytes, 0)
	p.decompressed(&c.MaxDecompressedBytes)
	p.count("MaxBatchSize", &c.MaxBatchSize, 100)
	p.count("MaxBatchBytes", &c.MaxBatchBytes, 0)
	p.duration("BatchLinger", &c.BatchLinger, 0)
	p.duration("HandlerTimeout", &c.HandlerTimeout, 0)
	if !validRate(c.MaxRate) {
		p.add("MaxRate", "%v %s", c.MaxRate, badRate)
	}
}

// order fills in and checks which records are handled at once. The other limits have
// been. For a BatchConsumer it refuses what only single records can have.
func (p *problems) order(c *ConsumerConfig, batch bool) {
	if c.Parallelism == 0 {
		c.Parallelism = 1
	}
	known := oneOf(p, "Order", c.Order, "OrderByPartition, OrderByKey, OrderNone")
	many := known && c.Order != OrderByPartition
	switch n := c.Parallelism; {
	case n < 0:
		p.add("Parallelism", "%d is negative", n)
	case n > 1 && batch:
		p.add("Parallelism", "%d is not for a BatchConsumer: its batches are handled one after the other", n)
	case n > maxParallelism:
		p.add("Parallelism", "%d is more than %d", n, maxParallelism)
	case n > 1 && known && !many:
		p.add("Parallelism", "%d needs Order to be OrderByKey or OrderNone", n)
	case c.MaxBufferedMessages > 0 && n > c.MaxBufferedMessages:
		p.add("Parallelism", "%d is more than MaxBufferedMessages (%d)", n, c.MaxBufferedMessages)
	}
	switch n := c.MaxConcurrency; {
	case n < 0:
		p.add("MaxConcurrency", "%d is negative", n)
	case n > 0 && batch:
		p.add("MaxConcurrency", "%d is not for a BatchConsumer: its batches are handled one after the other", n)
	case n > 0 && known && !many:
		p.add("MaxConcurrency", "%d needs Order to be OrderByKey or OrderNone", n)
	}
	if batch && c.Order == OrderByKey {
		p.add("Order", "%q is not for a BatchConsumer: a batch has records of many keys", c.Order)
	}
	if c.AutoCommit && many {
		p.add("Order", "%q needs AutoCommit to be false: with it the position moves before the handler runs", c.Order)
	}
}

// maxParallelism is the most records of one partition that are handled at once.
const maxParallelism = 10_000

func (p *problems) decompressed(n *int) {
	const least, most = 1 << 20, 1 << 30
	p.count("MaxDecompressedBytes", n, 64<<20)
	if *n >= 0 && (*n < least || *n > most) {
		p.add("MaxDecompressedBytes", "%d is outside %d to %d", *n, least, most)
	}
}

// disabledRetry checks a wait that is off by default, so that zero stays zero.
func (p *problems) disabledRetry(d time.Duration) {
	given := d
	if p.duration("DisabledRetry", &d, 0); d > 0 && d < time.Second {
		p.add("DisabledRetry", "%v is less than 1s", given)
	}
}

func (p *problems) messageBytes(n *int) {
	p.count("MaxMessageBytes", n, 1<<20)
	if *n > maxMessage {
		p.add("MaxMessageBytes", "%d is more than 100 MiB (%d)", *n, maxMessage)
	}
}

func (p *problems) backoff(b *Backoff) {
	def := b.filled()
	b.Multiplier, b.Jitter = def.Multiplier, def.Jitter
	p.duration("Backoff.Min", &b.Min, def.Min)
	p.duration("Backoff.Max", &b.Max, def.Max)
	if b.Min > 0 && b.Max > 0 && b.Min > b.Max {
		p.add("Backoff.Min", "%v is more than Backoff.Max (%v)", b.Min, b.Max)
	}
	if !(b.Multiplier > 1) || math.IsInf(b.Multiplier, 0) { // so that NaN is refused too
		p.add("Backoff.Multiplier", "%v is not a number above 1", b.Multiplier)
	}
	if !(b.Jitter >= 0 && b.Jitter <= 1) && b.Jitter != NoJitter {
		p.add("Backoff.Jitter", "%v is neither in 0..1 nor NoJitter (%d)", b.Jitter, NoJitter)
	}
}

// member fills in and checks how the brokers know the consumer.
func (p *problems) member(c *ConsumerConfig) {
	p.clientID(&c.ClientID, c.JobName)
	p.instanceID(c.InstanceID)
	p.optional("RackID", c.RackID)
}

// clientID fills in a default for the consumer or producer of that name, whose own
// field is checked elsewhere.
func (p *problems) clientID(id *string, name string) {
	if *id == "" {
		*id = defaultClientID(programPath(), name)
		return
	}
	p.named("ClientID", *id)
}

// programPath returns how the program was called. The arguments of a process may be
// empty.
func programPath() string {
	if len(os.Args) == 0 || os.Args[0] == "" {
		return "go"
	}
	return os.Args[0]
}

// defaultClientID returns the name of the program's file, '-' and name, in the
// characters that all brokers accept. The program's name is cut if the whole would
// be too long: name distinguishes the program's own clients.
func defaultClientID(path, name string) string {
	program := strings.TrimSuffix(filepath.Base(path), ".exe")
	name = legal(name)
	name = name[:min(len(name), maxNameBytes-1)]
	program = legal(program)
	return program[:min(len(program), maxNameBytes-1-len(name))] + "-" + name
}

// legal returns s with '_' in place of each character that a client ID must not have.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && legalInTopic[r] {
			return r
		}
		return '_'
	}, s)
}

// duration fills in def for zero and checks anything else. One that is wrong
// becomes zero, so that no relation is judged on it.
func (p *problems) duration(field string, d *time.Duration, def time.Duration) {
	switch given := *d; {
	case given == 0:
		*d = def
		return
	case given < 0:
		p.add(field, "%v is negative", given)
	case given < minDuration:
		p.add(field, "%v is less than %v", given, minDuration)
	case given > maxDuration:
		p.add(field, "%v is more than %v", given, maxDuration)
	default:
		return
	}
	*d = 0
}

// count fills in def for zero and refuses what is negative.
func (p *problems) count(field string, n *int, def int) {
	if *n == 0 {
		*n = def
	}
	if *n < 0 {
		p.add(field, "%d is negative", *n)
	}
}

// limit is count for a bound that can be Unlimited.
func (p *problems) limit(field string, n *int, def int) {
	if *n == 0 {
		*n = def
	}
	if *n < 0 && *n != Unlimited {
		p.add(field, "%d is negative and not Unlimited (%d)", *n, Unlimited)
	}
}

// oneOf refuses what is none of an enumeration's constants: their String is
// Kafka's name, and that of everything else is empty.
func oneOf[E interface {
	~int
	fmt.Stringer
}](p *problems, field string, v E, constants string) (known bool) {
	known = v.String() != ""
	if !known {
		p.add(field, "%d is none of %s", int(v), constants)
	}
	return known
}
