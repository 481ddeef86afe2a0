package memory

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The first six are those of Kafka's own UtilsTest, the others librdkafka's.
func TestMurmur2(t *testing.T) {
	tests := []struct {
		key  string
		want int64 // as Java prints it, or as C does
	}{
		{"21", -973932308},
		{"foobar", -790332482},
		{"a-little-bit-long-string", -985981536},
		{"a-little-bit-longer-string", -1486304829},
		{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
		{"abc", 479470107},
		{"", 0x106e08d9},
		{"kafka", 0xd067cf64},
		{"giberish123456789", 0x8f552b0c},
		{"1234", 0x9fc97b14},
		{"234", 0xe7c009ca},
		{"34", 0x873930da},
		{"4", 0x5a4b5ca1},
	}
	for _, tt := range tests {
		assert.Equalf(t, uint32(tt.want), murmur2([]byte(tt.key)), "murmur2(%q)", tt.key)
	}
}

// Java's partitioner takes the sign bit off; it does not take the absolute value.
func TestPartitionOf(t *testing.T) {
	tests := []struct {
		key  string
		n    int
		want int32
	}{
		{"21", 100, (-973932308 & 0x7fffffff) % 100},
		{"abc", 7, 479470107 % 7},
		{"foobar", 1, 0},
	}
	for _, tt := range tests {
		assert.Equalf(t, tt.want, partitionOf([]byte(tt.key), tt.n), "partitionOf(%q, %d)", tt.key, tt.n)
	}
}
