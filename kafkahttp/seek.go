package kafkahttp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

const (
	// previewFor bounds the question what a seek would do.
	previewFor = 10 * time.Second

	// seekFor bounds a seek. It goes on without the reader: to end it half-way helps no
	// operator.
	seekFor = 30 * time.Second
)

// A movedJSON is what a seek does in one partition. Again and Skipped are upper bounds; they
// and From are -1 if they are not known.
type movedJSON struct {
	Partition kafka.TopicPartition `json:"partition"`
	From      int64                `json:"from"`
	To        int64                `json:"to"`
	Again     int64                `json:"again"`
	Skipped   int64                `json:"skipped"`
}

// seek moves a consumer, or says what that would do.
func (h *handler) seek(ctx context.Context, o *order) (answer, error) {
	to, ps, err := o.position()
	if err != nil {
		return answer{}, err
	}
	if !o.DryRun && !o.Confirm {
		return answer{}, bad("confirm is missing: a seek cannot be undone; dryRun says what it would do")
	}
	moved, err := h.previewSeek(ctx, o.Consumer, to, ps)
	if err != nil {
		return answer{}, seekRefusal(err, 0)
	}
	a := answer{Partitions: moved}
	if o.DryRun {
		a.Would = fmt.Sprintf("%s would be moved to %s in %s. %s Nothing was moved.", o.Consumer, placeOf(to), plural(len(moved), "partition"), countMoved(moved))
		a.ask = h.askSeek(o, to, moved)
		return a, nil
	}
	named := make([]kafka.TopicPartition, len(moved)) // those of the answer, whatever a rebalance brings meanwhile
	for i, m := range moved {
		named[i] = m.Partition
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seekFor)
	defer cancel()
	if err := h.source.Seek(ctx, o.Consumer, to, named...); err != nil {
		return answer{}, seekRefusal(err, len(moved))
	}
	a.Done = fmt.Sprintf("%s is moved to %s in %s. %s", o.Consumer, placeOf(to), plural(len(moved), "partition"), countMoved(moved))
	return a, nil
}

func (h *handler) previewSeek(ctx context.Context, name string, to kafka.Position, ps []kafka.TopicPartition) ([]movedJSON, error) {
	ctx, cancel := context.WithTimeout(ctx, previewFor)
	defer cancel()
	all, err := h.source.PreviewSeek(ctx, name, to, ps...)
	if err != nil {
		return nil, err
	}
	moved := make([]movedJSON, len(all))
	for i, p := range all {
		moved[i] = movedJSON{p.TopicPartition, p.From, p.To, p.Again(), p.Skipped()}
	}
	return moved, nil
}

// position returns where a seek is to go, and in which partitions.
func (o *order) position() (to kafka.Position, ps []kafka.TopicPartition, err error) {
	if _, ps, err = o.paused(); err != nil {
		return to, nil, err
	}
	switch {
	case o.Offset != nil && o.To != "offset":
		return to, nil, bad("offset is %d, and has an effect with to offset only", *o.Offset)
	case o.Time != "" && o.To != "time":
		return to, nil, bad("time is %s, and has an effect with to time only", strconv.Quote(o.Time))
	}
	switch o.To {
	case "beginning":
		return kafka.AtBeginning(), ps, nil
	case "end":
		return kafka.AtEnd(), ps, nil
	case "time":
		t, err := o.at()
		return kafka.AtTime(t), ps, err
	case "offset":
		switch {
		case o.Offset == nil:
			return to, nil, bad("offset is missing: to offset needs one")
		case *o.Offset < 0:
			return to, nil, bad("offset is %d, and must not be negative", *o.Offset)
		case len(ps) == 0:
			return to, nil, bad("partition is missing: an offset is one of one partition")
		}
		return kafka.AtOffset(*o.Offset), ps, nil
	case "":
		return to, nil, bad("to is missing: offset, time, beginning or end")
	}
	return to, nil, bad("to is %s, and must be offset, time, beginning or end", strconv.Quote(o.To))
}

// at returns the time of an order.
func (o *order) at() (time.Time, error) {
	if o.Time == "" {
		return time.Time{}, bad("time is missing: such as 2026-11-30T02:00:00Z")
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04"} { // the last two are of a browser's field
		if t, err := time.Parse(layout, o.Time); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, bad("time is %s, and must be such as 2026-11-30T02:00:00Z; without a zone it is UTC", strconv.Quote(o.Time))
}

// placeOf names a position.
func placeOf(p kafka.Position) string {
	switch p {
	case kafka.AtBeginning(), kafka.AtEnd():
		return "the " + p.String()
	}
	return p.String()
}

// countMoved says how many records are concerned.
func countMoved(moved []movedJSON) string {
	var again, skipped int64
	unknown := 0
	for _, m := range moved {
		again += max(m.Again, 0)
		skipped += max(m.Skipped, 0)
		if m.From < 0 {
			unknown++
		}
	}
	var says string
	switch {
	case again > 0 && skipped > 0:
		says = fmt.Sprintf("At most %s handled again, and at most %s skipped.", are(again), are(skipped))
	case again > 0:
		says = fmt.Sprintf("At most %s handled again.", are(again))
	case skipped > 0:
		says = fmt.Sprintf("At most %s skipped.", are(skipped))
	case unknown == 0:
		says = "No record is handled again or skipped: it is there already."
	}
	if unknown > 0 {
		says += fmt.Sprintf(" In %s the number is not known.", plural(unknown, "partition"))
	}
	return strings.TrimSpace(says)
}

// are counts records for the subject of a sentence.
func are(n int64) string {
	if n == 1 {
		return "1 record is"
	}
	return number(n) + " records are"
}

// seekRefusal says in a sentence why a seek of so many partitions was refused, and what helps.
func seekRefusal(err error, moved int) error {
	says := ""
	failed, partly := errors.AsType[*kafka.SeekError](err)
	switch {
	case partly:
		var names []kafka.TopicPartition
		for _, f := range failed.Failed {
			names = append(names, f.Partition)
		}
		says = "not moved, or not known to be: " + partitions(names)
		if len(names) < moved {
			says += "; other partitions are moved"
		}
	case errors.Is(err, kafka.ErrNotOwned):
		says = "this process does not own what is to be moved; try again after a rebalance, move it where it is owned, or switch the consumer off in every process and move the whole group"
	case errors.Is(err, kafka.ErrNotRunning):
		says = "the consumer is neither running nor off; wait until it runs, or switch it off"
	case errors.Is(err, kafka.ErrGroupHasMembers):
		says = "the group has members; switch the consumer off in every process, and try again"
	case errors.Is(err, kafka.ErrUnsupported):
		says = "the driver cannot move positions"
	case errors.Is(err, context.DeadlineExceeded):
		says = "the brokers have not answered in time; look at the positions before you try again"
	default:
		return err
	}
	return &refusal{says, err}
}

// An ask is the page between a dry run and what it stands for.
type ask struct {
	Title    string
	Consumer string
	Action   string
	Says     string // what would be done
	Moves    []movedJSON
	Hidden   int // partitions that the page leaves out
	Facts    []fact
	Notes    []string
	Fields   []field
	Confirm  string // what has to be ticked; empty if there is nothing to do
	Button   string
}

// A fact is a number of a dry run.
type fact struct{ Name, Value string }

// A field is one of the order that the page repeats.
type field struct{ Name, Value string }

// Link returns the address of the consumer's page.
func (a *ask) Link() string { return backTo(a.Consumer) }

// askSeek is the page that asks whether a consumer is to be moved.
func (h *handler) askSeek(o *order, to kafka.Position, moved []movedJSON) *ask {
	a := &ask{
		Title: "Move " + o.Consumer + " to " + placeOf(to), Consumer: o.Consumer, Action: "seek", Says: countMoved(moved),
		Fields:  []field{{"consumer", o.Consumer}, {"partition", o.Partition}, {"to", o.To}, {"time", o.Time}},
		Confirm: "Records are handled again or skipped as said above. This cannot be undone.", Button: "Move " + o.Consumer,
	}
	if o.Offset != nil {
		a.Fields = append(a.Fields, field{"offset", strconv.FormatInt(*o.Offset, 10)})
	}
	if !slices.ContainsFunc(moved, func(m movedJSON) bool { return m.Again != 0 || m.Skipped != 0 }) {
		a.Confirm = ""
	}
	if a.Hidden = max(0, len(moved)-maxParts); a.Hidden > 0 {
		moved = moved[:maxParts]
	}
	a.Moves = moved
	a.Notes = append(a.Notes, "Numbers are differences of offsets, as of now. They are upper bounds: compacted records and markers of transactions count, too.")
	s, err := h.source.Consumer(o.Consumer)
	switch {
	case err != nil:
	case s.State == kafka.StateRunning:
		a.Notes = append(a.Notes, "Partitions of other members of the group stay where they are. What runs is finished first.")
	default:
		a.Notes = append(a.Notes, "The whole group is moved. The brokers refuse that while it has members in other processes.")
	}
	if o.Partition == "" && len(s.RetryTopics) > 0 {
		a.Notes = append(a.Notes, "Partitions of retry topics stay where they are: name one to move it.")
	}
	if s.Paused {
		a.Notes = append(a.Notes, "The consumer is paused: records are handed out when it is resumed.")
	}
	return a
}
