package kafka

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTopicPartitionIsText(t *testing.T) {
	tp := TopicPartition{"orders.v1", 12}
	assert.Equal(t, "orders.v1/12", tp.String())
	got, err := json.Marshal(PartitionsRevoked{
		JobName: "job", Partitions: []TopicPartition{tp, {"orders.v1", 0}}, Stuck: []TopicPartition{tp},
	})
	require.NoError(t, err)
	assert.JSONEq(t, `{"JobName": "job", "Group": "", "Partitions": ["orders.v1/12", "orders.v1/0"], "Stuck": ["orders.v1/12"], "Took": 0}`, string(got))
	var back PartitionsRevoked
	require.NoError(t, json.Unmarshal(got, &back))
	assert.Equal(t, []TopicPartition{tp, {"orders.v1", 0}}, back.Partitions)
	byPartition := map[TopicPartition]int{}
	require.NoError(t, json.Unmarshal([]byte(`{"a/1": 7}`), &byPartition))
	assert.Equal(t, map[TopicPartition]int{{"a", 1}: 7}, byPartition)
}

func TestTopicPartitionOfText(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `partition "" is not of the form topic/partition`},
		{"orders", `partition "orders" is not of the form topic/partition`},
		{"/1", `partition "/1": topic: is empty`},
		{"a b/1", `partition "a b/1": topic: "a b" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`},
		{"orders/", `partition "orders/": "" is not a number from 0 to 2147483647`},
		{"orders/-1", `partition "orders/-1": "-1" is not a number from 0 to 2147483647`},
		{"orders/+1", `partition "orders/+1": "+1" is not a number from 0 to 2147483647`},
		{"orders/01", `partition "orders/01": "01" is not a number from 0 to 2147483647`},
		{"orders/1/2", `partition "orders/1/2": "1/2" is not a number from 0 to 2147483647`},
		{"orders/2147483648", `partition "orders/2147483648": "2147483648" is not a number from 0 to 2147483647`},
	} {
		tp := TopicPartition{"before", 3}
		assert.EqualError(t, tp.UnmarshalText([]byte(tt.text)), tt.want)
		assert.Equal(t, TopicPartition{"before", 3}, tp, "%q changes it", tt.text)
	}
}

// Text and order are those of the fields.
func TestTopicPartitionProperties(t *testing.T) {
	any := rapid.Custom(func(t *rapid.T) TopicPartition {
		return TopicPartition{
			rapid.StringMatching(`[a-z._-]{1,4}x`).Draw(t, "topic"),
			rapid.Int32Range(0, 1<<31-1).Draw(t, "partition"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		tp := any.Draw(t, "partition")
		text, err := tp.MarshalText()
		require.NoError(t, err)
		var back TopicPartition
		require.NoError(t, back.UnmarshalText(text), "%s", text)
		require.Equal(t, tp, back, "%s", text)
		list := rapid.SliceOf(any).Draw(t, "list")
		slices.SortFunc(list, TopicPartition.compare)
		for i := 1; i < len(list); i++ {
			a, b := list[i-1], list[i]
			c := strings.Compare(a.Topic, b.Topic)
			require.LessOrEqual(t, c, 0, "%v is before %v", a, b)
			if c == 0 {
				require.LessOrEqual(t, a.Partition, b.Partition, "%v is before %v", a, b)
			}
		}
	})
}
