package simulation

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every bug of the table can still be planted: the text that it replaces is in the code,
// once.
func TestPlantedBugsHaveTheirPlaces(t *testing.T) {
	for _, m := range mutations {
		src, err := os.ReadFile(m.path())
		require.NoError(t, err)
		assert.Equal(t, 1, strings.Count(string(src), m.old), "%s: how often %q is in %s", m.name, m.old, m.file)
	}
}
