package sarama

import (
	"io"
	"log"
	"sync/atomic"
	"testing"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A relay passes on what Sarama logs, while a test wants it. Sarama's two loggers
// are variables that its goroutines read, so they are set before there are any.
type relay struct{ to atomic.Pointer[io.Writer] }

func (r *relay) Write(b []byte) (int, error) {
	if w := r.to.Load(); w != nil {
		return (*w).Write(b)
	}
	return len(b), nil
}

var saramaSays relay

func init() {
	ibm.Logger, ibm.DebugLogger = log.New(&saramaSays, "", 0), log.New(&saramaSays, "", 0)
}

func TestRealSecurityTable(t *testing.T) {
	testkit.DriversTurn(t, "sarama")
	common.SecurityTable(t, func(t *testing.T, w io.Writer) driver.Driver {
		saramaSays.to.Store(&w)
		t.Cleanup(func() { saramaSays.to.Store(nil) })
		return Driver{}
	})
}
