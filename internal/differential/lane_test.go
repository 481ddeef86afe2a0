package differential

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// patience is how long a sequence may take on one system.
const patience = 2 * time.Minute

// A lane is one sequence on one system, with its observations.
type lane struct {
	ctx     context.Context
	sys     system
	seq     sequence
	lenient bool // kfake is one of the two systems

	recreations *tally
	topic       string
	producer    driver.Producer

	partitions int32
	logs       []extent // by partition
	recreated  bool     // the topic was created again

	board
	slots  [mostMembers]*member
	saw    []*member         // see keeps
	owners map[int32]*member // when the group was last at rest

	lines []string
	stuck string // why nothing more can be observed
}

// An extent is where the records of a partition lie. What is between end and top
// is a hole.
type extent struct{ begin, end, top int64 }

// observe runs a sequence on a system and returns what could be observed, and
// why it got stuck if it did. It counts recreations.
func observe(sys system, seq sequence, lenient bool, recreations *tally) (lines []string, stuck string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l := &lane{
		ctx: ctx, sys: sys, seq: seq, lenient: lenient, recreations: recreations, topic: "differential-" + strings.ToLower(rand.Text()[:10]),
		partitions: seq.partitions, logs: make([]extent, seq.partitions),
		board:  board{changed: make(chan struct{}), drains: seq.drains},
		owners: map[int32]*member{},
	}
	if l.open() {
		defer l.close()
		for i, op := range seq.ops {
			l.note("%d %v", i, op)
			if op.do(l); l.stuck != "" {
				break
			}
		}
	}
	return l.lines, l.stuck
}

func (l *lane) open() bool {
	err := l.sys.CreateTopic(l.ctx, l.topic, l.partitions)
	if l.fails("create the topic", err) {
		return false
	}
	l.producer, err = l.sys.Driver().OpenProducer(l.ctx, driver.ProducerConfig{
		Brokers: l.sys.Brokers(), ClientID: "differential", Idempotent: true,
		MaxRetries: 100, RetryBackoff: 50 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	})
	return !l.fails("open a producer", err)
}

// close ends what is left, which must work on every system.
func (l *lane) close() {
	for who, m := range l.slots {
		if m != nil {
			l.fails(fmt.Sprintf("close of member %d", who), l.end(who))
		}
	}
	l.fails("close of the producer", l.producer.Close(l.ctx))
}

// note writes down one observation.
func (l *lane) note(format string, args ...any) {
	l.lines = append(l.lines, strings.ReplaceAll(fmt.Sprintf(format, args...), l.topic, "topic"))
}

// fails gets stuck if err is not nil.
func (l *lane) fails(what string, err error) bool {
	if err != nil && l.stuck == "" {
		l.stuck = fmt.Sprintf("%s: %v", what, err)
	}
	return err != nil
}

// appended extends the known extent of a partition.
func (l *lane) appended(partition int32, offset int64) {
	if partition < 0 || partition >= l.partitions {
		return // so a wrong driver says, which will differ
	}
	l.change(func() { l.logs[partition].end, l.logs[partition].top = offset+1, offset+1 })
}

// memberConfig is that of a member of the group.
func (l *lane) memberConfig(who int) driver.ConsumerConfig {
	cfg := l.consumerConfig(l.topic)
	if l.seq.static {
		cfg.InstanceID = fmt.Sprintf("%s-%d", l.topic, who)
	}
	return cfg
}

func (l *lane) consumerConfig(group string) driver.ConsumerConfig {
	return driver.ConsumerConfig{
		Brokers: l.sys.Brokers(), ClientID: "differential", Group: group, Topics: []string{l.topic},
		InitialOffset:     l.seq.initial,
		OutOfRange:        l.seq.outOfRange,
		BalanceStrategies: []driver.BalanceStrategy{l.seq.strategy},
		SessionTimeout:    10 * time.Second, HeartbeatInterval: 100 * time.Millisecond,
		RebalanceTimeout: 15 * time.Second, DrainTimeout: 5 * time.Second,
		MaxProcessingTime: 100 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// openings is how often a member is opened until that succeeds. A broker on a busy machine may be
// silent for longer than a connection waits; the library opens again, too.
const openings = 3

// unanswered reports whether a broker was silent, or a connection to it broke.
func unanswered(err error) bool {
	code := testkit.Code(err)
	return code == "REQUEST_TIMED_OUT" || code == "CONNECTION_FAILED"
}

// start opens a member and has it run.
func (l *lane) start(cfg driver.ConsumerConfig) *member {
	consumer, err := l.sys.Driver().OpenConsumer(l.ctx, cfg)
	for n := 1; n < openings && unanswered(err); n++ {
		log.Printf("%v: attempt %d to open a consumer failed: %v", l.sys, n, err)
		consumer, err = l.sys.Driver().OpenConsumer(l.ctx, cfg)
	}
	if l.fails("open a consumer", err) {
		return nil
	}
	m := newMember(l, consumer)
	go m.run()
	return m
}

// end closes the member of a slot.
func (l *lane) end(who int) error {
	m := l.slots[who]
	l.slots[who] = nil
	return l.shut(m)
}

func (l *lane) shut(m *member) error {
	err := m.consumer.Close(l.ctx)
	select {
	case <-m.ran:
	case <-l.ctx.Done():
		err = errors.Join(err, l.ctx.Err())
	}
	return err
}

// members returns those that have not ended.
func (l *lane) members() []*member {
	return slices.DeleteFunc(slices.Clone(l.slots[:]), func(m *member) bool { return m == nil || m.ended })
}

// class returns the part of an error that must agree: its code and its kind.
func class(err error) string {
	var ce *driver.CommitError
	var de *driver.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &ce):
		var all []string
		for _, f := range ce.Failed {
			all = append(all, class(f.Err))
		}
		return "not committed: " + strings.Join(all, ", ")
	case errors.Is(err, driver.ErrClaimEnded):
		return "claim has ended"
	case errors.Is(err, driver.ErrClosed):
		return "closed"
	case errors.As(err, &de):
		return de.ErrorType() + kind(err)
	}
	return err.Error()
}

func kind(err error) string {
	switch {
	case errors.Is(err, driver.ErrUnknownOutcome):
		return ", outcome unknown"
	case errors.Is(err, driver.ErrPermanent):
		return ", permanent"
	}
	return ", transient"
}
