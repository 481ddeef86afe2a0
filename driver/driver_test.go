package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
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
		if got := tt.err.Error(); got != tt.text {
			t.Errorf("text %q, want %q", got, tt.text)
		}
		if !errors.As(err, &typed) || typed.ErrorType() != tt.code {
			t.Errorf("%v: its type is not %s", err, tt.code)
		}
		if tt.err.Kind != nil && !errors.Is(err, tt.err.Kind) || tt.err.Err != nil && !errors.Is(err, cause) {
			t.Errorf("%v does not reach its kind and its cause", err)
		}
	}
}

func TestCommitErrorNamesTheFirstMark(t *testing.T) {
	claim := &Claim{Topic: "orders", Partition: 3}
	err := &CommitError{Failed: []MarkError{{Mark{claim, 7}, ErrClaimEnded}, {Mark{claim, 8}, ErrClosed}}}
	if got, want := err.Error(), "commit orders/3 at 7: claim has ended (and 1 more)"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errors.Is(err, ErrClaimEnded) || !errors.Is(err, ErrClosed) {
		t.Error("it does not reach the errors of its marks")
	}
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
		if got := tt.v.String(); got != tt.want {
			t.Errorf("%T %d is %q, want %q", tt.v, tt.v, got, tt.want)
		}
	}
}

func TestSecretsDoNotShowBehindAnyVerb(t *testing.T) {
	const secret = "hunter2"
	sasl := &SASL{Mechanism: SASLPlain, User: "alice", Password: secret}
	cfg := ConsumerConfig{SASL: sasl}
	for _, v := range []any{Secret(secret), sasl, *sasl, cfg, &cfg, Token{Value: secret}, &Token{Value: secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%U", "%t"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, secret) || strings.Contains(got, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s of a %T shows the secret: %s", verb, v, got)
			}
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		text, err := json.Marshal(v)
		if strings.Contains(log.String(), secret) || err == nil && strings.Contains(string(text), secret) {
			t.Errorf("the JSON or log line of a %T shows the secret", v)
		}
	}
	if string(sasl.Password) != secret {
		t.Error("who needs it does not get it")
	}
}
