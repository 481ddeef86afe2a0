package driver

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret is a password or a token. Package fmt, log/slog and every encoding that
// marshals text, such as encoding/json, print it as redacted. string(s) is its value.
type Secret string

// String hides the secret. An empty secret stays empty, so that its absence shows.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, verb rune) { fmt.Fprint(f, s.String()) }

// MarshalText hides the secret from encoding/json and similar encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Format prints the mechanism, the user and whether a password is set. Without this
// method, fmt would bypass the password's own methods behind a pointer and a verb that
// does not fit.
func (s SASL) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, "{%s %s %s}", s.Mechanism, s.User, s.Password.String())
}

// Format hides the token.
func (t Token) Format(f fmt.State, verb rune) { fmt.Fprintf(f, "{%s}", t.Value.String()) }
