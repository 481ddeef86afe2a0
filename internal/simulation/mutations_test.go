package simulation

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A mutation is a bug that is planted into a copy of a file of package kafka:
// old, which must be there exactly once, becomes new.
type mutation struct {
	name, file, old, new string
}

var mutations = []mutation{
	{"skip on error", "partition.go", "if err := handle(ctx, p.one[:]); err != nil {\n\t\t\treturn err\n\t\t}", "handle(ctx, p.one[:])"},
	{"skip on error, values", "partition.go", "if err := handle(ctx, r.Value); err != nil {\n\t\t\treturn err\n\t\t}", "handle(ctx, r.Value)"},
	{"skip on error, batches", "partition.go", "if err := handle(ctx, ms); err != nil {\n\t\treturn err\n\t}", "handle(ctx, ms)"},
	{"panic counts as success", "partition.go", "err = &PanicError{Value: v, Stack: debug.Stack()}", "_ = debug.Stack\n\t\t\tp.finish(p.i + 1)"},
	{"goexit counts as success", "partition.go", "return errGoexit", "p.finish(p.i + 1)\n\t\treturn nil"},
	{"position of what was handed out", "partition.go", "if p.s.job.cfg.AutoCommit {\n\t\treturn max(", "if true {\n\t\treturn max("},
	{"commit one too far", "committer.go", "Mark{Claim: p.claim, Offset: pos}", "Mark{Claim: p.claim, Offset: pos + 1}"},
	{"commit the handled offset", "committer.go", "Mark{Claim: p.claim, Offset: pos}", "Mark{Claim: p.claim, Offset: max(pos-1, p.claim.Start)}"},
	{"mark cleared by a failed commit", "committer.go", "case !isBad:\n", "case !isBad || err != nil:\n"},
	{"no commit after a failed one", "committer.go", "\t\t\tearliest = time.Now().Add(interval)\n\t\t\tby(earliest)\n", ""},
	{"no commit at revoke", "session.go", "\ts.committer.commit(ctx)\n\ts.end(parts)", "\ts.end(parts)"},
	{"revoke acknowledged before the drain", "session.go", "stuck := awaitWorkers(drained, parts)", "stuck := awaitWorkers(drained, nil)"},
	{"revoke does not cancel", "session.go", "cause = ErrRevoked", "cause = nil"},
	{"revoke does not halt", "session.go", "\tfor _, p := range parts {\n\t\tp.halt(cause)\n\t}\n\tdrained", "\t_ = cause\n\tdrained"},
	{"loss does not halt", "session.go", "\t\tp.halt(ErrPartitionLost)\n", "\t\tp.cancel(nil)\n"},
	{"loss does not cancel", "session.go", "p.halt(ErrPartitionLost)", "p.halt(nil)"},
	{"hole blocks the commit", "partition.go", "p.tracker.skip(next)", "_ = next"},
	{"paused for ever", "flow.go", "p.s.driver.Resume(p.claim)", "_ = pause"},
	{"never paused", "flow.go", "p.s.driver.Pause(p.claim)", "_ = pause"},
	{"new claim beside a straggler", "partition.go", "if before.awaitClear(p.haltC) {", "if true {"},
	{"worker not woken", "partition.go", "\tif waiting {\n\t\tp.wake <- struct{}{}\n\t}\n", "\t_ = waiting\n"},
	{"backoff of a record never grows", "failure.go", "wait = p.s.job.cfg.Backoff.wait(n)", "wait = p.s.job.cfg.Backoff.wait(1)"},
	{"no backoff of a record", "failure.go", "timer := time.NewTimer(wait)", "timer := time.NewTimer(0 * wait)"},
	{"backoff of a record blind to halt", "failure.go", "\tcase <-p.haltC:\n\t\treturn false\n\t}\n}", "\t}\n}"},
	{"failing record never disables", "failure.go", "if n >= job.cfg.MaxConsecutiveErrors {", "if false {"},
	{"record left behind after a failure", "failure.go", "case <-timer.C:\n\t\treturn true", "case <-timer.C:\n\t\tp.finish(p.i + 1)\n\t\treturn true"},
	{"no backoff of a restart", "job.go", "timer := time.NewTimer(wait)", "timer := time.NewTimer(0 * wait)"},
	{"backoff of a restart blind to the switch", "job.go", "\t\tcase <-timer.C:\n\t\t\treturn\n\t\tcase <-changed:\n", "\t\tcase <-timer.C:\n\t\t\treturn\n"},
	{"switch change lost while draining", "job.go", "\t\t\tw.ons++\n", ""},
	{"switch-off does not halt", "job.go", "if !on && s != nil {\n\t\ts.halt(ErrSwitchedOff)\n\t}", "_ = s"},
	{"off and on again is one wish", "job.go", "\t\t\tw.on = false\n\t\t\tw.offs++\n", "\t\t\tw.on = false\n"},
	{"stop waits for nobody", "job.go", "\tj.awaitWorkers()\n", ""},
	{"callback called twice", "callbacks.go", "\ts.callback(s.m, s.err)\n", "\ts.callback(s.m, s.err)\n\ts.callback(s.m, s.err)\n"},
	{"callback dropped when the producer is closed", "producer.go", "\t\ts.end(err)\n\t\treturn\n\t}\n\ts.message", "\t\treturn\n\t}\n\ts.message"},
	{"callbacks dropped after a Goexit", "callbacks.go", "\t\tif !ended {\n\t\t\tgo c.run()\n\t\t}\n", "\t\t_ = ended\n"},
	{"sent before it is acknowledged", "producer.go", "case err := <-s.acked:\n", "case err := <-s.acked:\n\t\terr = nil\n"},
}

var outcomePattern = regexp.MustCompile(`failed after (\d+) tests: (.*)|(panic: .*|fatal error: .*|flaky test)|traceback \((violated .*)\)`)

// try runs the simulation with m planted and says what killed it, or "".
func (m mutation) try(t *testing.T, checks string) (killer, after string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../kafka", m.file))
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), m.old); n != 1 {
		t.Errorf("%s: %q is in %s %d times, want once", m.name, m.old, m.file, n)
		return "", ""
	}
	dir := t.TempDir()
	mutant := filepath.Join(dir, m.file)
	overlay, _ := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	if err := os.WriteFile(mutant, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-run", "^TestSimulation$",
		"-timeout", "60s", ".", "-args", "-rapid.nofailfile", "-rapid.shrinktime=1ns", "-rapid.checks="+checks)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") {
		t.Errorf("%s does not compile:\n%s", m.name, out)
		return "", ""
	}
	if err == nil {
		return "", ""
	}
	for _, found := range outcomePattern.FindAllStringSubmatch(string(out), -1) {
		if found[1] != "" {
			return found[2], found[1]
		}
		killer = found[3] + found[4]
	}
	return killer, "?"
}

// TestPlantedBugs shows that the simulation would notice. KAFKA_MUTATIONS=all
// plants every bug of the table, one run of the simulation each.
func TestPlantedBugs(t *testing.T) {
	sample := mutations[:3]
	if os.Getenv("KAFKA_MUTATIONS") == "all" {
		sample = mutations
	} else {
		t.Logf("a sample of %d of %d: each takes some seconds; KAFKA_MUTATIONS=all plants them all", len(sample), len(mutations))
	}
	only := os.Getenv("KAFKA_MUTATION") // a part of a name
	for _, m := range sample {
		if !strings.Contains(m.name, only) {
			continue
		}
		killer, after := m.try(t, "3000")
		if killer == "" {
			t.Errorf("| %s | survived |", m.name)
			continue
		}
		t.Logf("| %s | %s | %s |", m.name, killer, after)
	}
}
