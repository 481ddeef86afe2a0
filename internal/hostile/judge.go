//go:build unix

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const mib = 1 << 20

// An outcome is what came of a row.
type outcome struct {
	row    row
	report *report
	died   string // why there is no report
	asked  float64
	took   time.Duration
	peak   int64 // resident bytes
}

// wrong returns what is not as the row wants it.
func (o outcome) wrong() (wrong []string) {
	no := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	limit := cmp.Or(o.row.resident, 1024)
	if o.peak > limit*mib {
		no("%d MiB resident, at most %d", o.peak/mib, limit)
	}
	if o.died != "" {
		no("the process died: %s", o.died)
		return wrong
	}
	if most := cmp.Or(o.row.rate, 50); o.asked > most {
		no("%.0f requests per second, at most %.0f", o.asked, most)
	}
	r := o.report
	wrong = append(wrong, r.innocent()...)
	if want := o.row.consumer; want != "" && !shows(r.Victim.Reasons, want) {
		no("the consumer's reasons name no %s: %q", want, r.Victim.Reasons)
	}
	if o.row.noTrouble && len(r.Victim.Reasons) > 0 {
		no("the consumer has a reason: %q", r.Victim.Reasons)
	}
	if want := o.row.producer; want != "" && !shows(r.Victim.Sends, want) {
		no("the producer's errors name no %s: %q", want, r.Victim.Sends)
	}
	if want := o.row.state; want != "" && !slices.Contains(strings.Split(want, "|"), r.Victim.State) {
		no("the consumer is %s, not %s: %q", r.Victim.State, want, r.Victim.Reasons)
	}
	for partition, n := range o.row.handled {
		if got := r.Victim.Handled[partition]; got < n {
			no("%d of %d records of %s handled", got, n, partition)
		}
	}
	if o.row.cpu > 0 && r.CPU > o.row.cpu {
		no("%v of CPU, at most %v", r.CPU, o.row.cpu)
	}
	if most := cmp.Or(o.row.log, 200_000); r.LogBytes > most {
		no("%d bytes of log, at most %d", r.LogBytes, most)
	}
	if r.StopErr != "" || r.Stop > stopWithin {
		no("the shutdown took %v: %s", r.Stop, r.StopErr)
	}
	if len(r.Left) > 0 {
		no("%d goroutines left: %q", len(r.Left), r.Left[:min(5, len(r.Left))])
	}
	if o.row.wants != nil {
		wrong = append(wrong, o.row.wants(r)...)
	}
	return wrong
}

// longestSilence is how long the innocent consumer may go without a message on a
// busy machine.
const longestSilence = 2 * time.Second

func (r *report) innocent() (wrong []string) {
	in := &r.Innocent
	if in.Failed > 0 || in.Missing > 0 || in.State != "running" || in.Troubles != "" || in.LongestSilence > longestSilence {
		wrong = append(wrong, fmt.Sprintf("the innocent were harmed: %d sent, %d failed, %d missing, silent for %v, %s, %s",
			in.Sent, in.Failed, in.Missing, in.LongestSilence.Round(time.Millisecond), in.State, in.Troubles))
	}
	return wrong
}

// shows reports whether a text contains one of the alternatives.
func shows(texts []string, want string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		return slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return strings.Contains(text, w) })
	})
}

// line is the row of the table in Markdown.
func (o outcome) line() string {
	verdict, reason := "passed", ""
	if wrong := o.wrong(); len(wrong) > 0 {
		verdict, reason = "**failed**", strings.Join(wrong, "; ")
	} else {
		reason = o.shown()
	}
	stop, innocent, state := "", "", ""
	if r := o.report; r != nil {
		stop = fmt.Sprintf("%.1f", r.Stop.Seconds())
		innocent = fmt.Sprint(r.Innocent.Handled)
		state = r.Victim.State
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %.1f | %s | %s | %s | %.0f | %s |", o.row.id, o.row.what, verdict,
		o.peak/mib, o.asked, state, innocent, stop, o.took.Seconds(), cell(reason))
}

// shown returns the reason that a user sees.
func (o outcome) shown() string {
	v := &o.report.Victim
	text := ""
	if len(v.Reasons) > 0 {
		text = v.Reasons[len(v.Reasons)-1]
	} else if len(v.Sends) > 0 {
		text = "producer: " + v.Sends[len(v.Sends)-1]
	}
	for _, want := range strings.Split(o.row.consumer, "|") {
		for _, reason := range v.Reasons {
			if want != "" && strings.Contains(reason, want) {
				text = reason
			}
		}
	}
	if v.Runs > time.Second*3 {
		text += fmt.Sprintf(" (ran after %.1f s, with %d goroutines)", v.Runs.Seconds(), v.Routines)
	}
	return text
}

const maxCell = 300

func cell(s string) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
	if r := []rune(s); len(r) > maxCell {
		s = string(r[:maxCell]) + "…"
	}
	return s
}

const heading = `| row | attack | result | MiB resident | requests/s | state | innocent handled | shutdown s | seconds | the reason shown |
|---|---|---|---|---|---|---|---|---|---|`
