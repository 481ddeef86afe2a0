package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrorReachesKindCodeAndCause(t *testing.T) {
	cause := errors.New("refused")
	for _, tt := range []struct {
		err  *Error
		text string
		code string
	}{
		{&Error{Code: "NOT_ENOUGH_REPLICAS", Err: cause}, "NOT_ENOUGH_REPLICAS: refused", "NOT_ENOUGH_REPLICAS"},
		{&Error{Code: "FENCED_INSTANCE_ID", Kind: ErrPermanent}, "FENCED_INSTANCE_ID (permanent)", "FENCED_INSTANCE_ID"},
		{&Error{Kind: ErrUnknownOutcome, Err: cause}, "refused (outcome unknown)", "_OTHER"},
	} {
		err := fmt.Errorf("send: %w", tt.err)
		var typed interface{ ErrorType() string }
		assert.EqualError(t, tt.err, tt.text)
		require.ErrorAs(t, err, &typed)
		assert.Equal(t, tt.code, typed.ErrorType())
		for _, within := range []error{tt.err.Kind, tt.err.Err} {
			if within != nil {
				assert.ErrorIs(t, err, within)
			}
		}
	}
}

func TestCommitErrorNamesTheFirstMark(t *testing.T) {
	claim := &Claim{Topic: "orders", Partition: 3}
	err := &CommitError{Failed: []MarkError{{Mark{Claim: claim, Offset: 7}, ErrClaimEnded}, {Mark{Claim: claim, Offset: 8}, ErrClosed}}}
	assert.EqualError(t, err, "commit orders/3 at 7: claim has ended (and 1 more)")
	assert.ErrorIs(t, err, ErrClaimEnded)
	assert.ErrorIs(t, err, ErrClosed)
}

func TestEnumerationsHaveKafkasNames(t *testing.T) {
	for _, tt := range []struct {
		v    fmt.Stringer
		want string
	}{
		{OffsetNewest, "latest"}, {OffsetOldest, "earliest"},
		{ReadCommitted, "read_committed"}, {ReadUncommitted, "read_uncommitted"},
		{RoundRobin, "roundrobin"}, {CooperativeSticky, "cooperative-sticky"},
		{WaitForAll, "all"}, {WaitForLocal, "1"}, {NoResponse, "0"},
		{CompressionNone, "none"}, {CompressionZSTD, "zstd"},
		{Compression(9), ""}, {RequiredAcks(-1), ""},
	} {
		assert.Equalf(t, tt.want, tt.v.String(), "%T %d", tt.v, tt.v)
	}
}

func TestSecretsDoNotShowBehindAnyVerb(t *testing.T) {
	const secret = "hunter2"
	sasl := &SASL{Mechanism: SASLPlain, User: "alice", Password: secret}
	cfg := ConsumerConfig{SASL: sasl}
	for _, v := range []any{Secret(secret), sasl, *sasl, cfg, &cfg, Token{Value: secret}, &Token{Value: secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%U", "%t"} {
			got := fmt.Sprintf(verb, v)
			assert.NotContainsf(t, got, secret, "%s of a %T", verb, v)
			assert.NotContainsf(t, got, fmt.Sprintf("%x", secret), "%s of a %T", verb, v)
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		assert.NotContainsf(t, log.String(), secret, "the log line of a %T", v)
		text, _ := json.Marshal(v) // fails for a TokenSource, and is empty then
		assert.NotContainsf(t, string(text), secret, "the JSON of a %T", v)
	}
	assert.Equal(t, secret, string(sasl.Password), "the driver gets the password")
}
