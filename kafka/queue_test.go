package kafka

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

func TestQueueAgainstSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			q     queue
			model []driver.Record // all that has not been released
			taken int
			views [][]driver.Record
			next  int64
		)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				records := make([]driver.Record, rapid.IntRange(0, 90).Draw(t, "n"))
				for i := range records {
					records[i] = driver.Record{Offset: next, Value: make([]byte, int(next%7))}
					next++
				}
				q.push(records)
				model = append(model, records...)
				clear(records) // the driver's again
			},
			"take": func(t *rapid.T) {
				view := q.take(rapid.IntRange(1, 50).Draw(t, "limit"))
				if len(view) == 0 && taken < len(model) {
					t.Fatalf("take() = nothing, though %d records wait", len(model)-taken)
				}
				for i := range view {
					if got, want := view[i].Offset, model[taken+i].Offset; got != want {
						t.Fatalf("take()[%d] = offset %d, want %d", i, got, want)
					}
				}
				taken += len(view)
				if len(view) > 0 {
					views = append(views, view)
				}
			},
			"release": func(t *rapid.T) {
				if len(views) == 0 {
					t.Skip("nothing is taken")
				}
				for i := range views[0] { // still what it was, whatever was pushed since
					if got, want := views[0][i].Offset, model[i].Offset; got != want {
						t.Fatalf("taken record %d = offset %d, want %d", i, got, want)
					}
				}
				k := len(views[0])
				q.release(k)
				model, taken, views = model[k:], taken-k, views[1:]
			},
			"": func(t *rapid.T) {
				bytes := 0
				for i := range model {
					bytes += cost(&model[i])
				}
				if q.n != len(model) || q.bytes != bytes {
					t.Fatalf("holds %d records, %d bytes, want %d, %d", q.n, q.bytes, len(model), bytes)
				}
			},
		})
	})
}

func TestQueueForgetsABurst(t *testing.T) {
	var q queue
	q.push(make([]driver.Record, 10*idleRing))
	for q.n > 0 {
		q.release(len(q.take(100)))
	}
	if len(q.ring) > idleRing {
		t.Errorf("an empty queue keeps %d slots, want at most %d", len(q.ring), idleRing)
	}
}

// TestFault_H5_EmptyHeadersCount: a record of a hundred thousand empty headers points
// to nothing, and takes megabytes.
func TestFault_H5_EmptyHeadersCount(t *testing.T) {
	const n = 100_000
	r := driver.Record{Headers: make([]driver.Header, n)}
	if got := cost(&r); got < n*32 {
		t.Errorf("cost of %d empty headers = %d", n, got)
	}
}
