//go:build !unix

package testkit

import "testing"

// Refuse does nothing here: another test may get the port of a server that has closed.
func Refuse(testing.TB, ...string) {}
