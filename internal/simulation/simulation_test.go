package simulation

import (
	"flag"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSimulation holds the promises of package kafka over random histories.
func TestSimulation(t *testing.T) {
	st, began := newStats(), time.Now()
	defer func() {
		t.Logf("%d sequences, %d steps in %v\n%v", st.counts["sequences"], st.counts["steps"], time.Since(began), st)
		t.Logf("struck fewer than %d times in %d sequences, at this rate: %q", oftenEnough, ofSequences, st.few())
		if st.failure != "" {
			t.Logf("as it was found:\n%s", st.failure)
		}
	}()
	t.Logf("seed: -rapid.seed=%s (0 is a fresh one)", flag.Lookup("rapid.seed").Value)
	collect := collectBetween(100)
	rapid.Check(t, func(t *rapid.T) {
		collect()
		bubbleSeed = rapid.Uint64().Draw(t, "chance")
		simulate(t, st)
	})
}

// simulate runs one sequence.
func simulate(t *rapid.T, st *stats) {
	rapid.SyncTest(t, func(t *rapid.T) {
		w := newWorld(t, st)
		defer w.stopAll() // no Cleanup: after a deadlock that runs outside the bubble, and hides it
		st.count("sequences")
		t.Repeat(w.actions(t))
		w.settle(t)
		st.add("struck probe", w.judge.Probes())
	})
}
