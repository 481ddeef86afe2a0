package otelkafka

import (
	"testing"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaksBesideSarama(m) }
