package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A buffers is a consumer whose partitions are fetched by hand, and whose handler
// fails or waits as the test wants.
type buffers struct {
	m       *Manager
	c       *fakeConsumer
	claims  []*driver.Claim
	next    map[*driver.Claim]int64
	mode    [64]atomic.Int32 // by partition
	handled [64]atomic.Int64 // likewise: how many records
	lastNo  int32            // of the partitions assigned so far
}

const (
	handles = iota // the handler returns nil at once
	fails          // it fails
	crawls         // it takes a second
)

func newBuffers(cfg ConsumerConfig) (*buffers, error) {
	d := &fakeDriver{}
	b := &buffers{m: New(d, quiet()), next: map[*driver.Claim]int64{}}
	cfg.MaxConsecutiveErrors = Unlimited
	cfg.Backoff = Backoff{Min: time.Second, Max: 10 * time.Second, Jitter: NoJitter}
	err := errors.Join(
		b.m.RegisterConsumer(context.Background(), NewConsumer(cfg, b.handle)),
		b.m.SetConsumerSwitch("job", true),
		b.m.StartAllConsumers(context.Background()))
	synctest.Wait()
	b.c = d.consumers[0]
	return b, err
}

func (b *buffers) handle(ctx context.Context, m *Message) error {
	switch b.mode[m.Partition].Load() {
	case fails:
		return errors.New("no")
	case crawls:
		time.Sleep(time.Second)
	}
	b.handled[m.Partition].Add(1)
	return nil
}

func (b *buffers) assign() *driver.Claim {
	cl := b.c.assign(b.lastNo, 0)
	b.lastNo++
	b.claims = append(b.claims, cl)
	return cl
}

// fetch delivers n records that cost size bytes together, if the claim is not
// paused, as a driver does, and reports whether it did.
func (b *buffers) fetch(cl *driver.Claim, n, size int) bool {
	if b.c.isPaused(cl) {
		return false
	}
	from := b.next[cl]
	b.next[cl] += int64(n)
	b.c.h.Deliver(cl, batchOf(from, n, size))
	return true
}

func batchOf(from int64, n, size int) driver.Batch {
	value := make([]byte, max(0, size/n-new(driver.Record).Size()))
	var batch driver.Batch
	for i := range n {
		batch.Records = append(batch.Records, driver.Record{Offset: from + int64(i), Value: value})
	}
	return batch
}

func (b *buffers) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return b.m.Shutdown(ctx)
}

// held returns the bytes that a partition holds, and the reasons of its pause.
func held(cl *driver.Claim) (bytes int64, reasons pauseReason) {
	in := cl.Owner.(*partition).intake
	in.mu.Lock()
	defer in.mu.Unlock()
	return int64(in.window.Bytes()), in.flow.reasons
}

// wrong returns the rule that is broken while everything rests: a total that is not
// the sum, a pause without its reason, a partition that is fetched against the rule,
// or one that waits though nothing would ever wake it.
func (b *buffers) wrong() error {
	if len(b.claims) == 0 {
		return nil
	}
	budget := b.claims[0].Owner.(*partition).env.budget
	sum, share, tight := int64(0), budget.most/int64(len(b.claims)), budget.tight.Load()
	for _, cl := range b.claims {
		bytes, reasons := held(cl)
		sum += bytes
		total := reasons&pauseTotal != 0
		switch {
		case b.c.isPaused(cl) != (reasons != 0):
			return fmt.Errorf("%d: paused %t for the reasons %b", cl.Partition, b.c.isPaused(cl), reasons)
		case tight && bytes > share && !total:
			return fmt.Errorf("%d holds %d, more than its share %d, and is fetched", cl.Partition, bytes, share)
		case total && (!tight || bytes <= share/2):
			return fmt.Errorf("%d holds %d of a share of %d (tight %t), and waits", cl.Partition, bytes, share, tight)
		}
	}
	switch total := budget.total.Load(); {
	case total != sum:
		return fmt.Errorf("total %d, the queues hold %d", total, sum)
	case tight && total <= budget.most/2, !tight && total > budget.most:
		return fmt.Errorf("tight is %t at %d of %d", tight, total, budget.most)
	}
	return nil
}

// E3: random fetches, failures and rebalances. When a step has come to rest, exactly
// the partitions that hold more than their share are paused. When all handlers
// succeed again, every record is handled and no partition waits.
func TestFault_E3_TotalBoundPausesExactlyWhoHoldsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			cfg := testConfig()
			cfg.MaxTotalBufferedBytes = rapid.IntRange(2_000, 100_000).Draw(t, "total")
			cfg.MaxBufferedBytes = rapid.IntRange(1_000, 100_000).Draw(t, "own")
			b, err := newBuffers(cfg)
			require.NoError(t, err)
			defer b.stop()
			for range rapid.IntRange(1, 12).Draw(t, "partitions") {
				b.assign()
			}
			pick := func(t *rapid.T) *driver.Claim {
				if len(b.claims) == 0 {
					t.Skip("no partition")
				}
				return rapid.SampledFrom(b.claims).Draw(t, "claim")
			}
			drop := func(t *rapid.T, how func(*driver.Claim)) {
				cl := pick(t)
				b.mode[cl.Partition].Store(handles)
				for i, c := range b.claims {
					if c == cl {
						b.claims = append(b.claims[:i:i], b.claims[i+1:]...)
						break
					}
				}
				how(cl)
			}
			t.Repeat(map[string]func(*rapid.T){
				"": func(t *rapid.T) {
					synctest.Wait()
					require.NoError(t, b.wrong())
				},
				"fetch": func(t *rapid.T) {
					b.fetch(pick(t), rapid.IntRange(1, 20).Draw(t, "records"), rapid.IntRange(100, 20_000).Draw(t, "bytes"))
				},
				"fetch more": func(t *rapid.T) {
					for range 5 {
						b.fetch(pick(t), 2, 3_000)
						synctest.Wait()
					}
				},
				"mode": func(t *rapid.T) { b.mode[pick(t).Partition].Store(rapid.Int32Range(0, 2).Draw(t, "mode")) },
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
				},
				"revoke": func(t *rapid.T) { drop(t, b.c.revoke) },
				"lose":   func(t *rapid.T) { drop(t, b.c.lose) },
				"assign": func(t *rapid.T) {
					if b.lastNo == int32(len(b.mode)) {
						t.Skip("enough")
					}
					b.assign()
				},
			})
			for _, cl := range b.claims {
				b.mode[cl.Partition].Store(handles)
			}
			pass(time.Hour)
			for _, cl := range b.claims {
				require.Equal(t, b.next[cl], b.handled[cl.Partition].Load(), "partition %d: records handled", cl.Partition)
				require.False(t, b.c.isPaused(cl), "partition %d is paused", cl.Partition)
			}
			require.NoError(t, b.wrong())
		})
	})
}

// E3: partitions whose handler fails take what they can get, and no more than
// the documented worst case. A healthy one beside them is fetched again and again.
func TestFault_E3_FailingPartitionsStarveNoHealthyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, fetch, total = 10, 10_000, 200_000
		cfg := testConfig()
		cfg.MaxTotalBufferedBytes = total
		b, err := newBuffers(cfg)
		require.NoError(t, err)
		defer func() { require.NoError(t, b.stop()) }()
		for range partitions {
			b.mode[b.assign().Partition].Store(fails)
		}
		healthy := b.claims[0]
		b.mode[0].Store(handles)
		for range 200 {
			for _, cl := range b.claims[1:] {
				b.fetch(cl, 10, fetch)
			}
			require.True(t, b.fetch(healthy, 10, fetch), "the healthy partition is starved")
			synctest.Wait()
			require.NoError(t, b.wrong())
			sum := int64(0)
			for _, cl := range b.claims {
				bytes, _ := held(cl)
				sum += bytes
			}
			require.LessOrEqual(t, sum, int64(2*total+partitions*fetch))
		}
		assert.Equal(t, int64(2000), b.handled[0].Load())
		for _, cl := range b.claims[1:] {
			assert.True(t, b.c.isPaused(cl), "partition %d", cl.Partition)
		}
	})
}

// E3: neither reason lifts the other.
func TestFault_E3_APauseEndsWithItsLastReason(t *testing.T) {
	var f flow
	f.set(pauseQueue)
	f.set(pauseTotal)
	f.have = true
	f.lift(pauseTotal)
	assert.False(t, f.unmet(), "the queue is full still")
	f.set(pauseTotal)
	f.lift(pauseQueue)
	assert.False(t, f.unmet(), "the total is too high still")
	f.lift(pauseTotal)
	assert.True(t, f.unmet())
}

// E3: one partition holds its own bound and one fetch, for small and for large records.
func TestFault_E3_PartitionHoldsItsBoundAndOneFetch(t *testing.T) {
	for _, size := range []int{1_000, 10_000, 900_000, 3_000_000} {
		synctest.Test(t, func(t *testing.T) {
			cfg := testConfig()
			cfg.MaxBufferedBytes, cfg.MaxBufferedMessages = 1<<20, 100_000
			b, err := newBuffers(cfg)
			require.NoError(t, err)
			defer func() { require.NoError(t, b.stop()) }()
			cl := b.assign()
			b.mode[0].Store(fails)
			const records = 3
			for b.fetch(cl, records, records*size) {
				synctest.Wait()
			}
			bytes, _ := held(cl)
			assert.Greater(t, bytes, int64(1<<20))
			assert.LessOrEqual(t, bytes, int64(1<<20+records*size))
		})
	}
}

// E3: many fetch loops at once, and handlers that are as fast as they can be: the
// pauses of one and the wake-ups of another meet in every order, and none is lost.
func TestFault_E3_NoWakeUpIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, fetches = 8, 2_000
		cfg := testConfig()
		cfg.MaxTotalBufferedBytes = 40_000
		b, err := newBuffers(cfg)
		require.NoError(t, err)
		defer func() { require.NoError(t, b.stop()) }()
		var loops sync.WaitGroup
		for range partitions {
			cl := b.assign()
			loops.Go(func() {
				for n := range fetches {
					for b.c.isPaused(cl) {
						time.Sleep(time.Millisecond)
					}
					b.c.h.Deliver(cl, batchOf(int64(n*3), 3, 3_000))
				}
			})
		}
		loops.Wait() // hangs, if a partition stays paused
		synctest.Wait()
		require.NoError(t, b.wrong())
		for n := range partitions {
			assert.Equal(t, int64(3*fetches), b.handled[n].Load())
		}
		assert.NotEmpty(t, b.c.pauseLog(), "nothing was ever paused")
	})
}

// E3: a partition that comes makes every share smaller, and one that goes makes
// it larger.
func TestFault_E3_SharesFollowTheAssignment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxTotalBufferedBytes = 40_000
		b, err := newBuffers(cfg)
		require.NoError(t, err)
		defer func() { require.NoError(t, b.stop()) }()
		small, large := b.assign(), b.assign()
		b.mode[0].Store(fails)
		b.mode[1].Store(fails)
		b.fetch(large, 1, 30_000)
		b.fetch(small, 1, 15_000)
		synctest.Wait()
		require.NoError(t, b.wrong())
		require.Equal(t, []bool{false, true}, []bool{b.c.isPaused(small), b.c.isPaused(large)})
		third := b.assign() // the share is 13,333 now
		synctest.Wait()
		require.NoError(t, b.wrong())
		assert.True(t, b.c.isPaused(small))
		for _, cl := range []*driver.Claim{third, large} {
			b.c.lose(cl)
		}
		b.claims = b.claims[:1] // it is 40,000 now
		synctest.Wait()
		require.NoError(t, b.wrong())
		assert.False(t, b.c.isPaused(small))
	})
}

// E3: tight is right at rest, in every order in which totals are changed and compared.
func TestFault_E3_TightFollowsTheTotal(t *testing.T) {
	b, end := budget{most: 10}, time.Now().Add(time.Second/2)
	var ready [2]atomic.Int64
	var over atomic.Bool // set before a round is ready, so both see it in the same one
	var stuck atomic.Int64
	var both sync.WaitGroup
	for me, change := range []int64{11, -11} {
		both.Go(func() {
			for round := int64(0); ; round++ {
				if me == 0 && time.Now().After(end) {
					over.Store(true)
				}
				ready[me].Store(2*round + 1)
				for n := 0; ready[1-me].Load() < 2*round+1; n++ {
					yield(n)
				}
				if over.Load() {
					return
				}
				for range (round >> (6 * me)) % 64 { // so that each meets every part of the other
					ready[me].Load()
				}
				b.add(change)
				ready[me].Store(2*round + 2)
				for n := 0; ready[1-me].Load() < 2*round+2; n++ {
					yield(n)
				}
				if b.tight.Load() {
					stuck.Add(1)
					b.tight.Store(false)
				}
			}
		})
	}
	both.Wait()
	assert.Zero(t, stuck.Load(), "rounds that left the budget tight with nothing in the queues")
}

// yield lets others run now and then, for a machine with one processor.
func yield(n int) {
	if n%1000 == 999 {
		runtime.Gosched()
	}
}
