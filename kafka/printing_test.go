package kafka

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wantPrintable holds that a line is bounded and one line.
func wantPrintable(t *testing.T, what, line string) {
	t.Helper()
	assert.Less(t, len(line), 8<<10, what)
	i := strings.IndexFunc(line, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) })
	assert.Negative(t, i, "%s: a raw control character in %.100q", what, line[max(i, 0):])
}

// The text of a handler, a hook or a driver is cut and escaped before it is logged,
// even if the log handler does neither; the error that programs get is whole.
func TestFault_H12_LogLinesAreBoundedAndOneLine(t *testing.T) {
	huge := strings.Repeat("line\n\x1b[2J", 200_000)
	synctest.Test(t, func(t *testing.T) {
		d, log, rec := &fakeDriver{}, &logLines{}, &recorder{}
		m := New(d, WithLogger(slog.New(log)), WithHook(rec), WithHook(panickingHook{text: huge}))
		fails := true
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error {
			if fails {
				fails = false
				return errors.New("no " + huge)
			}
			panic(huge)
		}})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(2 * time.Second)
		c.h.Error(errors.New("driver says " + huge))
		c.lose(cl)
		pass(time.Minute)
		stop(t, m)
		for _, what := range []string{"kafka: handler failed", "kafka: hook panicked", "kafka: driver", "kafka: partitions lost"} {
			assert.NotEmpty(t, log.with(what), what)
		}
		for _, line := range log.with("") {
			wantPrintable(t, line[:min(len(line), 40)], line)
		}
		require.NotEmpty(t, eventsOf[HandlerFailed](rec))
		assert.EqualError(t, eventsOf[HandlerFailed](rec)[0].Err, "no "+huge)
	})
}

// A name that a caller passes is cut and escaped in the error, and a long list is
// cut after its first elements.
func TestFault_H12_ErrorsOfCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		defer stop(t, m)
		huge := strings.Repeat("a\n", 500_000)
		p, err := m.RegisterProducer(t.Context(), goodProducer())
		require.NoError(t, err)
		async := make(chan error, 1)
		p.SendAsync(t.Context(), huge, nil, nil, func(_ *ProducerMessage, err error) { async <- err })
		_, unknown := m.Consumer(huge)
		running := make([]string, 100_000)
		for name, err := range map[string]error{
			"switch":   m.SetConsumerSwitch(huge, true),
			"consumer": unknown,
			"send":     p.SendMessage(noContext(), &ProducerMessage{Topic: huge}),
			"async":    <-async,
			"panic":    &PanicError{Value: huge},
			"stop":     &StopError{Running: running, Err: context.DeadlineExceeded},
		} {
			require.Error(t, err, name)
			wantPrintable(t, name, err.Error())
		}
	})
}

// Short, plain errors go to the log as they are, so that a log handler can look
// into them.
func TestPlainErrorsAreLoggedAsTheyAre(t *testing.T) {
	plain := &PanicError{Value: "x"}
	assert.Same(t, plain, loggable(plain))
	assert.Equal(t, `a\nb`, loggable(errors.New("a\nb")))
	assert.Nil(t, loggable(nil))
}
