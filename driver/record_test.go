package driver

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecordSizeCountsWhatItPointsTo(t *testing.T) {
	empty := new(Record).Size()
	r := Record{Key: []byte("key"), Value: []byte("value"), Headers: []Header{{Key: "h", Value: []byte("12")}}}
	require.Equal(t, empty+3+5+headerSize+1+2, r.Size())
}

// TestFault_H5_EmptyHeadersCount: a record of a hundred thousand empty headers points
// to nothing, and takes megabytes.
func TestFault_H5_EmptyHeadersCount(t *testing.T) {
	const n = 100_000
	r := Record{Headers: make([]Header, n)}
	require.GreaterOrEqual(t, r.Size(), n*32)
}
