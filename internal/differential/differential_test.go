package differential

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) {
	testkit.NoLeaksBesideSarama(m)
}

var (
	count = flag.Int("sequences", 0, "how many `sequences` each test runs; 0 is a share of some seconds")
	first = flag.Int("seed", 0, "the seed of the first sequence, to which the others follow; 0 is a fresh one")
)

// abreast is how many sequences run at a time: they mostly wait.
const abreast = 8

func TestFake(t *testing.T) {
	t.Parallel()
	compare(t, 60, newMemory(), overFake(t))
}

func TestKafka(t *testing.T) {
	t.Parallel()
	compare(t, 40, newMemory(), overKafka(t))
}

// compare runs sequences on both systems.
func compare(t *testing.T, share int, a, b system) {
	if testing.Short() {
		share /= 10
	}
	n, seed := cmp.Or(*count, share), cmp.Or(*first, fresh())
	began, ops, recreations := time.Now(), 0, new(tally)
	t.Logf("%d sequences from -seed=%d on %v and %v", n, seed, a, b)
	seeds := make(chan int)
	var workers sync.WaitGroup
	for range min(abreast, n) {
		workers.Go(func() {
			for seed := range seeds {
				check(t, sequences.Example(seed), seed, a, b, recreations)
			}
		})
	}
	for i := range n {
		ops += len(sequences.Example(seed + i).ops)
		seeds <- seed + i
	}
	close(seeds)
	workers.Wait()
	t.Logf("%d operations in %v; topics created again on %v: %d under members, %d without",
		ops, time.Since(began), b, recreations.members.Load(), recreations.empty.Load())
}

// fresh returns a seed.
func fresh() int {
	var b [8]byte
	rand.Read(b[:])
	return int(binary.NativeEndian.Uint32(b[:]))
}

// check reports a difference, and as small a sequence that shows it as there is
// time to find.
func check(t *testing.T, seq sequence, seed int, a, b system, recreations *tally) {
	difference := differ(seq, a, b, recreations)
	if difference == "" {
		return
	}
	deadline := time.Now().Add(time.Minute)
	for i := len(seq.ops) - 1; i >= 0 && time.Now().Before(deadline); i-- {
		if d := differ(seq.without(i), a, b, new(tally)); d != "" {
			seq, difference = seq.without(i), d
		}
	}
	assert.Fail(t, "the systems differ", "-seed=%d -sequences=1:\n%v\n\n%s", seed, seq, difference)
}

// differ runs a sequence on both systems and says how the first difference in
// what could be observed came about, or "". It counts the recreations on the second.
func differ(seq sequence, a, b system, recreations *tally) string {
	var lines [2][]string
	var stuck [2]string
	var running sync.WaitGroup
	counts := []*tally{new(tally), recreations}
	for i, sys := range []system{a, b} {
		running.Go(func() { lines[i], stuck[i] = observe(sys, seq, b.String() == "kfake", counts[i]) })
	}
	running.Wait()
	i := 0
	for i < min(len(lines[0]), len(lines[1])) && lines[0][i] == lines[1][i] {
		i++
	}
	if stuck[0] == "" && stuck[1] == "" && slices.Equal(lines[0], lines[1]) {
		return ""
	}
	var d strings.Builder
	fmt.Fprintf(&d, "both: %s\n", strings.Join(lines[0][:i], "\n      "))
	for k, sys := range []system{a, b} {
		fmt.Fprintf(&d, "%v: %s\n", sys, strings.Join(append(lines[k][i:min(i+3, len(lines[k]))], stuck[k]), "\n      "))
	}
	return d.String()
}
