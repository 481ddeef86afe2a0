package driver

import (
	"fmt"
	"strings"
)

// Each enumeration marshals to Kafka's names as text, and so in JSON. Its names are in
// the order of its values.

func (InitialOffset) names() []string  { return []string{"latest", "earliest"} }
func (OutOfRange) names() []string     { return []string{"none", "earliest", "latest"} }
func (IsolationLevel) names() []string { return []string{"read_committed", "read_uncommitted"} }
func (GroupProtocol) names() []string  { return []string{"classic", "consumer"} }
func (BalanceStrategy) names() []string {
	return []string{"roundrobin", "range", "sticky", "cooperative-sticky"}
}
func (RequiredAcks) names() []string { return []string{"all", "1", "0"} }
func (Compression) names() []string  { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

type enumeration interface {
	~int
	names() []string
}

// name returns the name of v, or "" if it is not one of the constants.
func name[T enumeration](v T) string {
	if names := v.names(); v >= 0 && int(v) < len(names) {
		return names[v]
	}
	return ""
}

func marshalName[T enumeration](kind string, v T) ([]byte, error) {
	if s := name(v); s != "" {
		return []byte(s), nil
	}
	return nil, fmt.Errorf("%s %d is none of 0 to %d", kind, int(v), len(v.names())-1)
}

func unmarshalName[T enumeration](kind string, v *T, text []byte) error {
	names := (*v).names()
	for i, s := range names {
		if s == string(text) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("%s \"%s\" is none of %s", kind, Printable(string(text), 0), strings.Join(names, ", "))
}

// String returns Kafka's name, or "" if o is not one of the constants.
func (o InitialOffset) String() string { return name(o) }

// String returns Kafka's name, or "" if o is not one of the constants.
func (o OutOfRange) String() string { return name(o) }

// String returns Kafka's name, or "" if l is not one of the constants.
func (l IsolationLevel) String() string { return name(l) }

// String returns Kafka's name, or "" if p is not one of the constants.
func (p GroupProtocol) String() string { return name(p) }

// String returns Kafka's name, or "" if s is not one of the constants.
func (s BalanceStrategy) String() string { return name(s) }

// String returns Kafka's name, or "" if a is not one of the constants.
func (a RequiredAcks) String() string { return name(a) }

// String returns Kafka's name, or "" if c is not one of the constants.
func (c Compression) String() string { return name(c) }

// MarshalText returns Kafka's name, or an error for any other value.
func (o InitialOffset) MarshalText() ([]byte, error) { return marshalName("InitialOffset", o) }

// MarshalText returns Kafka's name, or an error for any other value.
func (o OutOfRange) MarshalText() ([]byte, error) { return marshalName("OutOfRange", o) }

// MarshalText returns Kafka's name, or an error for any other value.
func (l IsolationLevel) MarshalText() ([]byte, error) { return marshalName("IsolationLevel", l) }

// MarshalText returns Kafka's name, or an error for any other value.
func (p GroupProtocol) MarshalText() ([]byte, error) { return marshalName("GroupProtocol", p) }

// MarshalText returns Kafka's name, or an error for any other value.
func (s BalanceStrategy) MarshalText() ([]byte, error) { return marshalName("BalanceStrategy", s) }

// MarshalText returns Kafka's name, or an error for any other value.
func (a RequiredAcks) MarshalText() ([]byte, error) { return marshalName("RequiredAcks", a) }

// MarshalText returns Kafka's name, or an error for any other value.
func (c Compression) MarshalText() ([]byte, error) { return marshalName("Compression", c) }

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (o *InitialOffset) UnmarshalText(text []byte) error {
	return unmarshalName("InitialOffset", o, text)
}

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (o *OutOfRange) UnmarshalText(text []byte) error { return unmarshalName("OutOfRange", o, text) }

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (l *IsolationLevel) UnmarshalText(text []byte) error {
	return unmarshalName("IsolationLevel", l, text)
}

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (p *GroupProtocol) UnmarshalText(text []byte) error {
	return unmarshalName("GroupProtocol", p, text)
}

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (s *BalanceStrategy) UnmarshalText(text []byte) error {
	return unmarshalName("BalanceStrategy", s, text)
}

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (a *RequiredAcks) UnmarshalText(text []byte) error {
	return unmarshalName("RequiredAcks", a, text)
}

// UnmarshalText accepts Kafka's name, or returns an error for any other text.
func (c *Compression) UnmarshalText(text []byte) error { return unmarshalName("Compression", c, text) }
