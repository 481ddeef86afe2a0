package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// D7: a handler that outlives a shutdown and then succeeds has handled a record
// that comes again. The delivery says so, and so does the end of the shutdown.
func TestFault_D7_HandlerThatOutlivesTheShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, r := &fakeDriver{}, &watcher{t: t}, &recorder{}
		m := New(d, quiet(), WithHook(w, r))
		release := make(chan struct{})
		startOn(t, m, &handlerFunc{testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "1" {
				<-release
			}
			return nil
		}})
		c := d.consumer(t)
		claim := c.assign(0, 0)
		c.deliver(claim, 0, 2)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var gaveUp *StopError
		require.ErrorAs(t, m.Shutdown(ctx), &gaveUp)
		assert.Equal(t, []string{`consumer "job": handler of orders/0 at offset 1`}, gaveUp.Running)
		assert.Equal(t, []RunningHandler{{"job", TopicPartition{"orders", 0}, 1}}, gaveUp.Handlers)
		assert.Empty(t, eventsOf[ShutdownEnded](r))
		close(release)
		synctest.Wait()

		ends := eventsOf[ShutdownEnded](r)
		require.Len(t, ends, 1)
		var ended *StopError
		require.ErrorAs(t, ends[0].Err, &ended)
		assert.Same(t, gaveUp, ended)
		assert.Equal(t, 10*time.Second, ends[0].Took)
		deliveries, attempts := w.of(OpProcess), w.of(OpAttempt)
		require.Len(t, deliveries, 2)
		assert.Equal(t, []Outcome{OutcomeDone, OutcomeLate}, []Outcome{deliveries[0].Outcome, deliveries[1].Outcome})
		assert.Equal(t, OutcomeDone, attempts[1].Outcome, "the handler itself returned nil")
		assert.Equal(t, []int64{1}, c.committed(claim))
		assert.NoError(t, m.Shutdown(context.Background()), "everything has stopped by now")
		w.allEnded()
	})
}

// The same without a Shutdown that waits: the shutdown that begins with the end
// of the start context.
func TestFault_D7_ShutdownByContextSaysWhatItGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := &fakeDriver{}, &recorder{}
		m := New(d, quiet(), WithHook(r), WithShutdownTimeout(5*time.Second))
		release := make(chan struct{})
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(context.Context, []byte) error { <-release; return nil }}))
		require.NoError(t, m.SetConsumerSwitch("job", true))
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, m.StartAllConsumers(ctx))
		synctest.Wait()
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		cancel()
		pass(time.Minute)
		close(release)
		synctest.Wait()
		ends := eventsOf[ShutdownEnded](r)
		require.Len(t, ends, 1)
		var ended *StopError
		require.ErrorAs(t, ends[0].Err, &ended)
		assert.Equal(t, []string{`consumer "job": handler of orders/0 at offset 0`}, ended.Running)
	})
}

// A Shutdown that gives up nothing has no error in its event.
func TestFault_D7_ShutdownInOrderHasNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := New(&fakeDriver{}, quiet(), WithHook(r))
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error { return nil }})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.NoError(t, m.Shutdown(ctx))
		pass(time.Minute)
		assert.Equal(t, []ShutdownEnded{{}}, eventsOf[ShutdownEnded](r))
	})
}

// The kind: every way in which a handler outlives its claim. With AutoCommit the
// record is committed as it is handed out, so it does not come again.
func TestFault_D7_HandlerThatOutlivesItsClaim(t *testing.T) {
	revoked := func(_ *Manager, c *fakeConsumer) { c.revoke(c.claims[0]) }
	ways := []struct {
		name       string
		end        func(*Manager, *fakeConsumer)
		autoCommit bool
		want       Outcome
	}{
		{"revoked", revoked, false, OutcomeLate},
		{"revoked, AutoCommit", revoked, true, OutcomeDone},
		{"lost", func(_ *Manager, c *fakeConsumer) { c.lose(c.claims[0]) }, false, OutcomeLate},
		{"switched off", func(m *Manager, c *fakeConsumer) {
			_ = m.SetConsumerSwitch("job", false)
			pass(time.Hour)
		}, false, OutcomeLate},
		{"session failed", func(_ *Manager, c *fakeConsumer) { c.end <- assert.AnError; synctest.Wait() }, false, OutcomeLate},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, w := &fakeDriver{}, &watcher{t: t}
				cfg := testConfig()
				cfg.AutoCommit = way.autoCommit
				release := make(chan struct{})
				m := start(t, d, cfg, func(context.Context, []byte) error { <-release; return nil }, WithHook(w))
				c := d.consumer(t)
				claim := c.assign(0, 0)
				c.deliver(claim, 0, 0)
				synctest.Wait()
				way.end(m, c)
				close(release)
				synctest.Wait()
				got := w.of(OpProcess)
				require.Len(t, got, 1)
				assert.Equal(t, way.want, got[0].Outcome)
				committed := len(c.committed(claim)) > 0
				assert.Equal(t, way.want == OutcomeDone, committed)
			})
		})
	}
}

// Outcomes have names.
func TestFault_D7_OutcomesHaveNames(t *testing.T) {
	var names []string
	for o := OutcomeDone; o.String() != ""; o++ {
		names = append(names, o.String())
	}
	assert.Equal(t, []string{"done", "failed", "interrupted", "late", "forwarded", "skipped", "retry topic"}, names)
}

// A handler that returns between the end of its window and the last commit's
// answer is late: the commit is on its way without its record.
func TestFault_D7_HandlerThatReturnsBesideTheLastCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w := &fakeDriver{}, &watcher{t: t}
		release := make(chan struct{})
		d.commit = func(context.Context, []driver.Mark) error {
			close(release) // there is one commit only
			time.Sleep(time.Second)
			return nil
		}
		cfg := testConfig()
		cfg.CommitInterval = time.Hour
		start(t, d, cfg, func(_ context.Context, v []byte) error {
			if string(v) == "1" {
				<-release
			}
			return nil
		}, WithHook(w))
		c := d.consumer(t)
		claim := c.assign(0, 0)
		c.deliver(claim, 0, 1)
		synctest.Wait()
		c.revoke(claim)
		synctest.Wait()
		got := w.of(OpProcess)
		require.Len(t, got, 2)
		assert.Equal(t, OutcomeLate, got[1].Outcome)
		assert.Equal(t, []int64{1}, c.committed(claim))
	})
}
