package otelkafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/aarontianqx/gopkg/kafka"
)

// D7: the span of a record that was handled too late to be committed has the
// outcome "late" and is no error.
func TestFault_D7_SpanOfARecordThatComesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.Kafka.Send("orders", "", "v")
		entered, release := make(chan struct{}), make(chan struct{})
		r.consume(func(context.Context, *kafka.Message) error {
			close(entered)
			<-release
			return nil
		})
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var gaveUp *kafka.StopError
		require.ErrorAs(t, r.Manager.Shutdown(ctx), &gaveUp)
		close(release)
		synctest.Wait()
		r.balanced()
		s := r.one("process orders")
		assert.Equal(t, "late", textOf(s, outcomeKey))
		assert.Equal(t, codes.Unset, s.Status().Code)
	})
}
