package kafka

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTrackerAgainstNaiveSet checks the rule against a set of offsets: the
// position is above every offset up to the lowest one that is open, and not
// above that; with nothing open it is the end of what is known. Between the two
// lie holes only, so any position there is right.
func TestTrackerAgainstNaiveSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SampledFrom([]int64{-1, 0, 7}).Draw(t, "start")
		tr := newTracker(start)
		end := start
		var open, begun []int64
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				offset := max(end, 0) + rapid.Int64Range(0, 3).Draw(t, "hole")
				tr.begin(offset)
				open, begun, end = append(open, offset), append(begun, offset), offset+1
			},
			"finish": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				tr.finish(open[i])
				open = slices.Delete(open, i, i+1)
			},
			"skip": func(t *rapid.T) {
				to := max(1, end+rapid.Int64Range(-2, 4).Draw(t, "to"))
				tr.skip(to)
				end = max(end, to)
			},
			"": func(t *rapid.T) {
				low, high := end, end
				if len(open) > 0 {
					low, high = -1, open[0]
					if i := slices.Index(begun, open[0]); i > 0 {
						low = begun[i-1] + 1
					}
				}
				if got := tr.position(); got < low || got > high {
					t.Logf("begun %v, open %v, end %d", begun, open, end)
					t.Fatalf("position() = %d, want %d to %d", got, low, high)
				}
			},
		})
	})
}

func TestTrackerInOrderDoesNotAllocate(t *testing.T) {
	tr := newTracker(0)
	offset := int64(0)
	got := testing.AllocsPerRun(1000, func() {
		tr.begin(offset)
		tr.finish(offset)
		offset++
	})
	if got != 0 {
		t.Errorf("begin and finish allocate %v times, want 0", got)
	}
}
