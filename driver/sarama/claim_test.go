package sarama

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// TestPassedMarks: below the position a mark has passed, and at it if its metadata is known
// to be there.
func TestPassedMarks(t *testing.T) {
	cl := &claim{public: &driver.Claim{Start: 5}, committed: -1, metadata: "read"}
	passed := func(offset int64, metadata string, want bool) {
		t.Helper()
		assert.Equal(t, want, cl.passed(offset, metadata), "mark at %d with %q", offset, metadata)
	}
	passed(4, "other", true)
	passed(5, "read", true)
	passed(5, "", false)
	passed(6, "read", false)

	cl.sending(5) // an attempt that is never answered may have been applied
	passed(5, "read", false)
	passed(4, "other", true)
	cl.setCommitted(5, "new")
	passed(5, "new", true)
	passed(5, "read", false)

	cl.sending(7)
	passed(5, "new", true)
	cl.setCommitted(7, "")
	passed(7, "", true)
	passed(6, "new", true)
	cl.setCommitted(6, "late")
	passed(7, "", true)
}
