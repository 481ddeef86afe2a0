package kafkahttp

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aarontianqx/gopkg/kafka"
)

// A page is what the template shows.
type page struct {
	Title    string
	Live     string // the address of its updates; empty for a page that has none
	Up       bool   // it is one directory below the others
	Post     bool   // it answers a POST
	Controls bool
	Now      time.Time // zero in an update, whose relative times the script fills in
	Note     string    // what was done
	Problem  string    // why a request was refused
	Back     string    // the address of the consumer that it was about
	BackTo   string    // its name

	Overview bool
	Counts   []count
	Rows     []*row
	Hidden   int    // rows that the page leaves out
	One      *row   // the consumer of a consumer's page
	Group    *group // the group of a page of lags
	Ask      *ask   // what a page asks before an action is carried out

	Producers []kafka.ProducerStatus
	Events    []line
}

// A count is the number of consumers with one level.
type count struct {
	Level level
	N     int
	What  string
}

// A row is a consumer.
type row struct {
	*kafka.ConsumerStatus
	Level    level
	Whys     []why
	Lag      int64 // -1 if it is not known
	Worst    *part // the partition to look at first; nil if none stands still
	Standing int   // partitions that stand still
	Oldest   time.Time
	Graph    graph
	Parts    []*part
	Hidden   int // partitions that the page leaves out
}

// A part is a partition.
type part struct {
	*kafka.PartitionStatus
	Consumer string
	Level    level
	Whys     []why
	Forwards bool
	Held     bool
	IsOld    bool // Oldest is a record that no retry topic lets wait
	OwnPause bool // it is paused by itself, whether its consumer is or not
}

// Name returns topic/number.
func (p *part) Name() string {
	return kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}.String()
}

// Fails reports whether a record can be resolved.
func (p *part) Fails() bool { return fails(p.PartitionStatus) }

// goesOn reports whether records of the partition are handled although one fails: with
// OrderByKey or OrderNone, unless all that are left wait.
func (p *part) goesOn() bool {
	waits := p.Waiting > 0 && p.Undone == p.Waiting+p.BackingOff
	return p.Undone > 0 && p.Fails() && !waits && p.StuckSince.IsZero() && p.FetchError == nil
}

// maxParts is how many partitions a consumer's page shows, the most urgent ones.
const maxParts = 1000

func newRow(s *kafka.ConsumerStatus, now time.Time, lags []int64) *row {
	r := &row{ConsumerStatus: s, Whys: whyConsumer(s), Lag: totalLag(s), Graph: newGraph(lags)}
	for _, w := range r.Whys {
		r.Level = max(r.Level, w.Level)
	}
	for i := range s.Partitions {
		p := &part{PartitionStatus: &s.Partitions[i], Consumer: s.JobName, Forwards: s.Forwards, Held: s.Held != nil}
		p.OwnPause = slices.Contains(s.PausedPartitions, kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition})
		p.Whys = whyPartition(p.PartitionStatus, s.Held != nil, now)
		for _, w := range p.Whys {
			p.Level = max(p.Level, w.Level)
		}
		if p.Level >= levelWarn && !p.goesOn() {
			r.Standing++
		}
		if p.Level >= levelWarn && (r.Worst == nil || p.Level > r.Worst.Level || p.Level == r.Worst.Level && p.Lag > r.Worst.Lag) {
			r.Worst = p
		}
		p.IsOld = !p.Oldest.IsZero() && !p.Oldest.After(now)
		if p.IsOld && (r.Oldest.IsZero() || p.Oldest.Before(r.Oldest)) {
			r.Oldest = p.Oldest
		}
		r.Level = max(r.Level, p.Level)
		r.Parts = append(r.Parts, p)
	}
	return r
}

// WorstFirst reports whether the worst partition is more urgent than every reason that
// concerns the whole consumer.
func (r *row) WorstFirst() bool {
	return r.Worst != nil && (len(r.Whys) == 0 || r.Worst.Level > r.Whys[0].Level)
}

// Link returns the address of the consumer's page.
func (r *row) Link() string { return "consumer?" + url.Values{"name": {r.JobName}}.Encode() }

// JSON returns the address of the consumer's status.
func (r *row) JSON() string { return "consumers/" + url.PathEscape(r.JobName) }

// LagLink returns the address of the lag of the consumer's group.
func (r *row) LagLink() string { return "lag?" + url.Values{"name": {r.JobName}}.Encode() }

// ID returns the id of the consumer's element. A name can have blanks, and an id cannot.
func (r *row) ID() string { return "c-" + url.QueryEscape(r.JobName) }

// TopicList returns the topics for people.
func (r *row) TopicList() string {
	return strings.Join(r.Topics[:min(5, len(r.Topics))], ", ") + more(len(r.Topics)-5)
}

// ExamplePartition names a partition.
func (r *row) ExamplePartition() string {
	switch {
	case len(r.Parts) > 0:
		return r.Parts[0].Name()
	case len(r.Topics) > 0:
		return kafka.TopicPartition{Topic: r.Topics[0]}.String()
	}
	return "topic/0"
}

// CanSeek reports whether Manager.Seek would move the consumer now.
func (r *row) CanSeek() bool {
	switch r.State {
	case kafka.StateRunning:
		return len(r.Partitions) > 0
	case kafka.StateOff, kafka.StateDisabled:
		return true
	}
	return false
}

// Label says in a word how the consumer is.
func (r *row) Label() string {
	switch {
	case r.State != kafka.StateRunning:
		return r.State.String()
	case r.Held != nil:
		return "held"
	case r.Paused:
		return "paused"
	case r.Standing > 0:
		return "stands still"
	case r.Level >= levelWarn:
		return "in trouble"
	case len(r.Partitions) == 0:
		return "standby"
	}
	return "running"
}

// maxRows is how many consumers the overview shows, the most urgent ones.
const maxRows = 1500

// overviewPage shows all consumers, the most urgent first.
func (h *handler) overviewPage() *page {
	now := time.Now()
	p := &page{Title: "Kafka", Live: "live", Controls: h.controls, Now: now, Overview: true, Producers: h.source.Producers()}
	all := h.source.Consumers()
	counts := map[level]int{}
	for i := range all {
		s := h.seen(all[i])
		r := newRow(&s, now, h.history.of(s.JobName))
		counts[r.Level]++
		p.Rows = append(p.Rows, r)
	}
	slices.SortStableFunc(p.Rows, func(a, b *row) int { return cmp.Compare(b.Level, a.Level) })
	if p.Hidden = max(0, len(p.Rows)-maxRows); p.Hidden > 0 {
		p.Rows = p.Rows[:maxRows]
	}
	for _, c := range []count{
		{levelBad, 0, "waiting for an operator"}, {levelWarn, 0, "in trouble"}, {levelBusy, 0, "busy"}, {levelOff, 0, "off or on standby"}, {levelWell, 0, "well"},
	} {
		if c.N = counts[c.Level]; c.N > 0 {
			p.Counts = append(p.Counts, c)
		}
	}
	p.Events = lines(h.events.latest(30, ""))
	return p
}

// onePage shows one consumer with its partitions.
func (h *handler) onePage(name string) (*page, error) {
	s, err := h.source.Consumer(name)
	if err != nil {
		return nil, err
	}
	s = h.seen(s)
	now := time.Now()
	r := newRow(&s, now, h.history.of(s.JobName))
	slices.SortStableFunc(r.Parts, func(a, b *part) int { return cmp.Compare(max(b.Level, levelBusy), max(a.Level, levelBusy)) })
	if r.Hidden = max(0, len(r.Parts)-maxParts); r.Hidden > 0 {
		r.Parts = r.Parts[:maxParts]
	}
	return &page{
		Title: s.JobName, Live: "live?" + url.Values{"name": {s.JobName}}.Encode(), Controls: h.controls, Now: now, One: r,
		Events: lines(h.events.latest(50, s.JobName)),
	}, nil
}

func (h *handler) overview(w http.ResponseWriter, r *http.Request) {
	p := h.overviewPage()
	p.Note = h.notices.get(r.URL.Query().Get("note")) // FormValue would read a body, without a bound
	h.writePage(w, http.StatusOK, p)
}

func (h *handler) consumerPage(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	p, err := h.onePage(query.Get("name"))
	if err != nil {
		h.writePage(w, http.StatusNotFound, &page{Title: "Not found", Problem: text(err)})
		return
	}
	p.Note = h.notices.get(query.Get("note"))
	h.writePage(w, http.StatusOK, p)
}

// fragment renders the part of a page that is kept up to date, without relative times: they
// would make it another one each time, though nothing has changed.
func (h *handler) fragment(name string) ([]byte, bool) {
	p, err := h.pageOf(name)
	if err != nil {
		return nil, false
	}
	p.Now = time.Time{}
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "main", p); err != nil {
		return nil, false
	}
	return clean(b.Bytes()), true
}

// pageOf returns the page of a consumer, or the overview for "".
func (h *handler) pageOf(name string) (*page, error) {
	if name == "" {
		return h.overviewPage(), nil
	}
	return h.onePage(name)
}

// clean replaces control characters, which names could have, also those that turn the
// direction of a text, and what is not UTF-8.
func clean(html []byte) []byte {
	control := func(r rune) bool {
		return r < ' ' && r != '\n' || r >= 0x7f && (r == 0x7f || unicode.Is(unicode.Bidi_Control, r))
	}
	if !utf8.Valid(html) {
		html = bytes.ToValidUTF8(html, []byte("\ufffd"))
	}
	if !bytes.ContainsFunc(html, control) {
		return html
	}
	return bytes.Map(func(r rune) rune {
		if control(r) {
			return unicode.ReplacementChar
		}
		return r
	}, html)
}

func (h *handler) writePage(w http.ResponseWriter, code int, p *page) {
	var b bytes.Buffer
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pages.ExecuteTemplate(&b, "page", p); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintln(w, "the page cannot be made")
		return
	}
	w.WriteHeader(code)
	_, _ = w.Write(clean(b.Bytes()))
}

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"number":   number,
	"since":    since,
	"until":    until,
	"absolute": absolute,
	"machine":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"clock":    clock,
	"plural":   plural,
	"letters":  func(n int64) string { return plural(int(n), "dead letter") },
	"rate":     perSecond,
	"list":     func(all ...any) []any { return all },
}).ParseFS(assets, "assets/*.html"))

// number groups digits, and shows what is not known as a dash.
func number(n int64) string {
	if n < 0 {
		return "–"
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// perSecond says a rate.
func perSecond(rate float64) string {
	return strconv.FormatFloat(rate, 'g', 6, 64) + " records per second"
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(int64(n)) + " " + thing + "s"
}

// clock returns the time of day.
func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

func absolute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// since and until say in words how long ago or ahead a time is, or nothing if now is zero.
// The script says the same.
func since(t, now time.Time) string {
	if now.IsZero() {
		return ""
	}
	return span(now.Sub(t)) + " ago"
}

func until(t, now time.Time) string {
	switch {
	case now.IsZero():
		return ""
	case !t.After(now):
		return "now"
	}
	return "in " + span(t.Sub(now))
}

func span(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}

// A graph is the lag over the last minutes, drawn in a box of 120 by 24.
type graph struct {
	Lines   []string // the points of polylines, one per stretch in which the lag is known
	Label   string   // empty if there is nothing to draw
	Caption string   // the same in short, for those who see the lines
}

func newGraph(lags []int64) graph {
	first := slices.IndexFunc(lags, func(n int64) bool { return n >= 0 })
	if first < 0 || len(lags)-first < 6 { // a minute
		return graph{}
	}
	most := slices.Max(lags)
	g := graph{Label: fmt.Sprintf("Lag over the last %d min: from %s to %s, at most %s.",
		max(len(lags)*int(historyEvery/time.Second)/60, 1), number(lags[first]), known(lags[len(lags)-1]), number(most))}
	g.Caption = fmt.Sprintf("lag, last %d min, at most %s", historyKept*int(historyEvery/time.Second)/60, number(most))
	var line []string
	for i := first; i <= len(lags); i++ {
		if i < len(lags) && lags[i] >= 0 {
			x := 120 * (historyKept - len(lags) + i) / (historyKept - 1)
			line = append(line, fmt.Sprintf("%d,%d", x, 23-22*lags[i]/max(most, 1)))
		} else if len(line) > 0 {
			g.Lines, line = append(g.Lines, strings.Join(line, " ")), nil
		}
	}
	return g
}

// known is number for a text that screen readers read out.
func known(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return number(n)
}
