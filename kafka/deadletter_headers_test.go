package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// aDeath returns a death with everything set.
func aDeath() death {
	return death{
		source:   Source{Topic: "orders", Partition: 3, Offset: 42, Timestamp: time.UnixMilli(1_700_000_000_123)},
		group:    "billing",
		attempts: 5,
		err:      errors.New("no paper"),
		reason:   DeadLetterReasonAttempts,
		failed:   time.UnixMilli(1_700_000_009_000),
	}
}

// ours is what aDeath adds.
func ours() []Header {
	return []Header{
		{Key: "__dlq.errors.topic", Value: []byte("orders")},
		{Key: "__dlq.errors.partition", Value: []byte("3")},
		{Key: "__dlq.errors.offset", Value: []byte("42")},
		{Key: "__dlq.errors.group", Value: []byte("billing")},
		{Key: "__dlq.errors.delivery.count", Value: []byte("5")},
		{Key: "__dlq.errors.message", Value: []byte("no paper")},
		{Key: "__dlq.errors.exception", Value: []byte("*errors.errorString")},
		{Key: "__dlq.errors.timestamp", Value: []byte("1700000000123")},
		{Key: "__dlq.errors.reason", Value: []byte("attempts")},
		{Key: "__dlq.errors.failed", Value: []byte("1700000009000")},
	}
}

// The record's own headers come first, in order, with repeats, nil and empty values;
// ours replace those of the same names.
func TestHeadersOfADeadLetter(t *testing.T) {
	cases := []struct {
		name   string
		change func(*death)
		own    []Header
		want   []Header
	}{
		{name: "a record without headers", want: ours()},
		{
			name: "repeats, nil, empty and odd names",
			own:  []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "a", Value: []byte{}}, {Key: "", Value: []byte{0xff}}, {Key: "__dlq.mine", Value: []byte("2")}},
			want: append([]Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "a", Value: []byte{}}, {Key: "", Value: []byte{0xff}}, {Key: "__dlq.mine", Value: []byte("2")}}, ours()...),
		},
		{
			name: "a record that died before",
			own: []Header{{Key: "__dlq.errors.topic", Value: []byte("other")}, {Key: "a", Value: nil}, {Key: "__dlq.errors.reason", Value: []byte("decode")},
				{Key: "__dlq.errors.topic", Value: nil}, {Key: "__dlq.redrives", Value: []byte("2")}},
			want: append(append([]Header{{Key: "a"}}, ours()...), Header{Key: "__dlq.redrives", Value: []byte("2")}),
		},
		{name: "a count of redrives that is none", own: []Header{{Key: "__dlq.redrives", Value: []byte("-1")}}, want: ours()},
		{name: "a huge count of redrives", own: []Header{{Key: "__dlq.redrives", Value: []byte(strings.Repeat("9", 100))}}, want: ours()},
		{
			name:   "without the error's text",
			change: func(d *death) { d.noText = true },
			want:   slices.Delete(ours(), 5, 6),
		},
		{
			name:   "without an error, as an operator may ask for it",
			change: func(d *death) { d.err, d.reason = nil, DeadLetterReasonOperator },
			want: func() []Header {
				hs := slices.Delete(ours(), 5, 7)
				hs[6].Value = []byte("operator")
				return hs
			}(),
		},
		{
			name:   "a record without a timestamp",
			change: func(d *death) { d.source.Timestamp = time.Time{} },
			want: func() []Header {
				hs := ours()
				hs[7].Value = []byte("-1")
				return hs
			}(),
		},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			d := aDeath()
			if tt.change != nil {
				tt.change(&d)
			}
			before := slices.Clone(tt.own)
			assert.Equal(t, tt.want, d.headers(tt.own))
			assert.Equal(t, before, tt.own, "the record's own slice does not change")
		})
	}
}

// A record that is too large goes with the first five headers only.
func TestHeadersOfADeadLetterThatIsTooLarge(t *testing.T) {
	d := aDeath()
	own := []Header{{Key: "a", Value: nil}, {Key: HeaderErrorMessage, Value: []byte("old")}, {Key: HeaderRedrives, Value: []byte("1")}}
	want := append(append([]Header{{Key: "a"}}, ours()[:5]...), Header{Key: HeaderRedrives, Value: []byte("1")})
	assert.Equal(t, want, d.fewHeaders(own))
}

type typedError struct{ name string }

func (e typedError) Error() string     { return "typed" }
func (e typedError) ErrorType() string { return e.name }

func TestExceptionOfADeadLetter(t *testing.T) {
	cases := []struct {
		err  error
		want string
	}{
		{errors.New("x"), "*errors.errorString"},
		{fmt.Errorf("a: %w", fmt.Errorf("b: %w", &FieldError{})), "*kafka.FieldError"},
		{fmt.Errorf("a: %w", &DecodeError{Err: errors.New("x")}), "decode"},
		{&PanicError{Value: 1}, "panic"},
		{errGoexit, "*errors.errorString"},
		{typedError{"E\n1"}, `E\n1`},
		{typedError{strings.Repeat("x", 500)}, strings.Repeat("x", mostExceptionBytes)},
		{panickingError{}, "kafka.panickingError"},
	}
	for _, tt := range cases {
		assert.Equal(t, tt.want, exceptionOf(tt.err))
	}
	assert.Equal(t, "kafka.panickingError, whose Error panicked", deathText(panickingError{}))
}

func sizeOfHeaders(hs []Header) (n int) {
	for _, h := range hs {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// Whatever fails, and however: ours take at most 2 KiB with their framing, the text is
// valid UTF-8 in one line, and a second death makes them no larger.
func TestHeadersOfADeadLetterAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Header {
			h := Header{Key: rapid.SampledFrom([]string{"", "a", "b", "traceparent", "__dlq.", HeaderErrorTopic, HeaderErrorMessage, HeaderRedrives}).Draw(t, "key")}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 1:
				h.Value = []byte{}
			case 2:
				h.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
			}
			return h
		}), 0, 8).Draw(t, "own")
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		text = strings.Repeat(text, rapid.IntRange(0, 3000).Draw(t, "times"))
		d := death{
			source:   Source{Topic: strings.Repeat("t", maxTopicBytes), Partition: 1<<31 - 1, Offset: 1<<63 - 1, Timestamp: time.UnixMilli(1 << 53)},
			group:    strings.Repeat("g", maxNameBytes),
			attempts: 1<<63 - 1,
			err:      rapid.SampledFrom([]error{errors.New(text), typedError{text}, nil}).Draw(t, "err"),
			reason:   DeadLetterReasonAttempts,
			failed:   time.UnixMilli(1 << 53),
		}
		hs := d.headers(own)

		kept := []Header{}
		for _, h := range own {
			if !isOurs(h.Key) {
				kept = append(kept, h)
			}
		}
		require.Equal(t, kept, hs[:len(kept)])
		added := hs[len(kept):]
		const framing = 3 * 2 // varints of at most two bytes around key and value, and one to spare
		require.LessOrEqual(t, sizeOfHeaders(added)+framing*len(added), 2048)
		for _, h := range added {
			require.True(t, utf8.Valid(h.Value), "%s", h.Key)
			require.Equal(t, -1, strings.IndexFunc(string(h.Value), unicode.IsControl), "%s: %q", h.Key, h.Value)
			if h.Key == HeaderErrorMessage {
				require.LessOrEqual(t, len(h.Value), 1024)
			}
		}
		require.Equal(t, hs, d.headers(hs), "a second death")
		s, ok := sourceOf(hs)
		require.True(t, ok)
		require.Equal(t, d.source, s)
	})
}

func TestSourceOfAMessage(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	here := Message{Topic: "orders.dlq", Partition: 1, Offset: 7, Timestamp: time.UnixMilli(1_800_000_000_000)}
	own := Source{Topic: "orders.dlq", Partition: 1, Offset: 7, Timestamp: here.Timestamp}
	with := func(i int, value string) []Header {
		hs := ours()
		hs[i].Value = []byte(value)
		return hs
	}
	cases := []struct {
		name    string
		headers []Header
		want    Source
	}{
		{"no headers", nil, own},
		{"a dead letter", ours(), Source{Topic: "orders", Partition: 3, Offset: 42, Timestamp: at}},
		{"a dead letter that was too large for all headers", ours()[:5], Source{Topic: "orders", Partition: 3, Offset: 42}},
		{"a record without a timestamp", with(7, "-1"), Source{Topic: "orders", Partition: 3, Offset: 42}},
		{"a timestamp that is none", with(7, "now"), Source{Topic: "orders", Partition: 3, Offset: 42}},
		{"no topic", ours()[1:], own},
		{"an invalid topic", with(0, "a/b"), own},
		{"a partition that is none", with(1, "x"), own},
		{"a negative partition", with(1, "-1"), own},
		{"a partition of 64 bits", with(1, "4294967296"), own},
		{"an offset that is none", with(2, ""), own},
		{"a negative offset", with(2, "-5"), own},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			m := here
			m.Headers = tt.headers
			assert.Equal(t, tt.want, m.Source())
		})
	}
}
