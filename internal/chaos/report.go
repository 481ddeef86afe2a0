//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/internal/judge"
)

// A report is the line of JSON that a trial ends with. Times are in seconds, sizes
// in MiB.
type report struct {
	Trial       string   `json:"trial"`
	Passed      bool     `json:"passed"`
	Why         []string `json:"why,omitempty"` // not
	Seed        uint64   `json:"seed"`
	Command     string   `json:"command"`
	Kafka       string   `json:"kafka"`
	Sarama      string   `json:"sarama"`
	Go          string   `json:"go"`
	Driver      string   `json:"driver"`
	Cooperative bool     `json:"cooperative"`
	Protocol    string   `json:"protocol"`
	Rate        int      `json:"rate"`
	Took        float64  `json:"took"`

	Attempted  int `json:"attempted"`
	Acked      int `json:"acked"`
	Failed     int `json:"failed"`     // said not to be in the log
	Unknown    int `json:"unknown"`    // may be in the log
	Unanswered int `json:"unanswered"` // by a process that was killed

	InLog      int `json:"in_log"`
	LostWrites int `json:"lost_writes"` // acknowledged, and not in the log
	Duplicated int `json:"duplicated"`  // in the log

	Handled     int `json:"handled"`
	Lost        int `json:"lost"`   // acknowledged, never handled
	Unseen      int `json:"unseen"` // in the log, never handled
	Redelivered int `json:"redelivered"`

	ReorderedInPartition int `json:"reordered_in_partition"`
	ReorderedInKey       int `json:"reordered_in_key"`
	HandledAfterLoss     int `json:"handled_after_loss"`
	HandedOutTooLate     int `json:"handed_out_too_late"` // after the next owner of the partition began
	Commits              int `json:"commits"`
	CommitsMovedBack     int `json:"commits_moved_back"`
	CommitsBeyondDone    int `json:"commits_beyond_done"`

	Violations map[string]int `json:"violations"` // by invariant, the above included
	Faults     []impact       `json:"faults"`
	Minutes    []minute       `json:"minutes,omitempty"` // of a soak
	States     map[string]int `json:"states"`            // how often a consumer came into each
	SendErrors map[string]int `json:"send_errors,omitempty"`

	PeakRSS        float64 `json:"peak_rss"` // of one process
	PeakGoroutines int     `json:"peak_goroutines"`
}

// An impact is what one fault did.
type impact struct {
	Fault              string  `json:"fault"`
	Lasted             float64 `json:"lasted"`
	Recovered          float64 `json:"recovered"`            // after it was healed; -1 if not in time
	FirstHandledMedian float64 `json:"first_handled_median"` // by partition, after it was healed
	FirstHandledMax    float64 `json:"first_handled_max"`
	LongestWithoutAck  float64 `json:"longest_without_ack"`
	Redelivered        int     `json:"redelivered"`
	Joins              int     `json:"joins"`
	PartitionsLost     int     `json:"partitions_lost"`
	Starts             int     `json:"starts"`
}

func (r *report) sendError(text string) {
	const most = 20
	if len(r.SendErrors) < most || r.SendErrors[text] > 0 {
		r.SendErrors[text]++
	}
}

// judged reads everything back and judges the trial.
func (t *trial) judged(ctx context.Context, command, version string) (*report, error) {
	v := verdict{events: t.history.sorted(), group: t.group, topic: t.topic}
	var err error
	if v.records, err = readBack(ctx, t.bench.Cluster, t.topic); err != nil {
		return nil, err
	}
	if v.commits, err = readCommits(ctx, t.bench.Cluster, t.group, t.topic); err != nil {
		return nil, err
	}
	r := &report{
		Trial: t.name, Seed: t.Seed, Command: command, Kafka: version, Sarama: moduleVersion("github.com/IBM/sarama"),
		Go: runtime.Version(), Driver: t.Driver, Cooperative: t.Cooperative, Protocol: t.Protocol.String(), Rate: t.Rate, Took: seconds(time.Since(t.begun)),
		Violations: map[string]int{}, States: map[string]int{}, SendErrors: map[string]int{},
	}
	v.fates(r)
	r.ReorderedInKey = v.reorderedKeys()
	r.HandedOutTooLate = v.handedOutTooLate()
	violations := v.violations()
	for _, x := range violations {
		r.Violations[x.Invariant]++
	}
	r.named()
	for i, h := range t.faults {
		until := time.Now()
		if i+1 < len(t.faults) {
			until = t.faults[i+1].began
		}
		r.Faults = append(r.Faults, v.impact(h, until))
	}
	if t.name == "soak" {
		r.Minutes = v.minutes(t.begun)
	}
	r.resources(v.events)
	r.decide(t.Session)
	tellViolations(t.log, violations)
	return r, nil
}

// named gives the counts their names of RELIABILITY.md.
func (r *report) named() {
	r.ReorderedInPartition = r.Violations["reordered"] + r.Violations["handled-twice-or-reordered"] +
		r.Violations["skipped"] + r.Violations["failed-record-left-behind"]
	r.HandledAfterLoss = r.Violations["handled-after-revoke-or-loss"] + r.Violations["handled-without-owning"]
	r.CommitsMovedBack = r.Violations["commit-moved-back"]
	r.CommitsBeyondDone = r.Violations["commit-beyond-done"]
}

func (r *report) resources(events []event) {
	for _, e := range events {
		switch e.Kind {
		case isStat:
			r.PeakRSS = max(r.PeakRSS, mebibytes(e.RSS))
			r.PeakGoroutines = max(r.PeakGoroutines, e.Goroutines)
		case isState:
			r.States[e.Text]++
		}
	}
}

// decide says whether the trial passes, and why not.
func (r *report) decide(session time.Duration) {
	must := func(ok bool, format string, args ...any) {
		if !ok {
			r.Why = append(r.Why, fmt.Sprintf(format, args...))
		}
	}
	must(r.Acked > 0 && r.Handled > 0, "nothing was sent or handled")
	must(r.Lost == 0, "%d lost", r.Lost)
	must(r.LostWrites == 0, "%d acknowledged and not in the log", r.LostWrites)
	must(r.Unseen == 0, "%d unseen", r.Unseen)
	must(r.Duplicated == 0, "%d duplicated", r.Duplicated)
	must(r.HandedOutTooLate == 0, "%d handed out after the next owner began", r.HandedOutTooLate)
	must(r.ReorderedInKey == 0, "%d reordered within a key", r.ReorderedInKey)
	must(r.Failed+r.Unknown == 0, "%d sends failed, %d unknown", r.Failed, r.Unknown)
	must(r.States["disabled"] == 0, "a consumer was disabled")
	for name, n := range r.Violations {
		must(false, "%d %s", n, name)
	}
	for _, f := range r.Faults {
		must(f.Recovered >= 0, "no recovery from %q", f.Fault)
		must(f.Recovered <= seconds(session+recoveryLimit), "recovery from %q took %v s", f.Fault, f.Recovered)
	}
	const flat = 1.2
	must(grown(r.Minutes) <= flat, "resident memory grew %.2f-fold", grown(r.Minutes))
	r.Passed = len(r.Why) == 0
}

// tellViolations logs some of each kind.
func tellViolations(log *slog.Logger, violations []judge.Violation) {
	const some = 5
	told := map[string]int{}
	for _, v := range violations {
		if told[v.Invariant]++; told[v.Invariant] <= some {
			log.Error("violation", "invariant", v.Invariant, "details", v.Details)
		}
	}
}

// moduleVersion returns the version of a module that this program is built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// commandLine returns how to repeat this run.
func commandLine() string {
	return strings.Join(append([]string{"go run ./internal/chaos"}, os.Args[1:]...), " ")
}

func contains(s, part string) bool { return strings.Contains(s, part) }
