package memory

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A modelLog says what a log should hold, with a list and no cleverness.
type modelLog struct {
	start, end int64
	entries    []modelEntry
}

type modelEntry struct {
	offset int64
	value  string
	tx     *Transaction
}

func (m *modelLog) limit(level driver.IsolationLevel) int64 {
	if level == driver.ReadUncommitted {
		return m.end
	}
	// A transaction is open from its first record on, also if that is gone.
	for _, e := range m.entries {
		if e.tx != nil && e.tx.state == open && e.offset < m.end {
			return e.offset
		}
	}
	return m.end
}

func (m *modelLog) read(level driver.IsolationLevel) (entries []seen) {
	for _, e := range m.entries {
		hidden := level == driver.ReadCommitted && e.tx != nil && e.tx.state == aborted
		if e.value != "" && e.offset >= m.start && e.offset < m.limit(level) && !hidden {
			entries = append(entries, seen{e.offset, e.value})
		}
	}
	return entries
}

// A seen is a record as a reader sees it.
type seen struct {
	offset int64
	value  string
}

func seenIn(records []driver.Record) []seen {
	all := make([]seen, len(records))
	for i, r := range records {
		all[i] = seen{r.Offset, string(r.Value)}
	}
	return all
}

// readAll reads in small fetches, as a consumer does, and checks each of them.
func readAll(t *rapid.T, l *partitionLog, level driver.IsolationLevel, maxBytes int) (all []seen, next int64) {
	next = l.start
	for {
		records, after := l.read(next, level, maxBytes)
		if after == next {
			require.False(t, len(records) > 0, "records without progress")
			return all, next
		}
		for _, r := range records {
			require.Equal(t, len(records), cap(records), "an append to the result would write to the log")
			require.False(t, r.Offset < next || r.Offset >= after, "a record lies outside of its batch")
		}
		all = append(all, seenIn(records)...)
		next = after
	}
}

// A logMachine does the same to a log and to its model.
type logMachine struct {
	l     partitionLog
	m     modelLog
	txs   []*Transaction
	given [][]driver.Record // what has been handed out
	was   [][]seen          // and what it was
	n     int
}

func (lm *logMachine) append(t *rapid.T) {
	var tx *Transaction
	if len(lm.txs) > 0 && rapid.Bool().Draw(t, "transactional") {
		tx = rapid.SampledFrom(lm.txs).Draw(t, "tx")
	}
	for range rapid.SampledFrom([]int{1, 2, 3, 5, 400}).Draw(t, "records") {
		lm.n++
		value := fmt.Sprint("v", lm.n)
		offset := lm.l.append(driver.Record{Value: []byte(value)}, tx)
		lm.m.entries = append(lm.m.entries, modelEntry{offset, value, tx})
		lm.m.end++
	}
}

func (lm *logMachine) begin(*rapid.T) { lm.txs = append(lm.txs, new(Transaction)) }

func (lm *logMachine) endTransaction(t *rapid.T) {
	if len(lm.txs) == 0 {
		t.Skip("none is open")
	}
	i := rapid.IntRange(0, len(lm.txs)-1).Draw(t, "tx")
	lm.txs[i].state = rapid.SampledFrom([]transactionState{committed, aborted}).Draw(t, "state")
	lm.l.finish(lm.txs[i])
	lm.m.end++
	lm.txs = slices.Delete(lm.txs, i, i+1)
}

func (lm *logMachine) remove(t *rapid.T) {
	offset := rapid.Int64Range(0, lm.m.end).Draw(t, "offset")
	want := false
	for i, e := range lm.m.entries {
		if e.offset == offset && e.value != "" && e.offset >= lm.m.start {
			want = true
			lm.m.entries[i].value = "" // a hole, which still opens its transaction
		}
	}
	require.Equal(t, want, lm.l.remove(offset), "remove has the wrong answer")
}

func (lm *logMachine) deleteBefore(t *rapid.T) {
	if before := rapid.Int64Range(lm.m.start, lm.m.end).Draw(t, "before"); before > lm.m.start {
		lm.l.deleteBefore(before)
		lm.m.start = before
	}
}

func (lm *logMachine) truncate(t *rapid.T) {
	end := rapid.Int64Range(lm.m.start, lm.m.end).Draw(t, "end")
	lm.l.truncate(end)
	lm.m.end = end
	lm.m.entries = slices.DeleteFunc(lm.m.entries, func(e modelEntry) bool { return e.offset >= end })
}

// same is require.Equal with a message that does not depend on the values: rapid
// shrinks a failure only as long as its message stays the same.
func same(t *rapid.T, want, got any, message string) {
	if !assert.ObjectsAreEqual(want, got) {
		t.Logf("want %v\ngot  %v", want, got)
		require.Fail(t, message)
	}
}

func (lm *logMachine) check(t *rapid.T) {
	maxBytes := rapid.SampledFrom([]int{1, 10, 1 << 20}).Draw(t, "max bytes")
	for _, level := range []driver.IsolationLevel{driver.ReadCommitted, driver.ReadUncommitted} {
		got, next := readAll(t, &lm.l, level, maxBytes)
		same(t, lm.m.read(level), got, "the log reads differently from its model")
		same(t, max(lm.m.start, lm.m.limit(level)), next, "reading ends at the wrong offset")
	}
	same(t, lm.m.start, lm.l.start, "the log has another start than its model")
	same(t, lm.m.end, lm.l.end, "the log has another end than its model")
	lm.checkGiven(t)
}

// checkGiven holds the log to never changing what it has given out.
func (lm *logMachine) checkGiven(t *rapid.T) {
	for i, records := range lm.given {
		require.True(t, slices.Equal(seenIn(records), lm.was[i]), "a record has changed after it was given out")
	}
	if len(lm.given) < 8 {
		records, _ := lm.l.read(lm.l.start, driver.ReadUncommitted, 100)
		lm.given, lm.was = append(lm.given, records), append(lm.was, seenIn(records))
	}
}

func TestLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lm logMachine
		t.Repeat(map[string]func(*rapid.T){
			"":                lm.check,
			"append":          lm.append,
			"begin":           lm.begin,
			"end transaction": lm.endTransaction,
			"skip":            func(*rapid.T) { lm.l.skip(); lm.m.end++ },
			"remove":          lm.remove,
			"delete before":   lm.deleteBefore,
			"truncate":        lm.truncate,
		})
	})
}

func TestArenaKeepsNilAndEmptyApart(t *testing.T) {
	var a arena
	assert.Nil(t, a.copy(nil))
	assert.Equal(t, []byte{}, a.copy([]byte{}))
	var kept [][]byte
	for n := range 2000 {
		b := slices.Repeat([]byte{byte(n)}, n)
		kept = append(kept, a.copy(b))
		clear(b)
	}
	for n, b := range kept {
		require.Equal(t, slices.Repeat([]byte{byte(n)}, n), b)
		require.Equal(t, n, cap(b), "an append to a copy must not write to the next one")
	}
}
