package kafka

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// Failures are counted by offset. A new claim strikes out what lies below its start, and
// an hour without the partition strikes out all of it.
func TestLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLedger()
		key := TopicPartition{"orders", 0}
		claim := func(start int64) *driver.Claim { return &driver.Claim{Topic: "orders", Start: start} }
		g.open(claim(0))
		for _, offset := range []int64{3, 5, 5, 9} {
			g.count(key, offset)
		}
		g.strike(key, 3)
		assert.Equal(t, []int{0, 2, 1}, []int{g.failuresOf(key, 3), g.failuresOf(key, 5), g.failuresOf(key, 9)})
		g.end(claim(0))
		time.Sleep(time.Hour - time.Second)
		g.open(claim(6))
		assert.Equal(t, []int{0, 1}, []int{g.failuresOf(key, 5), g.failuresOf(key, 9)})
		time.Sleep(2 * time.Hour)
		assert.Equal(t, 1, g.failuresOf(key, 9), "it is owned")
		g.end(claim(6))
		time.Sleep(time.Hour)
		g.open(claim(6))
		assert.False(t, g.has(key))
	})
}
