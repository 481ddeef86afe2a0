package wiretest

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTapCountsApplicationData checks the counts for bytes made by hand.
func TestTapCountsApplicationData(t *testing.T) {
	request := func(key uint16, size int) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(size))
		return append(binary.BigEndian.AppendUint16(b, key), make([]byte, size-2)...)
	}
	said := [][]byte{slices.Concat(request(18, 20), request(17, 10), request(36, 30)), slices.Concat(request(18, 20), request(3, 40))}
	n, names := plainApplication(said)
	assert.Equal(t, 44, n, "bytes of application data")
	assert.Equal(t, []string{"ApiVersions", "SaslHandshake", "SaslAuthenticate"}, names, "introductions")
	twice := slices.Concat(request(17, 10), request(3, 40), request(17, 10))
	assert.Equal(t, 2, authentications([][]byte{request(17, 10), twice, request(3, 40)}), "authentications")
	record := func(kind byte, size int) []byte {
		return append([]byte{kind, 3, 3, 0, byte(size)}, make([]byte, size)...)
	}
	said = [][]byte{slices.Concat(record(22, 100), record(20, 1), record(23, 50), record(23, 60))}
	n, err := tlsApplication(said, 1)
	require.NoError(t, err)
	assert.Equal(t, 60, n, "bytes of application data")
	_, err = tlsApplication([][]byte{request(18, 20)}, 0)
	assert.Error(t, err, "plaintext passed for TLS")
}
