//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// TestMain makes this binary one of the processes of a run.
func TestMain(m *testing.M) {
	runChild()
	os.Exit(m.Run())
}

// TestFaultsArePickedByName holds that a slip on the command line is no run
// without faults.
func TestFaultsArePickedByName(t *testing.T) {
	fs, err := pickFaults(words("a zombie, kill -9 a consumer"))
	if err != nil || len(fs) != 2 || fs[0].name != "freeze a consumer: a zombie" || fs[1].name != "kill -9 a consumer, start another" {
		t.Errorf("picked %d faults, %v", len(fs), err)
	}
	if _, err := pickFaults(words("earthquake")); err == nil {
		t.Error("an unknown fault was accepted")
	}
	if fs, err := pickFaults(nil); err != nil || len(fs) != len(faults()) {
		t.Errorf("without a choice %d faults, %v; want all %d", len(fs), err, len(faults()))
	}
}

// TestEventsAreReadAsTheyWereWritten sends events through a pipe, as processes do.
func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		events := &eventLog{w: w}
		events.tell(event{Kind: isStart, ID: 7, Partition: 2, Offset: 3, Key: "k", Value: "p/s/1@5"})
		events.tell(event{Kind: isEnd, ID: 7, OK: true})
		w.Close()
	}()
	var got []event
	if err := readEvents(r, func(e event) { got = append(got, e) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != 7 || got[0].Offset != 3 || got[0].Key != "k" || !got[1].OK || got[0].At > got[1].At {
		t.Errorf("read %+v", got)
	}
	if at := sentAt(got[0].Value); !at.Equal(time.Unix(0, 5)) {
		t.Errorf("the value was sent at %v", at)
	}
}

// TestChaos is a short run on a real cluster, with both controls.
func TestChaos(t *testing.T) {
	if os.Getenv("GOPKG_CHAOS") == "" {
		t.Skip("skipped: three brokers for a minute and a half; GOPKG_CHAOS=1 runs it, go run ./internal/chaos the whole table")
	}
	seed := uint64(time.Now().UnixNano() % 1e6)
	t.Logf("seed %d; go run ./internal/chaos -seed %[1]d runs the whole table with it", seed)
	var out bytes.Buffer
	o := options{
		settings: settings{
			Seed: seed, Partitions: 6, Consumers: 3, Producers: 2, Rate: 200, Keys: 40,
			Session: 6 * time.Second, Work: time.Millisecond, Calm: time.Second,
		},
		version: kafkacluster.DefaultVersion, faults: "kill -9 the leader, kill -9 a consumer, cut all", controls: true,
	}
	passed, err := o.run(t.Context(), &out, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	var trials []string
	for lines := json.NewDecoder(&out); ; {
		var r report
		if lines.Decode(&r) != nil {
			break
		}
		trials = append(trials, r.Trial)
		t.Logf("%+v", r)
	}
	if !passed || !slices.Equal(trials, []string{"main", "without-idempotence", "skip-on-error"}) {
		t.Errorf("passed: %v, trials %q", passed, trials)
	}
}
