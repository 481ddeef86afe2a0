package position

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// wantPassed checks whether a mark has nothing to do.
func wantPassed(t *testing.T, of *Progress, offset int64, metadata string, want bool) {
	t.Helper()
	assert.Equal(t, want, of.Passed(offset, metadata), "mark at %d with %q", offset, metadata)
}

// TestPassedMarks: below the position a mark has passed. At the position it has passed if its
// metadata is known to be there.
func TestPassedMarks(t *testing.T) {
	of := NewProgress(5, "read")
	wantPassed(t, of, 4, "other", true)
	wantPassed(t, of, 5, "read", true)
	wantPassed(t, of, 5, "", false)
	wantPassed(t, of, 6, "read", false)

	of.Sending(5) // an attempt that is never answered may have been applied
	wantPassed(t, of, 5, "read", false)
	wantPassed(t, of, 4, "other", true)
	assert.True(t, of.Commit(5, "new"))
	wantPassed(t, of, 5, "new", true)
	wantPassed(t, of, 5, "read", false)

	of.Sending(7)
	wantPassed(t, of, 5, "new", true)
	assert.True(t, of.Commit(7, ""))
	wantPassed(t, of, 7, "", true)
	wantPassed(t, of, 6, "new", true)
	assert.False(t, of.Commit(6, "late"))
	wantPassed(t, of, 7, "", true)
	assert.Equal(t, int64(7), of.Offset())
}

// TestPassedMarksWithoutAPosition: the group has no position, so that a mark at the first
// offset changes metadata only.
func TestPassedMarksWithoutAPosition(t *testing.T) {
	of := NewProgress(-1, "")
	assert.Equal(t, int64(-1), of.Offset())
	wantPassed(t, of, 0, "", true)
	wantPassed(t, of, 0, "new", false)
	of.Sending(0)
	wantPassed(t, of, 0, "", false)
	assert.True(t, of.Commit(0, ""))
	wantPassed(t, of, 0, "", true)
	assert.Equal(t, int64(0), of.Offset())
}

// TestRefusedMetadataIsReportedOnce: no mark is sent with metadata after a refusal.
func TestRefusedMetadataIsReportedOnce(t *testing.T) {
	var m Metadata
	mark := driver.Mark{Metadata: "long"}
	tooLarge := errors.New("too large")
	assert.NoError(t, m.Refuse(p("t", 1), "", tooLarge), "of a mark without metadata")
	assert.Equal(t, "long", m.Of(mark))
	err := m.Refuse(p("t", 1), "long", tooLarge)
	assert.ErrorIs(t, err, tooLarge)
	assert.EqualError(t, err, "no metadata is committed from now on: that of t/1: too large")
	assert.Empty(t, m.Of(mark))
	assert.NoError(t, m.Refuse(p("t", 1), "long", tooLarge), "the second refusal")
}
