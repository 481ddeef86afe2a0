package simulation

// orderMutations are bugs of partitions whose records are handled many at once. The
// simulation finds the first ones. Tests of packages find those that need a log that was
// cut off and has grown again, of which the judge expects nothing, billions of records, or
// keys whose hashes collide, which no seed repeats.
var orderMutations = append(planted([][4]string{
	// What a commit says is done.
	{"position and metadata taken at two moments", "session_commit.go", "\t\tif m, news := p.intake.mark(); news {\n", "\t\tif m, news := p.intake.mark(); news {\n\t\t\ttime.Sleep(1)\n\t\t\tm.Offset = p.intake.position()\n"},
	{"metadata names one offset too many", "internal/lanes/runs.go", "finished.Run{From: r.at[i].from, To: r.at[i].to}", "finished.Run{From: r.at[i].from, To: r.at[i].to + 1}"},
	{"metadata that has moved alone is not committed", "partition_metadata.go", "(in.beside.strike || m.Metadata != in.beside.text)", "in.beside.strike"},
	{"metadata not heeded by a crew", "partition_metadata.go", "\t\tin.many.Known(done)\n", "\t\t_ = done\n"},
	{"metadata not heeded by one lane", "partition_metadata.go", "\t\tin.beside.known = done\n", "\t\t_ = done\n"},
	{"metadata that cannot be read passes the position", "partition_metadata.go", "\t\treturn\n\t}\n\tif in.many != nil {\n\t\tin.beside", "\t\tdone = []finished.Run{{From: in.claim.Start, To: in.claim.Start + 1}}\n\t}\n\tif in.many != nil {\n\t\tin.beside"},
	{"foreign metadata ends the consumer", "partition_metadata.go", "\t\tin.env.log.Warn(\"kafka: metadata beside", "\t\tif !errors.Is(err, finished.ErrBeyondEnd) {\n\t\t\tpanic(err)\n\t\t}\n\t\tin.env.log.Warn(\"kafka: metadata beside"},

	// Lanes of keys.
	{"an empty key is no key", "internal/lanes/window.go", "w.cfg.Keyed && s.record.Key != nil", "w.cfg.Keyed && len(s.record.Key) > 0"},
	{"no record waits behind its key", "internal/lanes/window.go", "w.cfg.Keyed && s.record.Key != nil", "w.cfg.Keyed && s.record == nil"},
	{"the next record of a key is left waiting", "internal/lanes/window.go", "\t\tw.makeReady(s.behind, &w.slots[s.behind])\n", ""},
	{"a zeroed entry is that of an empty key", "internal/lanes/table.go", "\t\tif e.slot == 0 {\n\t\t\t*e = entry{i, s.hash}\n", "\t\tif e.slot == 0 && len(s.record.Key) == 0 {\n\t\t\te.slot = i\n\t\t\treturn 0\n\t\t}\n\t\tif e.slot == 0 {\n\t\t\t*e = entry{i, s.hash}\n"},
	{"the end of the order is written to where the slots were before they grew", "internal/lanes/window.go", "\ti := w.newSlot()\n\ts, tail := &w.slots[i], &w.slots[0]\n", "\ttail := &w.slots[0]\n\ti := w.newSlot()\n\ts := &w.slots[i]\n"},
	{"a lane outlives its records", "internal/lanes/window.go", "\t\tw.lanes.remove(s.hash, i)\n", "\t\t_ = i\n"},
	{"the position passes the oldest record", "internal/lanes/window.go", "w.setPosition(w.slots[head].offset)", "w.setPosition(w.slots[head].offset + 1)"},

	// Places.
	{"a failing record keeps its place", "partition_crew.go", "\towned := s.giveUp()\n\tif !s.waits {", "\towned := false\n\tif !s.waits {"},
	{"a failing record keeps its place of the consumer", "partition_crew.go", "\tc.intake.mu.Unlock()\n\tif owned {\n\t\tc.env.places.release()\n\t}\n\tc.begin(seats)\n}", "\tc.intake.mu.Unlock()\n\t_ = owned\n\tc.begin(seats)\n}"},
	{"a revoked partition keeps its places of the consumer", "partition_crew.go", "\tif owned {\n\t\tc.env.places.release()\n\t}\n\tc.begin(seats)\n\tif c.brake.halted()", "\tif owned && !c.brake.halted() {\n\t\tc.env.places.release()\n\t}\n\tc.begin(seats)\n\tif c.brake.halted()"},
	{"no place of the consumer is asked for", "partition_crew.go", "c.env.places == nil || c.env.places.ask(s)", "c.env.places == nil || true"},
	{"a record is taken before a place of the consumer", "partition_crew.go", "\t\tif c.env.places == nil || c.env.places.ask(s) {\n", "\t\tif c.env.places != nil {\n\t\t\ts.lane.next()\n\t\t}\n\t\tif c.env.places == nil || c.env.places.ask(s) {\n"},
	{"one lane too many", "partition_crew.go", "c.most-c.taken)", "c.most-c.taken+1)"},
	{"a record though the partition is halted", "rate_gate.go", "l.brake.bars(l.ticket != nil)", "l.brake.held() && l.ticket == nil"},
	{"a full queue pauses all partitions", "partition_flow.go", "in.env.driver.Pause(in.claim)", "for _, p := range in.env.keeper.(*claims).live() {\n\t\t\t\tin.env.driver.Pause(p.claim)\n\t\t\t}"},
	{"a queue whose records all wait stays paused", "partition_flow.go", "bytes <= mostBytes/2, in.window.Idle():", "bytes <= mostBytes/2:"},
}),
	mutation{"metadata heeded beyond the end of the log", "partition_metadata.go", "in.claim.Start, in.claim.End, in.claim.Metadata", "in.claim.Start, 1<<62, in.claim.Metadata", [2]string{"kafka", "Metadata|Done|Beside"}},
	mutation{"metadata beyond the end is not taken away", "partition_metadata.go", "\t\t\tin.beside.strike = true\n", "", [2]string{"kafka", "Metadata|Done|Beside"}},
	mutation{"a run beyond the end of the log", "internal/finished/finished.go", "case int64(length) > end-at:", "case false:", [2]string{"kafka/internal/finished", "."}},
	mutation{"a run of any length", "internal/finished/finished.go", "case length > maxRun:", "case false:", [2]string{"kafka/internal/finished", "."}},
	mutation{"a slot that another record has", "internal/lanes/window.go", " || w.slots[s.index].seq != s.seq {", " {", [2]string{"kafka/internal/lanes", "."}},
	mutation{"the number of a record wraps at 32 bits", "internal/lanes/window.go", "\tw.seq++\n", "\tw.seq = uint64(uint32(w.seq + 1))\n", [2]string{"kafka/internal/lanes", "TestNumbersHave64Bits"}},
	mutation{"the next record of a key is ready after the end of the claim", "internal/lanes/window.go", "\tif !w.closed {\n\t\tw.leave(", "\tif true {\n\t\tw.leave(", [2]string{"kafka/internal/lanes", "TestNothingIsTakenAfterClose"}},
	mutation{"hole in the table of lanes", "internal/lanes/table.go", "t.entries[at].slot != 0; at = (at + 1) & mask {\n\t\thome", "at == mask+1; at = (at + 1) & mask {\n\t\thome", [2]string{"kafka/internal/lanes", "TestCollidingKeysKeepTheirLanes"}},
	mutation{"a released slot is an empty key", "internal/lanes/window.go", "\tif !w.closed {\n\t\tw.leave(at.index, s)\n\t}\n\tw.unlink(s)\n\toldest := s.prev == 0\n\t*s = slot{", "\tif !w.closed && (s.behind != 0 || !s.keyed || len(s.record.Key) > 0) {\n\t\tw.leave(at.index, s)\n\t}\n\tw.unlink(s)\n\toldest := s.prev == 0\n\t*s = slot{record: new(driver.Record), ", [2]string{"kafka/internal/lanes", "TestReleasedSlotIsNotAnEmptyKey"}},
	mutation{"no key is a key", "internal/lanes/window.go", "w.cfg.Keyed && s.record.Key != nil", "w.cfg.Keyed", [2]string{"kafka/internal/lanes", "."}},
)
