package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What the library writes to a retry topic, it reads: for a record with any timestamp. One
// from before 1970 counts as none.
func TestOriginIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := []Header{{Key: "own", Value: []byte("x")}}
		o := origin{
			source: Source{
				Topic:     rapid.SampledFrom([]string{"orders", "orders.group.retry.5s"}).Draw(t, "topic"),
				Partition: rapid.Int32Min(0).Draw(t, "partition"),
				Offset:    rapid.Int64Min(0).Draw(t, "offset"),
			},
			attempts: rapid.IntRange(0, mostRetryAttempts).Draw(t, "attempts"),
		}
		if rapid.Bool().Draw(t, "dated") {
			o.source.Timestamp = time.UnixMilli(rapid.Int64().Draw(t, "ms"))
		}
		r := newRetries(&ConsumerConfig{
			Topics: []string{"orders"}, ConsumerGroup: "group",
			Failure: FailurePolicy{RetryTopics: []RetryTopic{{Delay: 5 * time.Second, Topic: defaultRetryTopic}}},
		})
		headers := o.headers(own, "group")
		got, s, owner := r.read(headers)
		require.Equal(t, stamped, s)
		require.Empty(t, owner)
		if o.source.Timestamp.UnixMilli() < 0 {
			o.source.Timestamp = time.Time{}
		}
		require.Equal(t, o, got)
		require.Equal(t, own, withoutRetry(headers))
	})
}
