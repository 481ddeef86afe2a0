package kafkahttp

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// An action is something that an operator does to a consumer.
type action func(h *handler, ctx context.Context, o *order) (answer, error)

// actions are all of them, by the last element of their path.
var actions = map[string]action{
	"switch":   says((*handler).switchConsumer),
	"resolve":  says((*handler).resolve),
	"end-hold": says((*handler).endHold),
	"pause":    says((*handler).pause),
	"resume":   says((*handler).resume),
	"rate":     says((*handler).setRate),
	"seek":     (*handler).seek,
	"redrive":  (*handler).redrive,
}

// An answer says what an action has done, or would do.
type answer struct {
	Done       string      `json:"done,omitempty"`
	Would      string      `json:"would,omitempty"` // of a dry run
	Partitions []movedJSON `json:"partitions,omitempty"`

	Report *kafka.RedriveReport `json:"report,omitempty"`
	More   bool                 `json:"more,omitempty"` // a redrive has ended at its limit or its time

	ask *ask // what a page asks before the action is carried out
}

// says makes an action of what only says what was done.
func says(do func(h *handler, ctx context.Context, o *order) (done string, err error)) action {
	return func(h *handler, ctx context.Context, o *order) (answer, error) {
		done, err := do(h, ctx, o)
		return answer{Done: done}, err
	}
}

// An order is the body of an action.
type order struct {
	Consumer  string `json:"consumer"`
	On        *bool  `json:"on"`
	Partition string `json:"partition"`
	Offset    *int64 `json:"offset"`
	Do        string `json:"do"`
	Confirm   bool   `json:"confirm"`

	PerSecond *float64 `json:"perSecond"`

	To     string `json:"to"`
	From   string `json:"from"`
	Time   string `json:"time"`
	Limit  *int   `json:"limit"`
	DryRun bool   `json:"dryRun"`
}

// errBad is wrapped by the error of an order that makes no sense.
var errBad = errors.New("bad request")

func bad(format string, args ...any) error { return &badOrder{fmt.Errorf(format, args...)} }

// A badOrder is an errBad: its text is what makes no sense.
type badOrder struct{ error }

func (*badOrder) Is(target error) bool { return target == errBad }
func (b *badOrder) Unwrap() error      { return b.error }

// errAtWork is the answer while the handler is at the record.
var errAtWork = errors.New("the handler is at the record, so that nothing was done; ask again when that call has failed")

func (h *handler) switchConsumer(_ context.Context, o *order) (string, error) {
	if o.On == nil {
		return "", bad("on is missing: true or false")
	}
	if err := h.source.SetConsumerSwitch(o.Consumer, *o.On); err != nil {
		return "", err
	}
	if *o.On {
		return fmt.Sprintf("%s is switched on in this process.", o.Consumer), nil
	}
	return fmt.Sprintf("%s is switched off in this process: running handlers are cancelled, and it leaves its group.", o.Consumer), nil
}

// patience is how long an action waits for a handler that is at the record.
const patience = 5 * time.Second

func (h *handler) resolve(ctx context.Context, o *order) (string, error) {
	var p kafka.TopicPartition
	var do kafka.Failure
	if err := p.UnmarshalText([]byte(o.Partition)); err != nil {
		return "", bad("%v", err)
	}
	if err := do.UnmarshalText([]byte(o.Do)); err != nil {
		return "", bad("do: %v", err)
	}
	switch {
	case o.Offset == nil:
		return "", bad("offset is missing")
	case do != kafka.FailureKeep && do != kafka.FailureSkip && do != kafka.FailureDeadLetter:
		return "", bad("do is none of keep, skip, dead letter")
	case do != kafka.FailureKeep && !o.Confirm:
		return "", bad("confirm is missing: what is asked for cannot be undone")
	}
	record := fmt.Sprintf("the record of %v at offset %d", p, *o.Offset)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := h.source.Resolve(ctx, o.Consumer, p, *o.Offset, do)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", errAtWork
	}
	trying := "Trying " + record + " now."
	if s, e := h.source.Consumer(o.Consumer); e == nil && s.Held != nil {
		trying = "The consumer is held: " + record + " is tried when the hold ends."
	} else if e == nil && (s.Paused || slices.Contains(s.PausedPartitions, p)) {
		trying = "It is paused: " + record + " is tried when it is resumed."
	}
	return map[kafka.Failure]string{
		kafka.FailureKeep:       trying,
		kafka.FailureSkip:       "Skipping " + record + ".",
		kafka.FailureDeadLetter: "Sending " + record + " to the dead letters; an event says when it is there.",
	}[do], err
}

func (h *handler) endHold(_ context.Context, o *order) (string, error) {
	if err := h.source.EndHold(o.Consumer); err != nil {
		return "", err
	}
	return fmt.Sprintf("The hold of %s is over: its records are handed out again.", o.Consumer), nil
}

// pause pauses a consumer, or the partition that is named.
func (h *handler) pause(_ context.Context, o *order) (string, error) {
	what, ps, err := o.paused()
	if err != nil {
		return "", err
	}
	if err := h.source.Pause(o.Consumer, ps...); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is paused in this process: its records wait, and it stays in its group.", what), nil
}

// resume ends what pause has begun.
func (h *handler) resume(_ context.Context, o *order) (string, error) {
	what, ps, err := o.paused()
	if err != nil {
		return "", err
	}
	if err := h.source.Resume(o.Consumer, ps...); err != nil {
		return "", err
	}
	if len(ps) > 0 {
		if s, err := h.source.Consumer(o.Consumer); err == nil && s.Paused {
			return fmt.Sprintf("%s is no longer paused by itself, and waits until its consumer is resumed.", what), nil
		}
	}
	return fmt.Sprintf("%s is resumed.", what), nil
}

// paused returns what is to be paused or resumed.
func (o *order) paused() (what string, ps []kafka.TopicPartition, err error) {
	if o.Partition == "" {
		return o.Consumer, nil, nil
	}
	var p kafka.TopicPartition
	if err := p.UnmarshalText([]byte(o.Partition)); err != nil {
		return "", nil, bad("%v", err)
	}
	return p.String(), []kafka.TopicPartition{p}, nil
}

func (h *handler) setRate(_ context.Context, o *order) (string, error) {
	if o.PerSecond == nil {
		return "", bad("perSecond is missing: records per second, or 0 for no bound")
	}
	if !(*o.PerSecond >= 0) || math.IsInf(*o.PerSecond, 0) { // so that NaN is refused, too
		return "", bad("perSecond is negative, infinite or not a number")
	}
	if err := h.source.SetRate(o.Consumer, *o.PerSecond); err != nil {
		return "", err
	}
	if *o.PerSecond == 0 {
		return fmt.Sprintf("%s hands out records without a bound.", o.Consumer), nil
	}
	return fmt.Sprintf("%s hands out at most %s in this process.", o.Consumer, perSecond(*o.PerSecond)), nil
}

// act carries out an action.
func (h *handler) act(w http.ResponseWriter, r *http.Request) {
	do := actions[r.PathValue("action")]
	if do == nil {
		h.refuse(w, r, http.StatusNotFound, "there is no such action")
		return
	}
	o, err := readOrder(w, r)
	if err != nil {
		h.refuse(w, r, codeOf(err), text(err))
		return
	}
	c := http.NewResponseController(w) // the timeouts of http.Server would cut an action that takes long
	_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})
	a, err := do(h, r.Context(), o)
	switch {
	case err != nil && h.hideErrors:
		h.refuseOf(w, r, o.Consumer, codeOf(err), withoutCause(err))
	case err != nil:
		h.refuseOf(w, r, o.Consumer, codeOf(err), text(err))
	case !isForm(r):
		writeJSON(w, http.StatusOK, a)
	case a.ask != nil:
		h.writePage(w, http.StatusOK, &page{Title: a.ask.Title, Up: true, Ask: a.ask})
	default:
		to := "../consumer?" + url.Values{"name": {o.Consumer}, "note": {h.notices.add(a.Done)}}.Encode()
		w.Header().Set("Location", to) // relative to the request, whatever prefix was stripped
		w.WriteHeader(http.StatusSeeOther)
	}
}

// A refusal is a sentence of this package's about an error that can have text of another
// program's in it.
type refusal struct {
	says  string
	cause error
}

func (r *refusal) Error() string { return r.says + ": " + r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

// withoutCause returns the text of err without text of another program's.
func withoutCause(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return printable(r.says)
	}
	for _, known := range []error{errBad, errAtWork, kafka.ErrUnknownConsumer, kafka.ErrNotFailing, kafka.ErrClosed} {
		if errors.Is(err, known) {
			return text(err)
		}
	}
	if _, ok := errors.AsType[*kafka.FieldError](err); ok {
		return text(err)
	}
	return "the manager has refused that"
}

func codeOf(err error) int {
	var large *http.MaxBytesError
	var field *kafka.FieldError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errMedia):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, errBad), errors.As(err, &field):
		return http.StatusBadRequest
	case errors.Is(err, kafka.ErrUnknownConsumer):
		return http.StatusNotFound
	case errors.Is(err, kafka.ErrUnsupported):
		return http.StatusNotImplemented
	}
	return http.StatusConflict
}

// maxBody is the longest body of an action.
const maxBody = 8 << 10

var errMedia = errors.New("the body is neither application/json nor application/x-www-form-urlencoded")

func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

func isForm(r *http.Request) bool { return mediaType(r) == "application/x-www-form-urlencoded" }

func readOrder(w http.ResponseWriter, r *http.Request) (*order, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	o := new(order)
	switch {
	case isForm(r):
		if err := r.ParseForm(); err != nil {
			return nil, bad("%w", err)
		}
		if err := o.fromForm(r.PostForm); err != nil {
			return nil, err
		}
	case mediaType(r) == "application/json":
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(o); err != nil {
			return nil, bad("%w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return nil, bad("something follows the JSON object")
		}
	default:
		return nil, errMedia
	}
	if o.Consumer == "" {
		return nil, bad("consumer is missing")
	}
	return o, nil
}

func (o *order) fromForm(f url.Values) error {
	for name, values := range f {
		value := values[0]
		var err error
		switch name {
		case "consumer":
			o.Consumer = value
		case "partition":
			o.Partition = value
		case "do":
			o.Do = value
		case "on":
			o.On = new(bool)
			*o.On, err = strconv.ParseBool(value)
		case "confirm":
			o.Confirm, err = strconv.ParseBool(value)
		case "to":
			o.To = value
		case "from":
			o.From = value
		case "limit":
			o.Limit = new(int)
			*o.Limit, err = strconv.Atoi(value)
		case "time":
			o.Time = value
		case "dryRun":
			o.DryRun, err = strconv.ParseBool(value)
		case "perSecond":
			o.PerSecond = new(float64)
			*o.PerSecond, err = strconv.ParseFloat(value, 64)
		case "offset":
			if value == "" { // a field that was left empty
				continue
			}
			o.Offset = new(int64)
			*o.Offset, err = strconv.ParseInt(value, 10, 64)
		default:
			err = errors.New("there is no such field")
		}
		if err != nil {
			return bad("%s: %v", printable(name), err)
		}
	}
	return nil
}

// backTo returns the address of a consumer's page, for the answer to an action.
func backTo(consumer string) string {
	return "../consumer?" + url.Values{"name": {consumer}}.Encode()
}

// refuse answers that a request is not carried out: as JSON, or as a page for a browser.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	h.refuseOf(w, r, "", code, why)
}

// refuseOf is refuse for an action on a consumer, to which the page leads back.
func (h *handler) refuseOf(w http.ResponseWriter, r *http.Request, consumer string, code int, why string) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		p := &page{Title: http.StatusText(code), Up: strings.Count(r.URL.Path, "/") > 1, Post: r.Method == http.MethodPost, Problem: why}
		if consumer != "" && code != http.StatusNotFound {
			p.Back, p.BackTo = backTo(consumer), consumer
		}
		h.writePage(w, code, p)
		return
	}
	writeJSON(w, code, problem{why})
}

// Notices are what was done, for the page that a form's answer leads to. The address has a
// number only, so that no link can put words on the page.
type notices struct {
	mu    sync.Mutex
	texts map[string]notice
	order []string
}

// A notice is what was done, and when.
type notice struct {
	text string
	at   time.Time
}

// A notice is forgotten after noticeFor, so that a bookmark or a late reload does not repeat
// it, and when there are keptNotices younger ones.
const (
	keptNotices = 100
	noticeFor   = time.Minute
)

func (n *notices) add(done string) (id string) {
	id = rand.Text()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.texts == nil {
		n.texts = make(map[string]notice)
	}
	n.texts[id] = notice{done, time.Now()}
	if n.order = append(n.order, id); len(n.order) > keptNotices {
		delete(n.texts, n.order[0])
		n.order = n.order[1:]
	}
	return id
}

func (n *notices) get(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one := n.texts[id]; time.Since(one.at) < noticeFor {
		return one.text
	}
	return ""
}
