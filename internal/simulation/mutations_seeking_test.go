package simulation

// seekingMutations are bugs of seeks.
var seekingMutations = planted([][4]string{
	// The old claim and the new position.
	{"seek racing a handler", "session_claims.go", "stuck := awaitLanes(drained, parts)", "stuck := awaitLanes(drained, slices.DeleteFunc(slices.Clone(parts), func(p *partition) bool { return p.sought.Load() }))"},
	{"a seek moves while the old claim drains", "memory/seek.go", "\tif err = r.drains.revoke(ks); err == nil {\n", "\tgo r.drains.revoke(ks)\n\tif true {\n"},
	{"old claim's marks flushed after the seek", "memory/seek.go", "\tif err = r.drains.revoke(ks); err == nil {\n\t\terr = r.move(s)\n\t}\n", "\tif err = r.move(s); err == nil {\n\t\terr = r.drains.revoke(ks)\n\t}\n"},
	{"a seek does not halt the old claim", "session_claims.go", "\t\t\tp.brake.halt(nil)\n\t\t} else {\n", "\t\t\tp.brake.free()\n\t\t} else {\n"},
	{"a seek to where the claim was", "memory/seek.go", "\t\tc.store(k, m, Commit{Seek: true})\n", "\t\tm.Offset = max(m.Offset, k.committed.offset)\n\t\tc.store(k, m, Commit{Seek: true})\n"},
	{"what lay beside the position stays", "memory/seek.go", "\t\tc.store(k, m, Commit{Seek: true})\n", "\t\tm.Metadata = k.committed.metadata\n\t\tc.store(k, m, Commit{Seek: true})\n"},

	// Answers.
	{"seek with a lost answer taken as applied", "seek.go", "\t\terr = fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n\t}\n", "\t\terr = nil\n\t}\n"},
	{"seek with a lost answer taken as untouched", "seek.go", "\t\t\t\t\ts.moves[i].err = f.Err\n", "\t\t\t\t\ts.moves[i].err = errors.New(f.Err.Error())\n"},
	{"a refused seek taken as applied", "seek.go", "\t\t\t\tif f.Mark.Claim == p.claim {\n", "\t\t\t\tif f.Mark.Claim == p.claim && errors.Is(f.Err, ErrUnknownOutcome) {\n"},
	{"an ended wish is applied later", "memory/seek.go", "\t\ts.fail(timedOut(ctx, nil), m)\n\t\tdelete(s.waiting, k)\n", "\t\t_ = k\n\t\ts.fail(timedOut(ctx, nil), m)\n"},
	{"an ended wish is applied after the drain", "memory/seek.go", "\ts.refuse(timedOut(ctx, nil))\n", "\ts.fail(timedOut(ctx, nil), s.taken...)\n"},

	// Where it leads.
	{"a seek one too far", "seek.go", "marks = append(marks, driver.Mark{Claim: p.claim, Offset: m.offset})", "marks = append(marks, driver.Mark{Claim: p.claim, Offset: m.offset + 1})"},
	{"a seek that is off goes one too far", "seek.go", "Partition: m.Partition, Offset: m.offset})\n\t}\n\terr := guard", "Partition: m.Partition, Offset: m.offset + 1})\n\t}\n\terr := guard"},
	{"the end is the beginning", "seek.go", "\t\treturn found.End, nil\n", "\t\treturn found.Begin, nil\n"},
	{"a time is the end", "seek.go", "\t\treturn found.At, nil\n", "\t\treturn found.End, nil\n"},
	{"only the first partition is moved", "seek.go", "\tfor _, m := range s.moves {\n\t\tp := s.parts[m.TopicPartition]\n\t\tp.sought", "\tfor _, m := range s.moves[:1] {\n\t\tp := s.parts[m.TopicPartition]\n\t\tp.sought"},

	// What stays, and what goes.
	{"a seek forgets the pause", "seek.go", "\t\tp.sought.Store(true)\n", "\t\tp.sought.Store(true)\n\t\tp.setPaused(false)\n"},
	{"a seek forgets the pauses of later claims", "seek.go", "\t\tp.sought.Store(true)\n", "\t\tp.sought.Store(true)\n\t\ts.job.pauses.note(false, nil)\n"},
	{"a hold ends with its claim", "hold.go", "b.setHeld(h.active)", "b.setHeld(false)"},
	{"attempts survive a seek", "job_ledger.go", "\tif expected && to == c.Start {\n", "\tif expected && to < c.Start {\n"},
})
