package kafka

import (
	"slices"
	"testing"
)

// FuzzTracker completes records in any order and compares with a naive set: the
// position never passes what is open, is never behind what is done, and never
// goes back. Each byte of ops is one step: its low bits say which, the others how far.
func FuzzTracker(f *testing.F) {
	f.Add(int64(0), []byte{0, 0, 0, 1, 1, 1})
	f.Add(int64(-1), []byte{4, 8, 0, 2, 6, 1, 5, 9})
	f.Add(int64(7), []byte{0, 4, 0, 13, 9, 1, 18, 0, 1})
	f.Add(int64(1)<<62, []byte{0, 1, 0, 1, 2})
	f.Fuzz(func(t *testing.T, start int64, ops []byte) {
		if start < -1 || start > 1<<62 {
			t.Skip("no offset of Kafka's")
		}
		n := naive{t: t, end: start, latest: start}
		tr := newTracker(start)
		for _, op := range ops {
			n.step(tr, op)
		}
		for len(n.open) > 0 {
			n.finish(tr, len(n.open)/2)
		}
		if got := tr.position(); got != n.end {
			t.Errorf("all is done: position() = %d, want %d", got, n.end)
		}
	})
}

// A naive is what a tracker must agree with.
type naive struct {
	t      *testing.T
	end    int64 // after the last offset that is known
	latest int64 // the position that was seen last
	begun  []int64
	open   []int64
}

func (n *naive) step(tr *tracker, op byte) {
	far := int64(op >> 2)
	switch op & 3 {
	case 0, 3:
		offset := max(n.end, 0) + far%4
		tr.begin(offset)
		n.begun, n.open, n.end = append(n.begun, offset), append(n.open, offset), offset+1
	case 1:
		if len(n.open) > 0 {
			n.finish(tr, int(far)%len(n.open))
		}
	case 2:
		to := max(1, n.end+far%8-2)
		tr.skip(to)
		n.end = max(n.end, to)
	}
	n.check(tr)
}

func (n *naive) finish(tr *tracker, i int) {
	tr.finish(n.open[i])
	n.open = slices.Delete(n.open, i, i+1)
	n.check(tr)
}

// check allows any position among the holes before the lowest open offset.
func (n *naive) check(tr *tracker) {
	low, high := n.end, n.end
	if len(n.open) > 0 {
		low, high = -1, n.open[0]
		if i := slices.Index(n.begun, n.open[0]); i > 0 {
			low = n.begun[i-1] + 1
		}
	}
	got := tr.position()
	if got < low || got > high || got < n.latest {
		n.t.Fatalf("position() = %d, want %d to %d, and not below %d\nbegun %v, open %v, end %d", got, low, high, n.latest, n.begun, n.open, n.end)
	}
	n.latest = got
}
