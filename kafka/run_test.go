package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

// running runs m in a goroutine. Its answer comes on the channel.
func running(ctx context.Context, m *Manager, consumers ...Consumer) <-chan error {
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, consumers...) }()
	synctest.Wait()
	return done
}

func named(job string) ConsumerConfig {
	cfg := testConfig()
	cfg.JobName = job
	return cfg
}

func TestRunIsAWholeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		p, err := m.RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
		require.NoError(t, err)
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{named("before"), nothing}))
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{named("off"), nothing}))
		require.NoError(t, m.SetConsumerSwitch("before", true))
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "of ctx"))
		var saw any
		done := running(ctx, m, &handlerFunc{named("a"), nothing}, NewConsumer(named("job"), func(ctx context.Context, _ *Message) error {
			saw = ctx.Value(key{})
			return p.Send(ctx, "results", nil, nil)
		}))
		states := map[string]State{}
		for _, s := range m.Consumers() {
			states[s.JobName] = s.State
		}
		assert.Equal(t, map[string]State{"a": StateRunning, "job": StateRunning, "before": StateRunning, "off": StateOff}, states)
		for _, c := range d.consumers {
			c.deliver(c.assign(0, 0), 0, 0)
		}
		synctest.Wait()
		assert.Equal(t, "of ctx", saw)
		assert.Empty(t, done)
		cancel()
		require.NoError(t, <-done)
		assert.Equal(t, StateStopped, state(t, m).State)
		assert.ErrorIs(t, p.Send(t.Context(), "results", nil, nil), ErrClosed)
		assert.ErrorIs(t, m.Run(t.Context()), ErrClosed)
		assert.ErrorIs(t, m.Run(t.Context(), &handlerFunc{named("late"), nothing}), ErrClosed)
	})
}

// Shutdown ends a Run, too; and so does the end of a context that was there first.
func TestRunEndsWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&fakeDriver{}, quiet())
		done := running(t.Context(), m, &handlerFunc{testConfig(), nothing})
		require.NoError(t, m.Shutdown(t.Context()))
		require.NoError(t, <-done)

		m = New(&fakeDriver{}, quiet())
		first, cancel := context.WithCancel(t.Context())
		require.NoError(t, m.StartAllConsumers(first))
		done = running(t.Context(), m, &handlerFunc{testConfig(), nothing})
		assert.Equal(t, StateRunning, state(t, m).State)
		cancel()
		require.NoError(t, <-done)

		m = New(&fakeDriver{}, quiet())
		p, err := m.RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
		require.NoError(t, err)
		require.NoError(t, <-running(testkit.Ended(), m, &handlerFunc{testConfig(), nothing}))
		assert.ErrorIs(t, p.Send(t.Context(), "orders", nil, nil), ErrClosed)
	})
}

// Run answers what did not end in order, within the shutdown timeout.
func TestRunReturnsWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet(), WithShutdownTimeout(10*time.Second))
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := running(ctx, m, &handlerFunc{testConfig(), func(context.Context, []byte) error { <-release; return nil }})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		began := time.Now()
		cancel()
		err := <-done
		var stuck *StopError
		require.ErrorAs(t, err, &stuck)
		assert.Equal(t, []RunningHandler{{"job", TopicPartition{"orders", 0}, 0}}, stuck.Handlers)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(began))
		close(release)
		stop(t, m)
	})
}

// A registration error leaves the manager as it was, and names every problem.
func TestRunRegistersAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		defer stop(t, m)
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{named("before"), nothing}))
		require.NoError(t, m.SetConsumerSwitch("before", true))
		bad := named("bad")
		bad.Topic = ""
		for _, tt := range []struct {
			name      string
			consumers []Consumer
			want      []string
		}{
			{"nil", []Consumer{nil}, []string{"handler is nil"}},
			{"nil handles", []Consumer{NewConsumer(named("a"), nil), NewBatchConsumer(named("b"), nil)}, []string{"handler is nil\nkafka: register consumer: handler is nil"}},
			{"one of two", []Consumer{&handlerFunc{named("good"), nothing}, &handlerFunc{bad, nothing}}, []string{`consumer "bad": Topic: is empty`}},
			{"twice", []Consumer{&handlerFunc{named("a"), nothing}, &handlerFunc{named("A"), nothing}}, []string{`consumer "A": name is registered already`}},
			{"two problems", []Consumer{&handlerFunc{bad, nothing}, &handlerFunc{named("Before"), nothing}}, []string{
				`consumer "bad": Topic: is empty`, `consumer "Before": name is registered already`}},
		} {
			err := m.Run(t.Context(), tt.consumers...)
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want, tt.name)
			}
		}
		synctest.Wait()
		require.Len(t, m.Consumers(), 1)
		assert.Equal(t, "before", m.Consumers()[0].JobName)
		assert.Equal(t, StateOff, m.Consumers()[0].State)
		assert.Zero(t, d.openCount())
		assert.ErrorContains(t, m.Run(noContext()), "ctx is nil")
		assert.ErrorIs(t, New(nil, quiet()).Run(t.Context(), &handlerFunc{testConfig(), nothing}), ErrNoDriver)
		assert.ErrorContains(t, new(Manager).Run(t.Context()), "was not made by New")
	})
}

func TestRunInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var m *Manager
		var err error
		m = start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
			err = m.Run(ctx)
			return nil
		})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		assert.ErrorIs(t, err, ErrInside)
		assert.Equal(t, StateRunning, state(t, m).State)
	})
}

func TestRunServesTheDefaultManager(t *testing.T) {
	before := Default()
	defer SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		SetDefault(New(&fakeDriver{}, quiet()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, &handlerFunc{testConfig(), nothing}) }()
		synctest.Wait()
		assert.Equal(t, StateRunning, state(t, Default()).State)
		cancel()
		require.NoError(t, <-done)
	})
}

// A batch consumer without a type of its own.
func TestNewBatchConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		defer stop(t, m)
		cfg := testConfig()
		cfg.MaxBatchSize = 3
		var sizes []int
		startOn(t, m, NewBatchConsumer(cfg, func(_ context.Context, ms []*Message) error {
			sizes = append(sizes, len(ms))
			return nil
		}))
		c := d.consumer(t)
		claim := c.assign(0, 0)
		c.deliver(claim, 0, 6)
		synctest.Wait()
		assert.Equal(t, []int{3, 3, 1}, sizes)
		assert.Equal(t, int64(7), c.position(claim))
	})
	failed := errors.New("failed")
	c := NewBatchConsumer(testConfig(), func(_ context.Context, ms []*Message) error {
		assert.Equal(t, []*Message{{Value: []byte("v"), Attempt: 1}}, ms)
		return failed
	})
	assert.Equal(t, failed, c.Handle(t.Context(), []byte("v")))
}

func TestMessageHeader(t *testing.T) {
	m := &Message{Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}, {Value: []byte("3")}}}
	assert.Equal(t, []byte("2"), m.Header("a"))
	assert.Nil(t, m.Header("b"))
	assert.Nil(t, m.Header("A"))
	assert.Equal(t, []byte("3"), m.Header(""))
}
