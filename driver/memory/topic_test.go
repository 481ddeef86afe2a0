package memory_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

func TestTopicErrors(t *testing.T) {
	b := newBroker(t, 2)
	send(t, b, 0, "a", "b")
	_, _, offsets := b.Offsets("t", 2)
	_, records := b.Records("nobody", 0, driver.ReadCommitted)
	_, consumer := b.OpenConsumer(t.Context(), driver.ConsumerConfig{Topics: []string{"t", "a b"}})
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"consume an illegal name", consumer, `INVALID_TOPIC_EXCEPTION: topic "a b": the name has a character that is neither an ASCII letter or digit nor one of . _ - (permanent)`},
		{"create twice", b.CreateTopic("t", 1), `TOPIC_ALREADY_EXISTS: topic "t" exists`},
		{"create without name", b.CreateTopic("", 1), `INVALID_TOPIC_EXCEPTION: topic "": the name is empty (permanent)`},
		{"create in a directory", b.CreateTopic("..", 1), `INVALID_TOPIC_EXCEPTION: topic "..": the name is . or .. (permanent)`},
		{"create with a space", b.CreateTopic("a b", 1), `INVALID_TOPIC_EXCEPTION: topic "a b": the name has a character that is neither an ASCII letter or digit nor one of . _ - (permanent)`},
		{"create with 250 letters", b.CreateTopic(strings.Repeat("a", 250), 1), `INVALID_TOPIC_EXCEPTION: topic "` + strings.Repeat("a", 250) + `": the name is longer than 249 (permanent)`},
		{"create without partitions", b.CreateTopic("u", 0), `INVALID_PARTITIONS: topic "u": 0 partitions, less than 1 (permanent)`},
		{"no more partitions", b.AddPartitions("t", 2), `INVALID_PARTITIONS: topic "t": 2 partitions, not more than its 2 (permanent)`},
		{"add to unknown", b.AddPartitions("u", 2), `UNKNOWN_TOPIC_OR_PARTITION: topic "u" does not exist`},
		{"delete unknown", b.DeleteTopic("u"), `UNKNOWN_TOPIC_OR_PARTITION: topic "u" does not exist`},
		{"offsets", offsets, `UNKNOWN_TOPIC_OR_PARTITION: t/2 does not exist`},
		{"records", records, `UNKNOWN_TOPIC_OR_PARTITION: nobody/0 does not exist`},
		{"send", b.Send("u", nil, nil), `UNKNOWN_TOPIC_OR_PARTITION: topic "u" does not exist`},
		{"send to an illegal name", b.Send("ü", nil, nil), `INVALID_TOPIC_EXCEPTION: topic "ü": the name has a character that is neither an ASCII letter or digit nor one of . _ - (permanent)`},
		{"delete records beyond the end", b.DeleteRecords("t", 0, 3), `OFFSET_OUT_OF_RANGE: t/0: offset 3, the log holds [0, 2) (permanent)`},
		{"truncate beyond the end", b.Truncate("t", 0, 3), `OFFSET_OUT_OF_RANGE: t/0: offset 3, the log holds [0, 2) (permanent)`},
		{"delete what is deleted", b.DeleteRecords("t", 0, 0), `<nil>`},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, fmt.Sprint(tt.err), tt.name)
	}
}

func TestTopics(t *testing.T) {
	b := memory.NewBroker()
	for _, name := range []string{"c", "a", "b"} {
		require.NoError(t, b.CreateTopic(name, 1))
	}
	require.Equal(t, []string{"a", "b", "c"}, b.Topics(), "topics")
	require.Zero(t, b.Partitions("z"), "partitions of an unknown topic")
}
