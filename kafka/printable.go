package kafka

import (
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// quote returns s for a message: escaped, and cut where it is long.
func quote(s string) string {
	const most = 255
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// printable returns a name or a path for a line: escaped, and cut where it is long.
func printable(s string) string { return driver.Printable(s, 0) }

// printableError returns err's text for a line, escaped and cut.
func printableError(err error) string { return driver.Printable(err.Error(), mostErrorText) }

const mostErrorText = 2048

// loggable returns err as it is where its text can stand in a line, so that a log
// handler can look into it, and else its text, escaped and cut. The text may be a
// handler's, a peer's, or a panic's.
func loggable(err error) any {
	if err == nil {
		return nil
	}
	text := err.Error()
	if printed := driver.Printable(text, mostErrorText); printed != text {
		return printed
	}
	return err
}

// panicText returns the value of a panic for a log line.
func panicText(v any) string { return driver.Printable(fmt.Sprint(v), mostErrorText) }

// firstOf returns the first elements of a list for a line, and how many there are
// more: a consumer can have a hundred thousand partitions.
func firstOf(list []string) []string {
	const most = 20
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
}
