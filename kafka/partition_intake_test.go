package kafka

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// A lane that a timer woke may have left a token behind: the next delivery must not wait
// for it to be taken, since the driver has one goroutine for all partitions.
func TestDeliveryNeverWaitsForTheLane(t *testing.T) {
	in := newIntake(&env{maxMessages: 10, maxBytes: 1 << 20, budget: &budget{}}, &driver.Claim{Topic: "orders"})
	in.wake <- struct{}{}
	in.mu.Lock()
	in.waiting = true
	in.mu.Unlock()
	in.deliver(driver.Batch{Records: []driver.Record{{Offset: 0}}, Next: 1})
	assert.Len(t, in.wake, 1)
}
