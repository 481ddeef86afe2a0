package kafka

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A grownDriver is a fakeDriver whose logs have grown beyond all offsets of the tests since
// the claims were made.
type grownDriver struct{ fakeDriver }

type grownConsumer struct{ *fakeConsumer }

func (c grownConsumer) HighWatermark(*driver.Claim) int64 { return 1000 }

func (d *grownDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.fakeDriver.OpenConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return grownConsumer{c.(*fakeConsumer)}, nil
}

// startGrown is startMany over a grownDriver.
func startGrown(t *testing.T, cfg ConsumerConfig, w *worked, opts ...Option) (*Manager, *fakeConsumer) {
	d := &grownDriver{}
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, NewConsumer(cfg, w.call))
	return m, d.consumer(t)
}

// assignWith makes a claim of a log that ends at end, with metadata beside its start.
func (c *fakeConsumer) assignWith(partition int32, start, end int64, text string) *driver.Claim {
	cl := &driver.Claim{Topic: c.cfg.Topics[0], Partition: partition, Start: start, Metadata: text, End: end}
	c.mu.Lock()
	c.claims = append(c.claims, cl)
	h := c.h
	c.mu.Unlock()
	h.Assign([]*driver.Claim{cl})
	return cl
}

// mark returns what was made durable last.
func (c *fakeConsumer) mark() driver.Mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.durable) == 0 {
		return driver.Mark{Offset: -1}
	}
	return c.durable[len(c.durable)-1]
}

var orders0 = finished.Place{Topic: "orders"}

func failKey(key string) *worked {
	return &worked{handle: func(_ context.Context, m *Message) error {
		if string(m.Key) == key {
			return errHandler
		}
		return nil
	}}
}

// What is done above a record that fails is written beside the position, also while the
// position stands, and the next owner does not handle it again, whatever its order is.
func TestWhatIsDoneAboveThePositionIsNotHandledAgain(t *testing.T) {
	for _, o := range []Order{OrderByKey, OrderNone, OrderByPartition} {
		t.Run(o.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := failKey("x")
				_, c := startGrown(t, parallel(OrderByKey, 4), w)
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "x", "a", "b", "x", "c"))
				pass(5 * time.Second)
				got := c.mark()
				assert.Equal(t, int64(0), got.Offset)
				runs, err := finished.Decode(orders0, 0, 5, got.Metadata)
				require.NoError(t, err)
				assert.Equal(t, []finished.Run{{From: 1, To: 3}, {From: 4, To: 5}}, runs)
				n := len(c.committed(cl))
				pass(10 * time.Second)
				assert.Len(t, c.committed(cl), n, "what has not changed is not written again")

				next := &worked{}
				_, d := startGrown(t, parallel(o, 1), next)
				after := d.assignWith(0, 0, 8, got.Metadata)
				d.h.Deliver(after, keyed(0, "x", "a", "b"))
				d.h.Deliver(after, keyed(3, "x", "c", "d", "e", "f"))
				pass(5 * time.Second)
				assert.ElementsMatch(t, []string{"x0", "x3", "d5", "e6", "f7"}, next.called())
				assert.Equal(t, int64(8), d.latest())
				assert.Empty(t, d.mark().Metadata)
			})
		})
	}
}

// A text that no program of this kind wrote for this position is nothing, and is
// reported: everything is handled, and no record is passed over.
func TestForeignMetadataIsIgnored(t *testing.T) {
	good := finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 3}})
	for _, tt := range []struct {
		name, text string
		start, end int64
		want       error // that is reported, if any
	}{
		{"Kafka Streams'", "AgAAAXzXQ8k=", 0, 5, finished.ErrForeign},
		{"random bytes", "\x00\xff\x17", 0, 5, finished.ErrForeign},
		{"of another position", good, 1, 5, finished.ErrSum},
		{"damaged", good[:4] + "B" + good[5:], 0, 5, finished.ErrSum},
		{"beyond the end of the log", good, 0, 2, finished.ErrBeyondEnd},
		{"without an end", good, 0, -1, errNoEnd},
		{"none", "", 0, 5, nil},
	} {
		for _, o := range []Order{OrderByKey, OrderByPartition} {
			t.Run(tt.name+" "+o.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var out lines
					w := &worked{}
					_, c := startGrown(t, parallel(o, 1), w, logTo(&out))
					cl := c.assignWith(0, tt.start, tt.end, tt.text)
					c.h.Deliver(cl, keyed(tt.start, "a", "b", "c", "d"))
					pass(5 * time.Second)
					assert.Len(t, w.ended(), 4)
					assert.Equal(t, tt.start+4, c.latest())
					reported := out.with("metadata beside the committed position is ignored")
					if tt.want == nil {
						assert.Empty(t, reported)
					} else if assert.Len(t, reported, 1) {
						assert.Contains(t, reported[0], tt.want.Error())
					}
				})
			})
		}
	}
}

// With NoCommitMetadata nothing is written, and what is found is not read.
func TestNoCommitMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := failKey("x")
		cfg := parallel(OrderByKey, 2)
		cfg.NoCommitMetadata = true
		_, c := startGrown(t, cfg, w)
		cl := c.assignWith(0, 0, 5, finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 3}}))
		c.h.Deliver(cl, keyed(0, "x", "a", "b", "c"))
		pass(5 * time.Second)
		assert.ElementsMatch(t, []string{"a1", "b2", "c3"}, w.ended())
		assert.Equal(t, driver.Mark{Offset: -1}, c.mark())
	})
}

// A revocation writes what is done above the position, and a loss writes nothing.
func TestMetadataAtTheEndOfAClaim(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := failKey("x")
				_, c := startGrown(t, parallel(OrderByKey, 2), w)
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "x", "a"))
				synctest.Wait()
				if lost {
					c.lose(cl)
				} else {
					c.revoke(cl)
				}
				pass(time.Minute)
				if lost {
					assert.Equal(t, driver.Mark{Offset: -1}, c.mark())
					return
				}
				assert.Equal(t, finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 2}}), c.mark().Metadata)
			})
		})
	}
}

// Metadata that was found stays while nothing gets done, however long nothing comes.
func TestMetadataThatWasFoundStays(t *testing.T) {
	for _, o := range []Order{OrderByKey, OrderByPartition} {
		t.Run(o.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text := finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 2}})
				_, c := startGrown(t, parallel(o, 1), &worked{})
				cl := c.assignWith(0, 0, 5, text)
				pass(time.Minute)
				c.revoke(cl)
				assert.Equal(t, driver.Mark{Offset: -1}, c.mark())
			})
		})
	}
}

// Metadata that cannot be read is nothing that has to be saved. It stays while its
// partition stands, though a commit carries what another one has done.
func TestForeignMetadataStaysWhileThePositionStands(t *testing.T) {
	good := finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 3}})
	for name, text := range map[string]string{
		"Kafka Streams'":      "AgAAAXzXQ8k=",
		"damaged":             good[:4] + "B" + good[5:],
		"of another position": finished.Encode(orders0, 1, []finished.Run{{From: 2, To: 3}}),
	} {
		for _, o := range []Order{OrderByKey, OrderByPartition} {
			t.Run(name+" "+o.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, c := startGrown(t, parallel(o, 1), &worked{})
					stands, moves := c.assignWith(0, 0, 5, text), c.assign(1, 0)
					c.h.Deliver(moves, keyed(0, "a"))
					pass(5 * time.Second)
					assert.Equal(t, []int64{1}, c.committed(moves))
					c.revoke(stands)
					assert.Empty(t, c.committed(stands))
				})
			})
		}
	}
}

// A log was cut off below offsets that were done, and new records get these offsets after
// the claim was made. They are handled, however far the log has grown by the first delivery.
// And the text is taken away at once: the next owner would find it within the log.
func TestNewRecordsAtOffsetsThatWereDoneAreHandled(t *testing.T) {
	for _, o := range []Order{OrderByKey, OrderByPartition} {
		for _, end := range []int64{100, 105, -1} {
			t.Run(fmt.Sprint(o, " ", end), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &worked{}
					_, c := startGrown(t, parallel(o, 1), w)
					cl := c.assignWith(0, 100, end, finished.Encode(orders0, 100, []finished.Run{{From: 101, To: 110}}))
					pass(5 * time.Second)
					assert.Equal(t, driver.Mark{Claim: cl, Offset: 100}, c.mark())
					n := len(c.committed(cl))
					pass(time.Hour)
					assert.Len(t, c.committed(cl), n, "once is enough")
					c.h.Deliver(cl, keyed(100, make([]string, 20)...))
					pass(5 * time.Second)
					assert.Len(t, w.ended(), 20)
					assert.Equal(t, int64(120), c.latest())
				})
			})
		}
	}
}

// Failures of records that another member has done meanwhile are forgotten.
func TestFailuresOfRecordsThatAreDoneElsewhereAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		w := &worked{handle: func(context.Context, *Message) error {
			if !up.Load() {
				return errHandler
			}
			return nil
		}}
		m, c := startGrown(t, parallel(OrderByKey, 2), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "x", "y", "z"))
		pass(5 * time.Second)
		c.revoke(cl)
		up.Store(true)
		next := c.assignWith(0, 0, 3, finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 2}}))
		c.h.Deliver(next, keyed(0, "x", "y", "z"))
		pass(5 * time.Second)
		assert.ElementsMatch(t, []string{"x0", "z2"}, w.ended())
		assert.False(t, m.jobs["job"].ledger.has(keyOf(next)))
	})
}

// A commit that fails is made again, with the text as it is then.
func TestMetadataOfAFailedCommitIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := failKey("x")
		d := &fakeDriver{}
		fails := 1
		d.commit = func(context.Context, []driver.Mark) error {
			if fails--; fails >= 0 {
				return errDial
			}
			return nil
		}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(parallel(OrderByKey, 2), w.call))
		c := d.consumer(t)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "a"))
		pass(10 * time.Second)
		assert.Equal(t, finished.Encode(orders0, 0, []finished.Run{{From: 1, To: 2}}), c.mark().Metadata)
	})
}

// A record that does not get done lets others go on, until more is done above it than a
// commit can name. Then its partition is paused, and no other.
func TestTooMuchAboveThePositionPausesThePartitionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Bool
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if m.Partition == 0 && m.Offset%2 == 0 && !done.Load() {
				return errHandler
			}
			return nil
		}}
		cfg := parallel(OrderNone, 2)
		cfg.Backoff = Backoff{Min: time.Hour, Max: time.Hour, Jitter: NoJitter}
		m, c := startMany(t, cfg, w)
		one, two := c.assign(0, 0), c.assign(1, 0)
		for i := range 4 {
			c.h.Deliver(one, keyed(int64(i*500), make([]string, 500)...))
			c.h.Deliver(two, keyed(int64(i*500), make([]string, 500)...))
		}
		pass(time.Minute)
		assert.True(t, c.isPaused(one))
		assert.False(t, c.isPaused(two))
		ps := state(t, m).Partitions[0]
		assert.True(t, ps.Paused)
		assert.Equal(t, 1000, ps.DoneAbove)
		assert.Equal(t, 1000, ps.BackingOff)
		assert.LessOrEqual(t, len(c.mark().Metadata), finished.MaxText)
		done.Store(true)
		pass(2 * time.Hour)
		assert.False(t, c.isPaused(one))
		assert.Equal(t, 4000, len(w.ended()))
	})
}
