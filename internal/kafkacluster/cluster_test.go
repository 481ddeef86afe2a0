package kafkacluster

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOne(t *testing.T) {
	c := ForTest(t, Config{})
	if err := c.CreateTopic(t.Context(), "orders", 4, nil); err != nil {
		t.Fatal(err)
	}
	t.Log(c.Bootstrap(), c.Broker(1).PID())
	t.Log(c.EndOffsets(t.Context(), "orders"))
	t.Log(c.CommittedOffsets(t.Context(), "g"))
}
func TestThree(t *testing.T) {
	c := ForTest(t, Config{Brokers: 3})
	if err := c.CreateTopic(t.Context(), "orders", 4, nil); err != nil {
		t.Fatal(err)
	}
	t.Log(c.Bootstrap(), c.Broker(1).PID())
	t.Log(c.EndOffsets(t.Context(), "orders"))
	t.Log(c.CommittedOffsets(t.Context(), "g"))
}
