package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// An outcome is what a handler does with a record.
type outcome int

const (
	fails      outcome = iota
	panics             // with an error
	panicsNil          // by a nil map
	exits              // runtime.Goexit, when it has worked or is interrupted
	slow               // takes seconds, obeys its context
	deaf               // takes seconds, does not
	blocks             // until all is healed
	sends              // sends a result, fails if that fails
	sendsAsync         // and does not wait
	sendsLate          // after a while, also when it should have stopped
	failsThrice
	asksRetry // the rest needs a failure policy
	asksSkip
	asksDeadLetter
	asksStop
	asksHold
	asksJoined
	asksClassified
	marksNil     // and so succeeds
	panicsMarked // with a mark, which has no effect
	namesRecords // records of a batch
	namesFrom
	outcomeCount
	fine
)

func (o outcome) String() string {
	return [...]string{"fails", "panics", "panics nil", "exits", "slow", "deaf", "blocks", "sends", "sends async", "sends late", "fails thrice",
		"asks retry", "asks skip", "asks dead letter", "asks stop", "asks hold", "asks joined", "asks classified", "marks nil",
		"panics marked", "names records", "names records from one on", "", "fine"}[o]
}

var errHandler = errors.New("handler fails")

// next returns the outcome of the next call.
func (w *world) next() (outcome, chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.script) == 0 {
		return fine, w.release
	}
	o := w.script[0]
	w.script = w.script[1:]
	return o, w.release
}

// plan adds outcomes to the script.
func (w *world) plan(o outcome, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.script = append(w.script, o)
	}
}

// handle is every handler: it records the call with the judge, and follows the script.
// ms are its messages if they are a batch.
func (n *node) handle(ctx context.Context, group string, e judge.HandleStart, ms []*kafka.Message) error {
	w := n.w
	w.mu.Lock()
	w.handled++
	e.ID, e.Context = w.handled, judge.Context{Context: claimOf(ctx)}
	w.mu.Unlock()
	if isRetry(e.Partition.Topic) {
		w.recordDead()
	}
	w.judge.Tell(e)
	ok := false
	stop := context.AfterFunc(claimOf(ctx), func() { w.judge.Tell(judge.HandlerCancelled{ID: e.ID}) })
	defer func() {
		stop()
		w.judge.Tell(judge.HandleEnd{ID: e.ID, OK: ok})
	}()
	o, release := w.next()
	if illness, is := w.illness(e); is {
		o = illness
	}
	bad, poison := w.poisoned(e)
	if bad != nil {
		o = poison
	}
	w.stats.count("handler " + o.String())
	if o >= asksRetry && o < outcomeCount {
		w.stats.strike("handler " + o.String())
	}
	chance := rand.New(rand.NewPCG(e.ID, uint64(e.Records[0].Offset)))
	var err error
	switch {
	case ms != nil && (bad != nil && chance.IntN(2) == 0 || o == namesRecords || o == namesFrom):
		if bad != nil && chance.IntN(3) == 0 {
			o = namesFrom
		}
		err = n.answerFailed(e, w.failSome(e, ms, bad, o, chance))
	case o >= asksRetry && o <= asksClassified:
		err = n.answerFailed(e, failAll(e, w.ask(o, chance)))
	default:
		err = n.behave(ctx, o, release)
	}
	if errors.Is(context.Cause(ctx), kafka.ErrHandlerTimeout) {
		w.stats.strike("handler timeout")
	}
	ok = err == nil || o == marksNil
	return err
}

// answerFailed records with the judge what a call asks for.
func (n *node) answerFailed(e judge.HandleStart, f failedCall) error {
	if f.err != nil {
		n.w.judge.Tell(judge.Asked{ID: e.ID, Records: f.asked})
	}
	return f.err
}

func (n *node) behave(ctx context.Context, o outcome, release chan struct{}) error {
	switch o {
	case fails, failsThrice, namesRecords, namesFrom:
		return errHandler
	case marksNil:
		return errors.Join(kafka.Skip(nil), kafka.DeadLetter(nil), kafka.Stop(nil), kafka.Hold(nil, 0), kafka.Retry(nil, 0))
	case panicsMarked:
		panic(kafka.Skip(errHandler))
	case panics:
		panic(errHandler)
	case panicsNil:
		var m map[string]int
		//lint:ignore SA5000 the point of the case
		m["nil"] = 1
	case exits:
		_ = wait(ctx, 10*n.w.drawn.work)
		runtime.Goexit()
	case slow:
		return wait(ctx, 5*time.Second)
	case deaf:
		time.Sleep(4 * time.Second)
	case blocks:
		<-release
	case sends:
		return n.sendResult(ctx)
	case sendsLate:
		return n.sendLate(ctx)
	case sendsAsync:
		n.sendOne(ctx, "handler of "+n.name, results, true)
	}
	return wait(ctx, n.w.drawn.work)
}

// wait takes its time, and is interrupted by its context.
func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// consumer returns a consumer of the drawn kind.
func (n *node) consumer(cfg kafka.ConsumerConfig) kafka.Consumer {
	single := func(ctx context.Context, m *kafka.Message) error {
		return n.handle(ctx, cfg.JobName, n.started(cfg.JobName, []*kafka.Message{m}), nil)
	}
	switch n.w.drawn.kind {
	case "batch":
		return batchConsumer{kafka.NewConsumer(cfg, single), func(ctx context.Context, ms []*kafka.Message) error {
			return n.handle(ctx, cfg.JobName, n.started(cfg.JobName, ms), ms)
		}}
	case "value":
		return valueConsumer{cfg, func(ctx context.Context, value []byte) error {
			return n.handle(ctx, cfg.JobName, n.located(cfg.JobName, value), nil)
		}}
	}
	return kafka.NewConsumer(cfg, single)
}

type batchConsumer struct {
	kafka.Consumer
	handle func(context.Context, []*kafka.Message) error
}

func (c batchConsumer) HandleBatch(ctx context.Context, ms []*kafka.Message) error {
	return c.handle(ctx, ms)
}

type valueConsumer struct {
	cfg    kafka.ConsumerConfig
	handle func(context.Context, []byte) error
}

func (c valueConsumer) GetConfig() *kafka.ConsumerConfig               { return &c.cfg }
func (c valueConsumer) Handle(ctx context.Context, value []byte) error { return c.handle(ctx, value) }

// started says what a handler of messages gets.
func (n *node) started(group string, ms []*kafka.Message) judge.HandleStart {
	e := judge.HandleStart{
		Member: n.member(group), Attempt: ms[0].Attempt,
		Partition: judge.Partition{Topic: ms[0].Topic, Number: ms[0].Partition},
	}
	for _, m := range ms {
		e.Records = append(e.Records, judge.Record{Offset: m.Offset, Key: identity(m.Key, m.Headers), Value: valueAt(e.Partition, m.Offset, m.Value)})
	}
	n.w.keep(ms[0])
	return e
}

// located says the same of a value: where it lies is looked up.
func (n *node) located(group string, value []byte) judge.HandleStart {
	at := n.w.locate(string(value))
	return judge.HandleStart{Member: n.member(group), Partition: at.partition, Records: []judge.Record{at.record}}
}

// A location is a record and its partition.
type location struct {
	partition judge.Partition
	record    judge.Record
}

// locate finds a value, also one that has gone since it was read.
func (w *world) locate(value string) location {
	if at, ok := w.located(value); ok {
		return at
	}
	for _, p := range w.partitions() {
		records, _ := w.broker.Records(p.Topic, p.Number, w.drawn.isolation)
		for _, r := range records {
			w.learn(p, r)
		}
	}
	at, _ := w.located(value)
	return at
}

func (w *world) located(value string) (location, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.locations[value]
	return at, ok
}

func (w *world) learn(p judge.Partition, r driver.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locations[string(r.Value)] = location{p, judge.Record{Offset: r.Offset, Key: identity(r.Key, r.Headers), Value: string(r.Value)}}
}

// A kept message is one that a handler retains, with a copy of its content.
type kept struct {
	m       *kafka.Message
	was     judge.Record
	attempt int
}

const keptLimit = 20

// keep retains some messages: nothing may write to them later.
func (w *world) keep(m *kafka.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) < keptLimit {
		w.kept = append(w.kept, kept{m, judge.Record{Offset: m.Offset, Key: identity(m.Key, m.Headers), Value: string(m.Value)}, m.Attempt})
	}
}

func (w *world) checkKept(t *rapid.T) {
	w.mu.Lock()
	all, broken := w.kept, w.broken
	if len(w.kept) == keptLimit {
		w.kept = nil
	}
	w.mu.Unlock()
	for _, k := range all {
		now := judge.Record{Offset: k.m.Offset, Key: identity(k.m.Key, k.m.Headers), Value: string(k.m.Value)}
		if now != k.was || k.m.Attempt != k.attempt {
			w.violated(t, "kept-message-changed", fmt.Sprintf("%+v, attempt %d, was %+v", now, k.m.Attempt, k))
		}
	}
	if broken != "" {
		w.violated(t, broken, "")
	}
}
