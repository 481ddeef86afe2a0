package simulation

import (
	"os"
	"strings"
	"testing"
)

// Every bug of the table can still be planted: what it replaces is in the code.
func TestPlantedBugsHaveTheirPlaces(t *testing.T) {
	for _, m := range mutations {
		src, err := os.ReadFile(m.path())
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), m.old); n != 1 {
			t.Errorf("%s: %q is in %s %d times, want once", m.name, m.old, m.file, n)
		}
	}
}
