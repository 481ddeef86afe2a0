package testkit

import (
	"os"
	"testing"
)

// DriversTurn skips a long suite on real brokers if it is another driver's turn. CI gives
// the drivers turns, by the commit; without GOPKG_DRIVER every driver has its turn.
func DriversTurn(t testing.TB, driver string) {
	t.Helper()
	if turn := os.Getenv("GOPKG_DRIVER"); turn != "" && turn != driver {
		t.Skipf("GOPKG_DRIVER says that it is the turn of %s", turn)
	}
}
