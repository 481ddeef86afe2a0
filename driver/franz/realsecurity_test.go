package franz

import (
	"io"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestRealSecurityTable(t *testing.T) {
	testkit.DriversTurn(t, "franz")
	common.SecurityTable(t, func(_ *testing.T, w io.Writer) driver.Driver {
		return Driver{Options: []kgo.Opt{kgo.WithLogger(kgo.BasicLogger(w, kgo.LogLevelDebug, nil))}}
	})
}
