package kafkatest_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// BenchmarkUnitTest is a whole unit test of a handler: the broker and the
// manager, the start, a record handled and committed, and the shutdown.
func BenchmarkUnitTest(b *testing.B) {
	discard := kafka.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	for range b.N {
		t := newT(b)
		k := kafkatest.New(t, discard)
		k.Start(consumer("orders", func(context.Context, *kafka.Message) error { return nil }))
		k.WaitHandled(k.Send("orders", "key", "value"))
		k.WaitCommitted("orders")
		t.end()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/op")
}
