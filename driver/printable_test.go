package driver

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain text stays", "orders: größer 日本", "orders: größer 日本"},
		{"line breaks are escaped", "a\nb\rc\td", `a\nb\rc\td`},
		{"bytes that are no UTF-8 are escaped", "a\xffb", `a\xffb`},
		{"invisible characters are escaped", "a\u202eb\u200b", `a\u202eb\u200b`},
		{"long text is cut and counted", strings.Repeat("x", 300), strings.Repeat("x", 256) + "… (44 bytes more)"},
		{"no rune is cut in two", strings.Repeat("x", 255) + "é", strings.Repeat("x", 255) + "… (2 bytes more)"},
		{"long text that is no UTF-8 is cut too", strings.Repeat("\x80", 300), strings.Repeat(`\x80`, 252) + "… (48 bytes more)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equalf(t, c.want, Printable(c.in, 0), "Printable(%q)", c.in)
		})
	}
}
