package driver

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName      = 256  // bytes of one name or address in an error or a log line
	maxErrorText = 2048 // bytes of a backend's whole error text
)

// Printable returns s in a form that is safe in an error or a log line. It escapes
// control characters and bytes that are not UTF-8, and replaces everything beyond
// limit bytes by its length. Text that a peer or a user has chosen must go through it.
// A limit of 0 is 256.
func Printable(s string, limit int) string {
	if limit <= 0 {
		limit = maxName
	}
	cut := 0
	if len(s) > limit {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		cut = len(s) - end
		s = s[:end]
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) {
		s = escape(s)
	}
	if cut > 0 {
		s += "… (" + strconv.Itoa(cut) + " bytes more)"
	}
	return s
}

// unprintable reports whether r could break a line or hide text. A tab or line
// feed is among these.
func unprintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || unprintable(r) {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
