package memory_test

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestConsumeCommitClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b")
		r := run(t, b)
		send(t, b, 0, "c")
		synctest.Wait()
		c := r.claim(0)
		equal(t, "values", r.got(c), []string{"a", "b", "c"})
		if err := r.Commit(t.Context(), mark(c, 3)); err != nil {
			t.Fatal(err)
		}
		equal(t, "committed", b.Committed("g", "t", 0), 3)

		begin := time.Now()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-r.done
		equal(t, "Run", r.err, error(nil))
		equal(t, "time to close", time.Since(begin), 0)
		equal(t, "log", r.takeLog(), []string{"assign t/0", "revoke t/0"})
		equal(t, "members", len(b.Members("g")), 0)
	})
}
