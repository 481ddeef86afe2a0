package kafkahttp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

const (
	// redriveFor bounds a redrive. It also ends when its reader leaves: what was sent by then
	// is committed, and the next one goes on there.
	redriveFor = 30 * time.Second

	// redriveLimit is how many dead letters a redrive sends, unless the order says another
	// number up to mostRedriven.
	redriveLimit = 1000
	mostRedriven = 100_000
)

// redrive sends dead letters of a consumer again, or says what that would do.
func (h *handler) redrive(ctx context.Context, o *order) (answer, error) {
	cfg, err := o.redriven()
	if err != nil {
		return answer{}, err
	}
	if !o.DryRun && !o.Confirm {
		return answer{}, bad("confirm is missing: a redrive cannot be undone; dryRun says what it would do")
	}
	ctx, cancel := context.WithTimeout(ctx, redriveFor)
	defer cancel()
	report, err := h.source.Redrive(ctx, cfg)
	late := errors.Is(err, context.DeadlineExceeded) && errors.Is(ctx.Err(), context.DeadlineExceeded) && report.Read > 0
	if err != nil && !late {
		return answer{}, redriveRefusal(report, err, o.DryRun)
	}
	a := answer{Report: &report, More: late || report.Sent >= cfg.Limit}
	if o.DryRun {
		a.Would = strings.Join(wouldRedrive(report, late, a.More), " ")
		a.ask = h.askRedrive(o, cfg, &a)
		return a, nil
	}
	a.Done = strings.Join(redrove(o.Consumer, report, late, a.More), " ")
	return a, nil
}

// redriven returns what a redrive is to do.
func (o *order) redriven() (cfg kafka.RedriveConfig, err error) {
	cfg = kafka.RedriveConfig{JobName: o.Consumer, To: o.To, Limit: redriveLimit, DryRun: o.DryRun}
	switch {
	case o.To != "" && o.To != kafka.ToSource:
		return cfg, bad("to is %s, and must be %s, or empty for the first retry topic", strconv.Quote(o.To), kafka.ToSource)
	case o.Time != "" && o.From != "time":
		return cfg, bad("time is %s, and has an effect with from time only", strconv.Quote(o.Time))
	case o.Limit != nil && (*o.Limit < 1 || *o.Limit > mostRedriven):
		return cfg, bad("limit is %d, and must be from 1 to %d", *o.Limit, mostRedriven)
	case o.PerSecond != nil && (!(*o.PerSecond >= 0) || math.IsInf(*o.PerSecond, 0)):
		return cfg, bad("perSecond is %v, and must be a number from 0, which is no bound", *o.PerSecond)
	}
	if o.Limit != nil {
		cfg.Limit = *o.Limit
	}
	if o.PerSecond != nil {
		cfg.Rate = *o.PerSecond
	}
	switch o.From {
	case "", "last":
	case "start":
		cfg.FromStart = true
	case "time":
		cfg.Since, err = o.at()
	default:
		err = bad("from is %s, and must be last, start or time", strconv.Quote(o.From))
	}
	return cfg, err
}

// wouldRedrive says what a dry run has found.
func wouldRedrive(r kafka.RedriveReport, late, more bool) (says []string) {
	if r.Sent == 0 {
		says = append(says, "A run would send nothing: "+readLetters(r)+".")
	} else {
		says = append(says, fmt.Sprintf("A run would send %s: %s.", plural(r.Sent, "dead letter"), readLetters(r)))
	}
	switch {
	case late:
		says = append(says, fmt.Sprintf("There are more, which could not be read in %d seconds.", redriveFor/time.Second))
	case more:
		says = append(says, "There may be more: a run ends at its limit, and the next one goes on there.")
	}
	return append(says, kept(r)...)
}

// redrove says what a run has done.
func redrove(name string, r kafka.RedriveReport, late, more bool) (says []string) {
	says = append(says, fmt.Sprintf("%s of %s sent again: %s.", plural(r.Sent, "dead letter"), name, readLetters(r)))
	const again = `redrive again from "where the last redrive ended".`
	switch {
	case late:
		says = append(says, fmt.Sprintf("The run has ended after %d seconds. To go on, ", redriveFor/time.Second)+again)
	case more:
		says = append(says, "The run has ended at its limit. To go on, "+again)
	}
	return append(says, kept(r)...)
}

func readLetters(r kafka.RedriveReport) string {
	if r.Read == 0 {
		return "there are no dead letters to read"
	}
	return number(int64(r.Read)) + " read"
}

// kept says why dead letters that were read are not sent.
func kept(r kafka.RedriveReport) (says []string) {
	for _, k := range []struct {
		n   int
		why string
	}{
		{r.Worn, "put back three times already, and not sent"},
		{r.Foreign, "of another group or topic, and not sent"},
		{r.Unmatched, "left out, and not sent"},
	} {
		if k.n > 0 {
			says = append(says, fmt.Sprintf("%s: %s.", number(int64(k.n)), k.why))
		}
	}
	return says
}

// redriveRefusal says in a sentence why a redrive was refused or has ended early, and what
// helps.
func redriveRefusal(r kafka.RedriveReport, err error, dry bool) error {
	says := ""
	switch {
	case errors.Is(err, kafka.ErrRedriving):
		says = "another redrive of the consumer runs; wait for its end, which is an event"
	case errors.Is(err, kafka.ErrNoPosition):
		says = "it is not known where the last redrive has ended: there was none, or the brokers have forgotten it; begin with the oldest dead letter, or at a time"
	case errors.Is(err, kafka.ErrUnsupported):
		says = "the driver cannot read positions of groups, which a redrive needs"
	case r.Sent > 0 && !dry:
		says = fmt.Sprintf("the redrive has failed after %s; to go on, redrive again from \"where the last redrive ended\"", plural(r.Sent, "dead letter"))
	case errors.Is(err, context.DeadlineExceeded) && r.Read == 0:
		says = fmt.Sprintf("no dead letter could be read in %d seconds, and nothing was sent", redriveFor/time.Second)
	default:
		return err
	}
	return &refusal{says, err}
}

// askRedrive is the page that asks whether dead letters are to be sent again.
func (h *handler) askRedrive(o *order, cfg kafka.RedriveConfig, a *answer) *ask {
	r := a.Report
	p := &ask{Title: "Redrive the dead letters of " + o.Consumer, Consumer: o.Consumer, Action: "redrive", Says: a.Would}
	for _, f := range []struct {
		name string
		n    int
	}{{"Read", r.Read}, {"Would be sent", r.Sent}, {"Worn", r.Worn}, {"Foreign", r.Foreign}, {"Unmatched", r.Unmatched}} {
		p.Facts = append(p.Facts, fact{f.name, number(int64(f.n))})
	}
	to := "the first retry topic, which only this group reads"
	if cfg.To == kafka.ToSource {
		to = "the topic in which each record first lay; every group that reads it gets the record again"
	}
	p.Notes = append(p.Notes, "They go to "+to+".")
	if r.Sent == 0 {
		return p
	}
	rate := "without a bound"
	if cfg.Rate > 0 {
		rate = "at most " + perSecond(cfg.Rate)
	}
	p.Notes = append(p.Notes, fmt.Sprintf("A run sends at most %s, %s, for at most %d seconds. It ends when you leave or reload its page. The brokers keep how far it came, and the next run goes on there.",
		plural(cfg.Limit, "dead letter"), rate, redriveFor/time.Second))
	switch {
	case cfg.FromStart:
		p.Notes = append(p.Notes, "It begins with the oldest dead letter: what an earlier redrive has sent is sent once more.")
	case !cfg.Since.IsZero():
		p.Notes = append(p.Notes, "It begins at "+absolute(cfg.Since)+": what an earlier redrive has sent since then is sent once more.")
	}
	p.Fields = []field{{"consumer", o.Consumer}, {"from", o.From}, {"time", o.Time}, {"to", o.To}, {"limit", strconv.Itoa(cfg.Limit)}, {"perSecond", strconv.FormatFloat(cfg.Rate, 'f', -1, 64)}}
	p.Confirm = "The records are handled once more. This cannot be undone."
	p.Button = "Redrive " + o.Consumer
	return p
}
