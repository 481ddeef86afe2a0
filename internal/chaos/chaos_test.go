//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// TestMain makes this binary one of the processes of a run.
func TestMain(m *testing.M) {
	runChild()
	os.Exit(m.Run())
}

// TestFaultsArePickedByName holds that a misspelt fault on the command line is an
// error, and no run without faults.
func TestFaultsArePickedByName(t *testing.T) {
	names := func(fs []fault) (names []string) {
		for _, f := range fs {
			names = append(names, f.name)
		}
		return names
	}
	fs, err := pickFaults(words("a zombie, kill -9 a consumer"))
	assert.NoError(t, err)
	assert.Equal(t, []string{"freeze a consumer: a zombie", "kill -9 a consumer, start another"}, names(fs))
	_, err = pickFaults(words("earthquake"))
	assert.Error(t, err, "an unknown fault was accepted")
	fs, err = pickFaults(nil)
	assert.NoError(t, err)
	assert.Equal(t, names(faults()), names(fs), "without a choice")
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
	require.NoError(t, readEvents(r, func(e event) { got = append(got, e) }))
	require.Len(t, got, 2)
	assert.Equal(t, []event{
		{Kind: isStart, At: got[0].At, ID: 7, Partition: 2, Offset: 3, Key: "k", Value: "p/s/1@5"},
		{Kind: isEnd, At: got[1].At, ID: 7, OK: true},
	}, got)
	assert.LessOrEqual(t, got[0].At, got[1].At)
	assert.Equal(t, time.Unix(0, 5), sentAt(got[0].Value), "when the value was sent")
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
			Driver: os.Getenv("GOPKG_DRIVER"), // CI gives the drivers turns
			Seed:   seed, Partitions: 6, Consumers: 3, Producers: 2, Rate: 200, Keys: 40,
			Session: 6 * time.Second, Work: time.Millisecond, Calm: time.Second,
		},
		version: kafkacluster.DefaultVersion, faults: "kill -9 the leader, kill -9 a consumer, cut all", controls: true,
	}
	passed, err := o.run(t.Context(), &out, slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	var trials []string
	for lines := json.NewDecoder(&out); ; {
		var r report
		if lines.Decode(&r) != nil {
			break
		}
		trials = append(trials, r.Trial)
		t.Logf("%+v", r)
	}
	assert.True(t, passed)
	assert.Equal(t, []string{"main", "without-idempotence", "skip-on-error"}, trials)
}
