package credentials

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// TestPanicOfATokenSource: the value of a panic may hold the token. What the runtime says of a
// mistake does not.
func TestPanicOfATokenSource(t *testing.T) {
	_, err := Token(t.Context(), func(context.Context) (driver.Token, error) { panic("cannot parse hunter2") })
	assert.ErrorIs(t, err, ErrToken)
	assert.ErrorContains(t, err, "panic in the source: string")
	assert.NotContains(t, err.Error(), "hunter2")
	_, err = Token(t.Context(), func(context.Context) (driver.Token, error) {
		var none *driver.Token
		return *none, nil
	})
	assert.ErrorIs(t, err, ErrToken)
	assert.ErrorContains(t, err, "nil pointer dereference")
}

// TestForeignTextIsEscapedOnce: the settings that an error quotes.
func TestForeignTextIsEscapedOnce(t *testing.T) {
	assert.ErrorContains(t, Check(&driver.SASL{Mechanism: "PL\nAIN"}), `SASL.Mechanism: "PL\nAIN" is none of`)
	err := Check(&driver.SASL{Mechanism: driver.SASLScramSHA256, User: "u\n", Password: "p"})
	assert.ErrorContains(t, err, `SASL.User: "u\n" is not printable ASCII`)
}
