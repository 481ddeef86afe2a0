package driver

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret is a password or a token. What it holds does not show in package fmt,
// log/slog, or an encoding that asks for text, such as encoding/json; string(s)
// gives it to who needs it.
type Secret string

// String hides the secret; an empty one stays empty, so that its absence shows.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format hides the secret from every verb of package fmt.
func (s Secret) Format(f fmt.State, verb rune) { fmt.Fprint(f, s.String()) }

// MarshalText hides the secret from encoding/json and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Format prints mechanism, user and whether there is a password. Without it,
// fmt would bypass the password's own methods behind a pointer and a verb that
// does not fit.
func (s SASL) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, "{%s %s %s}", s.Mechanism, s.User, s.Password.String())
}

// Format hides the token.
func (t Token) Format(f fmt.State, verb rune) { fmt.Fprintf(f, "{%s}", t.Value.String()) }
