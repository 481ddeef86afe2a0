package simulation

import (
	"testing"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaks(m) }
