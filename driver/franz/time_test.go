package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// The time of a record is what is stored, also where franz-go's arithmetic overflows.
func TestTimeOf(t *testing.T) {
	fetched := func(ms int64) time.Time { return time.Unix(0, ms*1e6) } // as kgo does
	assert.Zero(t, timeOf(fetched(-1)), "none")
	for _, ms := range []int64{0, 1, -2, 1_700_000_000_000, 1_700_000_000_000_000, -99_999_999_999_999, 9223372036854, 9223372036855} {
		assert.Equal(t, ms, timeOf(fetched(ms)).UnixMilli())
	}
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(-1<<57, 1<<57-1).Draw(t, "ms")
		if got := timeOf(fetched(ms)); ms != -1 && got.UnixMilli() != ms {
			t.Fatalf("%d became %d", ms, got.UnixMilli())
		}
	})
}
