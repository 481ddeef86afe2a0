package invoice

import (
	"errors"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tests of this file use package testing alone: kafkatest asks for no assertion
// library, and works with any.

func TestInvoiceIsSent(t *testing.T) {
	k := kafkatest.New(t)
	k.Start(&Consumer{Producer: k.Producer()})
	k.WaitHandled(k.Send("orders", "1", `{"id": 1, "cents": 1234}`))
	got := k.Produced("invoices")
	if len(got) != 1 || string(got[0].Key) != "1" || string(got[0].Value) != "12.34" {
		t.Errorf("sent %v, want one invoice of 12.34", got)
	}
}

// A bad order is tried again, with backoff, as long as it takes, and holds what
// comes after it in its partition. In a synctest bubble these minutes pass at once.
func TestBadOrderIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(&Consumer{Producer: k.Producer()})
		bad := k.Send("orders", "", `{"id": 2}`)
		k.Send("orders", "", `{"id": 3, "cents": 100}`)
		if err := k.WaitFailed(bad, 10); !errors.Is(err, errNoAmount) {
			t.Errorf("failed with %v", err)
		}
		status, _ := k.Consumer("invoices")
		if p := status.Partitions[0]; status.State != kafka.StateRunning || p.Position != bad.Offset || p.Errors != 10 {
			t.Errorf("%+v, want running, with 10 failures at offset %d", status, bad.Offset)
		}
		if n := len(k.Produced("invoices")); n != 0 {
			t.Errorf("%d invoices were sent past the bad order", n)
		}
	})
}

// A rebalance in the middle loses nothing.
func TestRebalanceLosesNothing(t *testing.T) {
	k := kafkatest.New(t)
	k.Start(&Consumer{Producer: k.Producer()})
	k.WaitHandled(k.Send("orders", "", `{"id": 4, "cents": 400}`))
	k.Rebalance("invoices")
	k.WaitHandled(k.Send("orders", "", `{"id": 5, "cents": 500}`))
	k.WaitCommitted("invoices")
	if got := k.Committed("invoices", "orders", 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
}
