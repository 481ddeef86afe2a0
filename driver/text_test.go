package driver

import (
	"encoding"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// D5: each enumeration is text by Kafka's names, both ways; what is none of them
// is refused, with what is allowed.
func TestFault_D5_EnumerationsOfConfigurationsAreText(t *testing.T) {
	cases := []struct {
		value interface {
			fmt.Stringer
			encoding.TextMarshaler
		}
		back    encoding.TextUnmarshaler
		text    string
		allowed string
	}{
		{OffsetOldest, new(InitialOffset), "earliest", `InitialOffset "x\n" is none of latest, earliest`},
		{OutOfRangeNewest, new(OutOfRange), "latest", `OutOfRange "x\n" is none of none, earliest, latest`},
		{ReadUncommitted, new(IsolationLevel), "read_uncommitted", `IsolationLevel "x\n" is none of read_committed, read_uncommitted`},
		{ConsumerProtocol, new(GroupProtocol), "consumer", `GroupProtocol "x\n" is none of classic, consumer`},
		{CooperativeSticky, new(BalanceStrategy), "cooperative-sticky", `BalanceStrategy "x\n" is none of roundrobin, range, sticky, cooperative-sticky`},
		{WaitForAll, new(RequiredAcks(2)), "all", `RequiredAcks "x\n" is none of all, 1, 0`},
		{CompressionZSTD, new(Compression), "zstd", `Compression "x\n" is none of none, gzip, snappy, lz4, zstd`},
	}
	for _, tt := range cases {
		text, err := json.Marshal(tt.value)
		require.NoError(t, err)
		assert.Equal(t, `"`+tt.text+`"`, string(text))
		assert.Equal(t, tt.text, tt.value.String())
		require.NoError(t, json.Unmarshal(text, tt.back))
		assert.Equal(t, tt.text, tt.back.(fmt.Stringer).String())
		assert.EqualError(t, tt.back.UnmarshalText([]byte("x\n")), tt.allowed)
		assert.Error(t, tt.back.UnmarshalText(nil))
		assert.Equal(t, tt.text, tt.back.(fmt.Stringer).String(), "a refused text has changed the value")
	}
	_, err := Compression(9).MarshalText()
	assert.EqualError(t, err, "Compression 9 is none of 0 to 4")
	_, err = InitialOffset(-1).MarshalText()
	assert.Error(t, err)
}
