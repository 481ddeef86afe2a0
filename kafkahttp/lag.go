package kafkahttp

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

const (
	// lagTimeout bounds one question for the lag of a group.
	lagTimeout = 5 * time.Second

	// lagFor is how long an answer is given again before the brokers are asked again.
	lagFor = 2 * time.Second

	// maxQuestions is how many groups are asked for at a time.
	maxQuestions = 4
)

// errBusy is the answer to a question that found no place in time.
var errBusy = errors.New("the brokers are being asked for the lag of other groups; try again")

// errSlow is the answer to a reader whose question is not answered in time.
var errSlow = errors.New("the lag of the group has not come in time; try again")

// lags asks for the lag of groups. Readers of the same group share a question, and groups
// wait for one of a few places, so that many readers cost the brokers few connections.
type lags struct {
	ask    func(ctx context.Context, jobName string) ([]kafka.PartitionLag, error)
	places chan struct{}

	mu   sync.Mutex
	last map[string]*lagAnswer // by the job name of a registered consumer
}

// A lagAnswer is the answer to one question. It is read after done is closed.
type lagAnswer struct {
	done  chan struct{}
	at    time.Time
	parts []kafka.PartitionLag
	err   error
}

func newLags(ask func(context.Context, string) ([]kafka.PartitionLag, error)) *lags {
	return &lags{ask: ask, places: make(chan struct{}, maxQuestions), last: make(map[string]*lagAnswer)}
}

// of returns the lag of the group of a registered consumer, at most lagFor old. The first
// reader asks, and the others wait for its answer.
func (l *lags) of(ctx context.Context, name string) *lagAnswer {
	a, mine := l.question(name)
	if mine {
		l.answer(context.WithoutCancel(ctx), name, a) // the others wait for it, though this reader may leave
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lagTimeout) // a driver may take its time to close
	defer cancel()
	select {
	case <-a.done:
		return a
	case <-ctx.Done():
		return &lagAnswer{at: time.Now(), err: errSlow}
	}
}

// question returns the latest question for a group, or a new one that the caller has to
// answer if there is none or its answer is too old. It forgets all answers that are.
func (l *lags) question(name string) (a *lagAnswer, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other, a := range l.last { // they can be large
		if a.isDone() && time.Since(a.at) >= lagFor {
			delete(l.last, other)
		}
	}
	if a := l.last[name]; a != nil {
		return a, false
	}
	a = &lagAnswer{done: make(chan struct{})}
	l.last[name] = a
	return a, true
}

// answer asks the brokers.
func (l *lags) answer(ctx context.Context, name string, a *lagAnswer) {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	a.err = errSlow // stays if ask panics
	defer func() {
		a.at = time.Now()
		close(a.done)
	}()
	select {
	case l.places <- struct{}{}:
		defer func() { <-l.places }()
	case <-ctx.Done():
		a.err = errBusy
		return
	}
	a.parts, a.err = l.ask(ctx, name)
}

func (a *lagAnswer) isDone() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// code returns the status of the answer.
func (a *lagAnswer) code() int {
	switch {
	case a.err == nil:
		return http.StatusOK
	case errors.Is(a.err, kafka.ErrUnsupported):
		return http.StatusNotImplemented
	}
	return http.StatusServiceUnavailable
}

// lagOf returns the lag of the group of a consumer, as a reader may see it.
func (h *handler) lagOf(ctx context.Context, s *kafka.ConsumerStatus) lagAnswer {
	a := *h.lags.of(ctx, s.JobName)
	if !h.hideErrors {
		return a
	}
	a.parts = withoutErrors(a.parts)
	if a.err != nil && !errors.Is(a.err, errBusy) && !errors.Is(a.err, errSlow) {
		a.err = hiddenLag{a.err}
	}
	return a
}

// A hiddenLag is an error whose text is not shown. It still says what kind it is.
type hiddenLag struct{ error }

func (hiddenLag) Error() string   { return errHidden.Error() }
func (e hiddenLag) Unwrap() error { return e.error }

// A groupJSON is the lag of a group as JSON.
type groupJSON struct {
	At         time.Time            `json:"at"`
	Lag        int64                `json:"lag"`
	Unknown    int                  `json:"unknown"`
	Partitions []kafka.PartitionLag `json:"partitions"`
	Error      string               `json:"error,omitempty"`
}

// lag answers with the lag of the group of a consumer.
func (h *handler) lag(w http.ResponseWriter, r *http.Request) {
	s, err := h.source.Consumer(r.PathValue("name"))
	if err != nil {
		writeJSON(w, http.StatusNotFound, problem{text(err)})
		return
	}
	a := h.lagOf(r.Context(), &s)
	lag, unknown := sum(a.parts)
	writeJSON(w, a.code(), groupJSON{a.at, lag, unknown, append([]kafka.PartitionLag{}, a.parts...), text(a.err)})
}

// sum returns the lag of all partitions of which it is known, or -1 if it is of none, and of
// how many rows it is not known.
func sum(parts []kafka.PartitionLag) (lag int64, unknown int) {
	lag = -1
	for i := range parts {
		if parts[i].Lag >= 0 {
			lag = max(lag, 0) + parts[i].Lag
		} else {
			unknown++
		}
	}
	return lag, unknown
}

// A group is what the page shows of the group of a consumer.
type group struct {
	*kafka.ConsumerStatus
	At      time.Time
	Lag     int64 // -1 if it is not known in any partition
	Unknown int   // rows without a lag
	Parts   []groupPart
	Hidden  int // rows that the page leaves out
	Err     string
}

// A groupPart is one partition of a group, or a topic of which no partition is known.
type groupPart struct {
	kafka.PartitionLag
	Here bool // this process owns it
	Err  string
}

// Name returns topic/number, or the topic of which no partition is known.
func (p groupPart) Name() string {
	if p.Partition < 0 {
		return p.Topic
	}
	return kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}.String()
}

// Link returns the address of the consumer's page.
func (g *group) Link() string { return "consumer?" + url.Values{"name": {g.JobName}}.Encode() }

// Again returns the address that asks again.
func (g *group) Again() string { return "lag?" + url.Values{"name": {g.JobName}}.Encode() }

// JSON returns the address of the same as JSON.
func (g *group) JSON() string { return "consumers/" + url.PathEscape(g.JobName) + "/lag" }

func newGroup(s *kafka.ConsumerStatus, a lagAnswer) *group {
	g := &group{ConsumerStatus: s, At: a.at, Err: text(a.err)}
	g.Lag, g.Unknown = sum(a.parts)
	here := make(map[kafka.TopicPartition]bool)
	for i := range s.Partitions {
		here[kafka.TopicPartition{Topic: s.Partitions[i].Topic, Partition: s.Partitions[i].Partition}] = true
	}
	for _, p := range a.parts {
		g.Parts = append(g.Parts, groupPart{p, here[kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}], text(p.Err)})
	}
	slices.SortStableFunc(g.Parts, func(a, b groupPart) int {
		switch {
		case a.Err != "" && b.Err == "":
			return -1
		case a.Err == "" && b.Err != "":
			return 1
		}
		return cmp.Compare(b.Lag, a.Lag)
	})
	if g.Hidden = max(0, len(g.Parts)-maxParts); g.Hidden > 0 {
		g.Parts = g.Parts[:maxParts]
	}
	return g
}

// lagPage shows the lag of the group of a consumer. It is not kept up to date: each time it is
// loaded it asks the brokers.
func (h *handler) lagPage(w http.ResponseWriter, r *http.Request) {
	s, err := h.source.Consumer(r.URL.Query().Get("name"))
	if err != nil {
		h.writePage(w, http.StatusNotFound, &page{Title: "Not found", Problem: text(err)})
		return
	}
	a := h.lagOf(r.Context(), &s)
	h.writePage(w, a.code(), &page{Title: "Lag of " + s.JobName, Now: time.Now(), Group: newGroup(&s, a)})
}
