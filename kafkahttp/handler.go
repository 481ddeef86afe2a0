package kafkahttp

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// An Option changes a handler that New makes.
type Option struct{ apply func(*handler) }

// WithControls lets the page and its actions change what runs: switch consumers on and
// off, resolve failing records, end holds. Without it every request but GET and HEAD is
// refused with 403, and the page has no buttons.
func WithControls() Option { return Option{func(h *handler) { h.controls = true }} }

// WithoutErrors leaves the texts of errors out, which can quote data: of the page, of
// JSON, of events and of the probes' answers. That there is an error still shows.
func WithoutErrors() Option { return Option{func(h *handler) { h.hideErrors = true }} }

// A source is what a handler asks of a manager.
type source interface {
	Consumers() []kafka.ConsumerStatus
	Consumer(jobName string) (kafka.ConsumerStatus, error)
	Producers() []kafka.ProducerStatus
	Ready() error
	Healthy() error
	Subscribe(f func(kafka.Event)) (stop func())

	SetConsumerSwitch(jobName string, on bool) error
	Resolve(ctx context.Context, jobName string, p kafka.TopicPartition, offset int64, do kafka.Failure) error
	EndHold(jobName string) error
}

// A handler answers requests about one manager.
type handler struct {
	source     source
	controls   bool
	hideErrors bool

	events  *events
	history *history
	live    *live
	notices notices
	inner   http.Handler
}

// New returns a handler that shows m, as the package comment describes. A nil m, or one
// that was not made by kafka.New, has no consumers.
func New(m *kafka.Manager, opts ...Option) http.Handler { return newHandler(m, opts...) }

func newHandler(s source, opts ...Option) *handler {
	h := &handler{source: s}
	for _, o := range opts {
		if o.apply != nil {
			o.apply(h)
		}
	}
	h.events = newEvents(time.Now())
	h.history = newHistory(s.Consumers)
	h.live = newLive(h.fragment)
	h.inner = h.routes()
	s.Subscribe(h.event)
	h.history.begin()
	return h
}

// event keeps an event. The last one ends the history.
func (h *handler) event(e kafka.Event) {
	if h.hideErrors {
		e = withoutErrors(e)
	}
	h.events.add(e)
	if _, ended := e.(kafka.ShutdownEnded); ended {
		h.history.end()
	}
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.overview)
	mux.HandleFunc("GET /consumer", h.consumerPage)
	mux.HandleFunc("GET /live", h.serveLive)
	mux.HandleFunc("GET /style.css", asset("style.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /live.js", asset("live.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /consumers", h.consumers)
	mux.HandleFunc("GET /consumers/{name}", h.consumer)
	mux.HandleFunc("GET /producers", h.producers)
	mux.HandleFunc("GET /events", h.serveEvents)
	mux.HandleFunc("GET /ready", h.probe(source.Ready, "ready"))
	mux.HandleFunc("GET /healthy", h.probe(source.Healthy, "healthy"))
	mux.HandleFunc("POST /actions/{action}", h.act)
	return http.NewCrossOriginProtection().Handler(mux)
}

// policy lets the page load its own style and script, and nothing else from anywhere.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !h.controls {
		h.refuse(w, r, http.StatusForbidden, "this page was made without controls")
		return
	}
	h.inner.ServeHTTP(w, r)
}

//go:embed assets
var assets embed.FS

func asset(name, contentType string) http.HandlerFunc {
	body, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
	}
}

// probe answers 200, or 503 with the reason.
func (h *handler) probe(ask func(source) error, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		err := ask(h.source)
		switch {
		case err == nil:
			fmt.Fprintln(w, name)
		case h.hideErrors:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not "+name)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, text(err))
		}
	}
}
