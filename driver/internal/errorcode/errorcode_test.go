package errorcode

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
)

// TestNames compares the names with those of another library.
func TestNames(t *testing.T) {
	for _, code := range Known() {
		if code == 0 {
			assert.Equal(t, "NONE", code.String())
			continue
		}
		want := kerr.TypedErrorForCode(int16(code))
		require.NotNil(t, want, "code %d is none of Kafka's", int16(code))
		if code.String() != "NOT_LEADER_OR_FOLLOWER" { // Kafka has renamed it
			assert.Equal(t, want.Message, code.String(), "code %d", int16(code))
		}
	}
	assert.Equal(t, "FENCED_INSTANCE_ID", Code(82).String())
	assert.Equal(t, "ERROR_9999", Code(9999).String())
	assert.Equal(t, "ERROR_-7", Code(-7).String())
}

func TestPermanent(t *testing.T) {
	for code, want := range map[Code]bool{-1: false, 0: false, 1: true, 3: false, 16: false, 23: false, 29: true, 58: true, 82: true, 9999: false} {
		assert.Equal(t, want, code.Permanent(), code.String())
	}
}

func TestWrap(t *testing.T) {
	classify := func(error) (string, error) { return "X", driver.ErrPermanent }
	cause := errors.New("cause")
	assert.Equal(t, &driver.Error{Code: "X", Kind: driver.ErrPermanent, Err: cause}, Wrap(cause, classify))
	known := &driver.Error{Code: "KNOWN"}
	for _, err := range []error{nil, known, driver.ErrClosed, driver.ErrClaimEnded, context.Canceled, context.DeadlineExceeded} {
		assert.Equal(t, err, Wrap(err, classify))
	}
	assert.Equal(t, &driver.Error{Code: "INVALID_CONFIG", Kind: driver.ErrPermanent, Err: cause}, Invalid(cause))
}
