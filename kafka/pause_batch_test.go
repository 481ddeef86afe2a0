package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// What is left of a batch waits for the end of a pause or a hold. It was handed out with the
// rest, and is no call that does not return.
func TestRestOfABatchAtTheGateIsNoCall(t *testing.T) {
	oneByOne := func(ms []*Message) error {
		if len(ms) > 1 {
			return errHandler
		}
		time.Sleep(10 * time.Second)
		return nil
	}
	firstIsSkipped := func(ms []*Message) error {
		if ms[0].Offset > 0 {
			return nil
		}
		time.Sleep(10 * time.Second)
		failed := new(BatchError)
		failed.AddFrom(ms[0], Skip(errHandler))
		return failed.Err()
	}
	for _, tt := range []struct {
		name   string
		handle func([]*Message) error
	}{{"it comes one by one", oneByOne}, {"its first record is skipped", firstIsSkipped}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDriver{}
				cfg := testConfig()
				cfg.MaxBatchSize = 3
				cfg.Failure = deadLetters(1)
				m, _ := startBatches(t, d, cfg, &fakeForwarder{}, tt.handle)
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 2)
				pass(5 * time.Second)
				require.NoError(t, m.Pause("job"))
				for range 60 {
					pass(time.Minute)
					assert.NoError(t, m.Healthy())
				}
				assert.Equal(t, int64(1), c.position(cl))
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Equal(t, int64(3), c.position(cl))
				assert.NoError(t, m.Healthy())
			})
		})
	}
}

// The records of a batch come one by one, and the first of them is forwarded: a call for
// the next one that does not return is found.
func TestStuckAfterTheFirstOfABatchWasForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, done := &fakeDriver{}, make(chan struct{})
		cfg := testConfig()
		cfg.MaxBatchSize = 3
		cfg.Failure = deadLetters(1)
		m, _ := startBatches(t, d, cfg, &fakeForwarder{}, func(ms []*Message) error {
			if len(ms) > 1 || ms[0].Offset == 0 {
				return errHandler
			}
			<-done
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		for range 60 {
			pass(10 * time.Second)
			_ = m.Healthy()
		}
		assert.Equal(t, int64(1), c.position(cl))
		assert.ErrorContains(t, m.Healthy(), "the handler of orders/0 has been at offset 1 for")
		close(done)
		pass(time.Minute)
		assert.Equal(t, int64(3), c.position(cl))
	})
}

// Resolve acts at once on each record that waits for the end of a pause after it has failed.
func TestResolveOfTheRestOfABatchThatIsPaused(t *testing.T) {
	first := TopicPartition{"orders", 0}
	handlers := map[string]func([]*Message) error{
		"they come one by one": func(ms []*Message) error {
			if len(ms) > 1 {
				return errHandler
			}
			time.Sleep(10 * time.Second)
			return nil
		},
		"they were not handled": func(ms []*Message) error {
			if ms[0].Attempt == 1 {
				return errHandler
			}
			time.Sleep(10 * time.Second)
			failed := new(BatchError)
			failed.AddFrom(ms[0], Skip(errors.New("bad")))
			return failed.Err()
		},
	}
	for name, handle := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
				cfg := testConfig()
				cfg.MaxBatchSize = 4
				cfg.Failure = deadLetters(1)
				if name == "they were not handled" {
					cfg.Failure = deadLetters(5)
				}
				m, got := startBatches(t, d, cfg, fw, handle, WithHook(hook))
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 3)
				pass(5 * time.Second)
				require.NoError(t, m.Pause("job"))
				pass(time.Minute)
				calls := len(got.all())
				assert.Equal(t, int64(1), c.position(cl))
				resolve := func(offset int64, do Failure) error {
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					err := m.Resolve(ctx, "job", first, offset, do)
					synctest.Wait()
					assert.Zero(t, time.Since(began), "offset %d", offset)
					return err
				}
				assert.NoError(t, resolve(3, FailureDeadLetter))
				assert.Equal(t, [][]int64{{3}}, fw.offsets())
				assert.NoError(t, resolve(1, FailureSkip))
				pass(time.Minute)
				assert.Equal(t, int64(2), c.position(cl))
				assert.NoError(t, resolve(2, FailureKeep))
				pass(time.Hour)
				assert.Len(t, got.all(), calls, "it is paused")
				assert.ErrorIs(t, resolve(1, FailureSkip), ErrNotFailing)
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Len(t, got.all(), calls+1)
				assert.Equal(t, int64(4), c.position(cl))
			})
		})
	}
}

// A pause can begin between the decision to hand a record out again and the call. An order
// for the record finds it at the gate.
func TestResolveOfARecordThatAPauseHasCaught(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, &fakeDriver{}, testConfig(), func(context.Context, []byte) error { return errHandler })
		env := m.jobs["job"].session.claims.env
		p := newPartition(env, &driver.Claim{Topic: "orders"}) // whose lane the test plays
		defer env.hold.drop(p.brake)
		l := p.lane
		p.deliver(keyed(0, "a"))
		require.True(t, l.next())
		l.fail(l.call())
		require.Equal(t, again, l.decide())
		p.setPaused(true)
		require.NoError(t, l.call())
		done := make(chan verdict, 1)
		go func() { done <- l.decide() }()
		synctest.Wait()
		s, calls := p.stance()
		assert.Equal(t, isFailing, s.what)
		assert.Empty(t, calls)
		o := l.failing.ask(0, FailureSkip)
		synctest.Wait()
		select {
		case err := <-o.answer:
			assert.NoError(t, err)
		default:
			assert.Fail(t, "the lane takes no order")
		}
		p.setPaused(false)
		synctest.Wait()
		assert.Equal(t, allDone, <-done)
		assert.Equal(t, 1, l.i)
	})
}
