package lanes

// A table finds the last slot of each lane by its key. It is open addressing with linear
// probing: an entry lies at its home, which its hash says, or behind it with no empty
// entry between. The key of an entry is the key of its slot's record: the last slot of a
// lane is not done, so its record is still there.
//
// Keys decide, byte by byte, and not hashes: two keys with one hash have two lanes.
type table struct {
	entries []entry // a power of two of them, at most half of them used
	used    int
	spread  uint32 // the bits of a hash that count: all, but for tests
}

type entry struct {
	slot uint32 // 0: empty
	hash uint32
}

// put makes slot i the last one of its lane, and returns the one that was, or 0.
func (t *table) put(slots []slot, i uint32) (last uint32) {
	if 2*t.used >= len(t.entries) {
		t.grow()
	}
	s := &slots[i]
	s.hash &= t.spread
	mask := uint32(len(t.entries) - 1)
	for at := s.hash & mask; ; at = (at + 1) & mask {
		e := &t.entries[at]
		if e.slot == 0 {
			*e = entry{i, s.hash}
			t.used++
			return 0
		}
		if e.hash == s.hash && string(slots[e.slot].record.Key) == string(s.record.Key) {
			last, e.slot = e.slot, i
			return last
		}
	}
}

// remove takes out the entry of a slot, which is the only one of its lane.
//
// It moves back what lies behind the entry, up to an empty one. Otherwise the hole would
// hide entries that were put behind it because their home was taken: their keys would
// get a second lane, and be handled twice at once.
func (t *table) remove(hash, slot uint32) {
	mask := uint32(len(t.entries) - 1)
	hole := hash & mask
	for t.entries[hole].slot != slot {
		hole = (hole + 1) & mask
	}
	t.used--
	for at := (hole + 1) & mask; t.entries[at].slot != 0; at = (at + 1) & mask {
		home := t.entries[at].hash & mask
		if (at-home)&mask >= (at-hole)&mask { // the hole lies between its home and it
			t.entries[hole] = t.entries[at]
			hole = at
		}
	}
	t.entries[hole] = entry{}
}

// grow doubles the table.
func (t *table) grow() {
	old := t.entries
	t.entries = make([]entry, max(16, 2*len(old)))
	mask := uint32(len(t.entries) - 1)
	for _, e := range old {
		if e.slot == 0 {
			continue
		}
		at := e.hash & mask
		for t.entries[at].slot != 0 {
			at = (at + 1) & mask
		}
		t.entries[at] = e
	}
}
