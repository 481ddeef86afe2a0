package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A ruled is a consumer with a failure policy whose handler and forwarder do what a plan
// says, and the one rule that it must keep: a record below a committed position was
// handled, or skipped and reported, or its copy was acknowledged.
type ruled struct {
	d     *fakeDriver
	c     *fakeConsumer
	m     *Manager
	claim map[int32]*driver.Claim
	next  map[int32]int64 // the end of each partition's log
	order Order
	most  int // calls at once in a partition
	all   int // and in all

	mu        sync.Mutex
	plan      []string // what handlers do
	letters   []string // what becomes of copies
	cured     bool
	calls     map[recordKey]int
	done      map[recordKey]bool // under any claim
	doneNow   map[recordKey]bool // under the claim that lives
	running   map[string]int     // calls, by lane
	at        map[int32]int      // calls, by partition
	live      map[int32]int      // counts claims
	committed map[int32]int64
	beside    map[int32]string // metadata
	broken    []string
	held      bool // as events say
	struck    map[string]int
	resolves  sync.WaitGroup
}

// The plans of handlers and forwarders.
var (
	handlerPlans = []string{
		"ok", "ok", "ok", "error", "panic", "goexit", "retry", "skip", "dead", "hold", "stop early", "slow", "deaf", "whole", "join", "exit classify",
	}
	letterPlans = []string{"ack", "ack", "transient", "unknown", "no target", "slow"}
)

// errExits is an error about which Classify ends the goroutine.
var errExits = errors.New("its Classify exits")

func exits(err error) Failure {
	if errors.Is(err, errExits) {
		runtime.Goexit()
	}
	return FailureKeep
}

func (r *ruled) complain(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// choose returns the element of a plan for the n-th time that something happens.
func choose(plan []string, key recordKey, n int) string {
	h := fnv.New32a()
	fmt.Fprint(h, key.Partition, key.offset, n)
	return plan[h.Sum32()%uint32(len(plan))]
}

// begin notes that records are handed out, and returns what is to become of each. A call
// that was on its way when its claim ended counts under no claim.
func (r *ruled) begin(ctx context.Context, keys []recordKey) (plans []string, live int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		for range keys {
			plans = append(plans, "ok")
		}
		return plans, -1
	}
	p := keys[0].Partition
	lane := r.lane(keys[0])
	if r.running[lane]++; r.running[lane] > 1 {
		r.complain("two calls at once for %s", lane)
	}
	if r.at[p]++; r.at[p] > r.most || r.at[0]+r.at[1]+r.at[2] > r.all {
		r.complain("more calls at once than there are places: %v", r.at)
	}
	for o := r.claimStart(p); o < keys[0].offset; o++ {
		before := recordKey{keys[0].TopicPartition, o}
		if r.lane(before) == lane && !r.doneNow[before] {
			r.complain("partition %d: offset %d is handed out before %d", p, keys[0].offset, o)
		}
	}
	last := int64(-1)
	for _, key := range keys {
		if r.doneNow[key] {
			r.complain("%v is handed out again", key)
		}
		if key.offset <= last {
			r.complain("%v is out of order", key)
		}
		last = key.offset
		n := r.calls[key]
		r.calls[key]++
		plan := choose(r.plan, key, n)
		if r.cured {
			plan = "ok"
		}
		plans = append(plans, plan)
		r.struck[plan]++
	}
	return plans, r.live[p]
}

func (r *ruled) claimStart(p int32) int64 { return r.claim[p].Start }

// end notes that a call has ended which had begun.
func (r *ruled) end(key recordKey, live int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if live >= 0 {
		r.running[r.lane(key)]--
		r.at[key.Partition]--
	}
}

// keyAt returns the key of a record. Some have none, and some an empty one.
func keyAt(offset int64) []byte {
	return [][]byte{nil, {}, []byte("a"), []byte("b"), []byte("a"), []byte("c"), nil}[offset%7]
}

// lane names what a record must not overtake others in.
func (r *ruled) lane(key recordKey) string {
	switch k := keyAt(key.offset); {
	case r.order == OrderByPartition:
		return fmt.Sprint(key.Partition)
	case r.order == OrderByKey && k != nil:
		return fmt.Sprintf("%d %q", key.Partition, k)
	}
	return fmt.Sprintf("%d at %d", key.Partition, key.offset)
}

// finish notes that a record is safe. Under a claim that has ended it is so all the same,
// but comes again.
func (r *ruled) finish(key recordKey, live int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[key] = true
	if r.live[key.Partition] == live {
		r.doneNow[key] = true
	}
}

// one does what a plan says of one record.
func (r *ruled) one(ctx context.Context, plan string) error {
	switch plan {
	case "error", "whole", "join", "stop early":
		return errHandler
	case "panic":
		panic("planned")
	case "goexit":
		runtime.Goexit()
	case "exit classify":
		return errExits
	case "retry":
		return Retry(errHandler, 7*time.Second)
	case "skip":
		return Skip(errHandler)
	case "dead":
		return fmt.Errorf("wrapped: %w", DeadLetter(errHandler))
	case "hold":
		return Hold(errHandler, 0)
	case "slow":
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case "deaf":
		time.Sleep(90 * time.Second)
	}
	return nil
}

// handle is the handler of one record.
func (r *ruled) handle(ctx context.Context, p int32, offset int64) (err error) {
	key := recordKey{TopicPartition{"orders", p}, offset}
	plans, live := r.begin(ctx, []recordKey{key})
	defer r.end(key, live)
	if err = r.one(ctx, plans[0]); err == nil {
		r.finish(key, live)
	}
	return err
}

// handleBatch is the handler of a batch.
func (r *ruled) handleBatch(ctx context.Context, ms []*Message) error {
	keys := make([]recordKey, len(ms))
	for i, m := range ms {
		keys[i] = recordKeyOf(m)
	}
	plans, live := r.begin(ctx, keys)
	defer r.end(keys[0], live)
	var failed BatchError
	var fine []recordKey
	for i, m := range ms {
		switch plan := plans[i]; plan {
		case "whole":
			return errHandler
		case "join":
			return errors.Join(Skip(errHandler), failed.Err())
		case "stop early":
			failed.AddFrom(m, errHandler)
			for _, key := range fine {
				r.finish(key, live)
			}
			return failed.Err()
		default:
			if err := r.one(ctx, plan); err != nil {
				failed.Add(m, err)
			} else {
				fine = append(fine, keys[i])
			}
		}
	}
	for _, key := range fine {
		r.finish(key, live)
	}
	return failed.Err()
}

func (r *ruled) forward(ctx context.Context, fs []forwarding) []forwarded {
	answers := refuse(fs, nil)
	for i, f := range fs {
		key := recordKey{f.partition, f.record.Offset}
		r.mu.Lock()
		plan := choose(r.letters, key, r.calls[key])
		r.calls[key] += 100
		if r.cured {
			plan = "ack"
		}
		r.struck["letter "+plan]++
		r.mu.Unlock()
		switch plan {
		case "transient":
			answers[i].err = errDial
		case "unknown":
			answers[i].err = fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrPermanent)
		case "no target":
			answers[i].err = fmt.Errorf("%w: empty", errNoTarget)
		case "slow":
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				answers[i].err = ctx.Err()
			}
		}
		if context.Cause(ctx) == errBrokenOff { // by an order for another record of the batch, perhaps
			answers[i].err = ctx.Err()
		}
		if answers[i].err == nil {
			r.acknowledge(ctx, key)
		}
	}
	return answers
}

// acknowledge notes a copy: under the claim that lives, unless ctx has ended with it.
func (r *ruled) acknowledge(ctx context.Context, key recordKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[key] = true
	if ctx.Err() == nil {
		r.doneNow[key] = true
	}
}

// Event notes what is skipped, and holds.
func (r *ruled) Event(e Event) {
	switch e := e.(type) {
	case RecordSkipped:
		r.mu.Lock()
		live := r.live[e.Partition]
		r.mu.Unlock()
		r.finish(recordKey{e.TopicPartition, e.Offset}, live)
	case ConsumerHeld:
		r.mu.Lock()
		defer r.mu.Unlock()
		if e.Until.IsZero() && !r.held {
			r.complain("a hold is over that had not begun")
		}
		r.held = !e.Until.IsZero()
	}
}

// commit checks the rule.
func (r *ruled) commit(_ context.Context, marks []driver.Mark) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range marks {
		p := m.Claim.Partition
		for o := r.committed[p]; o < m.Offset; o++ {
			if !r.done[recordKey{TopicPartition{"orders", p}, o}] {
				r.complain("partition %d: %d is committed, and %d is not done", p, m.Offset, o)
			}
		}
		if m.Offset < r.committed[p] {
			continue // of a claim before
		}
		r.committed[p], r.beside[p] = m.Offset, m.Metadata
		for _, o := range r.above(p) {
			if !r.done[recordKey{TopicPartition{"orders", p}, o}] {
				r.complain("partition %d: beside %d it is committed that %d is done, and it is not", p, m.Offset, o)
			}
			r.struck["known above"]++
		}
	}
	return nil
}

// above returns the offsets that are committed to be done above the position.
func (r *ruled) above(p int32) (offsets []int64) {
	runs, err := finished.Decode(finished.Place{Topic: "orders", Partition: p}, r.committed[p], r.next[p], r.beside[p])
	if err != nil {
		r.complain("partition %d: %v", p, err)
	}
	for _, run := range runs {
		for o := run.From; o < run.To; o++ {
			offsets = append(offsets, o)
		}
	}
	return offsets
}

func (r *ruled) check(t *rapid.T) {
	s, err := r.m.Consumer("job")
	require.NoError(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.broken)
	require.Equal(t, r.held, s.Held != nil, "the latest ConsumerHeld is right")
	for _, p := range s.Partitions {
		require.True(t, p.InFlight >= 0 && p.InFlight <= p.Buffered, "%+v", p)
	}
}

// assign makes a claim from the committed position, and delivers what is there.
func (r *ruled) assign(p int32) {
	r.mu.Lock()
	start := r.committed[p]
	for o := range r.next[p] {
		delete(r.doneNow, recordKey{TopicPartition{"orders", p}, o})
	}
	for _, o := range r.above(p) {
		r.doneNow[recordKey{TopicPartition{"orders", p}, o}] = true
	}
	text := r.beside[p]
	r.live[p]++
	r.claim[p] = &driver.Claim{Start: start} // until the real one is known
	end := r.next[p]
	r.mu.Unlock()
	cl := r.c.assignWith(p, start, end, text)
	r.mu.Lock()
	r.claim[p] = cl
	r.mu.Unlock()
	if start < end {
		r.deliver(cl, start, end-1)
	}
}

// deliver delivers records whose values name their place.
func (r *ruled) deliver(cl *driver.Claim, from, to int64) {
	var b driver.Batch
	for o := from; o <= to; o++ {
		b.Records = append(b.Records, driver.Record{Offset: o, Key: keyAt(o), Value: fmt.Append(nil, cl.Partition, " ", o)})
	}
	r.c.h.Deliver(cl, b)
}

func (r *ruled) stop(t *rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	assert.NoError(t, r.m.Shutdown(ctx))
}

// consumer returns the consumer of a kind.
func (r *ruled) consumer(kind string, cfg ConsumerConfig) Consumer {
	switch kind {
	case "batch":
		return NewBatchConsumer(cfg, r.handleBatch)
	case "message":
		return NewConsumer(cfg, func(ctx context.Context, m *Message) error { return r.handle(ctx, m.Partition, m.Offset) })
	}
	return &handlerFunc{cfg, func(ctx context.Context, v []byte) error {
		var p int32
		var o int64
		if _, err := fmt.Sscan(string(v), &p, &o); err != nil {
			return err
		}
		return r.handle(ctx, p, o)
	}}
}

// Random policies, outcomes, rebalances and operators: the one rule holds at each commit,
// records are handed out in order and never beside themselves, and when handlers and the
// dead-letter topic are well again, everything is done.
func TestOneRuleUnderRandomFailures(t *testing.T) {
	struck, mu := map[string]int{}, sync.Mutex{}
	property := func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			r := &ruled{
				d: &fakeDriver{}, claim: map[int32]*driver.Claim{}, next: map[int32]int64{},
				plan:    rapid.SliceOfN(rapid.SampledFrom(handlerPlans), 3, 12).Draw(t, "plan"),
				letters: rapid.SliceOfN(rapid.SampledFrom(letterPlans), 2, 6).Draw(t, "letters"),
				calls:   map[recordKey]int{}, done: map[recordKey]bool{}, doneNow: map[recordKey]bool{}, struck: map[string]int{},
				running: map[string]int{}, at: map[int32]int{}, most: 1, all: 3, live: map[int32]int{}, committed: map[int32]int64{}, beside: map[int32]string{},
			}
			known := &grownDriver{}
			r.d = &known.fakeDriver
			r.d.commit = r.commit
			cfg := testConfig()
			cfg.MaxBatchSize = 4
			cfg.BatchLinger = time.Duration(rapid.IntRange(0, 1).Draw(t, "linger")) * time.Second
			cfg.HandlerTimeout = time.Duration(rapid.IntRange(0, 1).Draw(t, "timeout")) * 2 * time.Second
			cfg.Failure = deadLetters(rapid.IntRange(1, 4).Draw(t, "attempts"))
			cfg.Failure.DeadLetter.MaxInARow = rapid.SampledFrom([]int{Unlimited, 2}).Draw(t, "in a row")
			if cfg.Failure.Then = rapid.SampledFrom([]Failure{FailureKeep, FailureSkip, FailureDeadLetter}).Draw(t, "then"); cfg.Failure.Then == FailureKeep {
				cfg.Failure.MaxAttempts = 0
			}
			cfg.Failure.Classify = exits
			kind := rapid.SampledFrom([]string{"value", "message", "batch"}).Draw(t, "kind")
			if kind != "batch" && rapid.Bool().Draw(t, "many at once") {
				r.order = rapid.SampledFrom([]Order{OrderByKey, OrderNone}).Draw(t, "order")
				r.most = rapid.SampledFrom([]int{1, 2, 5}).Draw(t, "parallelism")
				r.all = rapid.SampledFrom([]int{1, 2, 100}).Draw(t, "max concurrency")
				cfg.Order, cfg.Parallelism, cfg.MaxConcurrency = r.order, r.most, r.all
				r.struck["many"]++
			}
			r.m = New(known, quiet(), WithHook(&eventFunc{f: r.Event}))
			defer r.stop(t)
			require.NoError(t, r.m.RegisterConsumer(context.Background(), r.consumer(kind, cfg)))
			r.m.jobs["job"].forwarder = r
			require.NoError(t, r.m.SetConsumerSwitch("job", true))
			require.NoError(t, r.m.StartAllConsumers(context.Background()))
			synctest.Wait()
			r.d.mu.Lock()
			r.c = r.d.consumers[0]
			r.d.mu.Unlock()
			for p := range int32(3) {
				r.assign(p)
			}
			partition := rapid.Int32Range(0, 2)
			t.Repeat(map[string]func(*rapid.T){
				"": r.check,
				"deliver": func(t *rapid.T) {
					p, n := partition.Draw(t, "partition"), rapid.Int64Range(1, 9).Draw(t, "records")
					r.mu.Lock()
					from := r.next[p]
					r.next[p] += n
					r.mu.Unlock()
					r.deliver(r.claim[p], from, from+n-1)
					synctest.Wait()
				},
				"wait": func(t *rapid.T) { pass(time.Duration(rapid.IntRange(1, 100).Draw(t, "s")) * time.Second) },
				"revoke": func(t *rapid.T) {
					p := partition.Draw(t, "partition")
					r.c.revoke(r.claim[p])
					r.assign(p)
					synctest.Wait()
				},
				"lose": func(t *rapid.T) {
					p := partition.Draw(t, "partition")
					r.c.lose(r.claim[p])
					r.assign(p)
					synctest.Wait()
				},
				"resolve": func(t *rapid.T) {
					p := partition.Draw(t, "partition")
					do := rapid.SampledFrom([]Failure{FailureKeep, FailureSkip, FailureDeadLetter}).Draw(t, "do")
					patience := time.Duration(rapid.SampledFrom([]int{1, 60, 3600}).Draw(t, "patience s")) * time.Second
					r.mu.Lock()
					offset := r.committed[p]
					r.mu.Unlock()
					r.resolves.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						if r.m.Resolve(ctx, "job", TopicPartition{"orders", p}, offset, do) == nil {
							r.mu.Lock()
							r.struck["resolve "+do.String()]++
							r.mu.Unlock()
						}
					})
					synctest.Wait()
				},
				"end hold": func(*rapid.T) {
					assert.NoError(t, r.m.EndHold("job"))
					synctest.Wait()
				},
			})
			r.mu.Lock()
			r.cured = true
			r.mu.Unlock()
			pass(2 * time.Hour)
			r.check(t)
			for p := range int32(3) {
				require.Equal(t, r.next[p], r.committed[p], "partition %d", p)
			}
			r.resolves.Wait()
			r.stop(t)
			r.check(t)
			mu.Lock()
			defer mu.Unlock()
			for what, n := range r.struck {
				struck[what] += n
			}
		})
	}
	outcomes := slices.Concat(handlerPlans, []string{
		"letter ack", "letter transient", "letter unknown", "letter no target", "letter slow",
		"many", "known above", "resolve keep", "resolve skip", "resolve dead letter",
	})
	// A short run makes too few histories for each outcome to strike in one round.
	missing := func() bool {
		return slices.ContainsFunc(outcomes, func(what string) bool { return struck[what] == 0 })
	}
	for range 100 {
		if rapid.Check(t, property); t.Failed() || !missing() {
			break
		}
	}
	t.Log("how often each outcome struck: " + fmt.Sprint(struck))
	for _, what := range outcomes {
		assert.NotZero(t, struck[what], what)
	}
}
