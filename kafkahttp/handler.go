package kafkahttp

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// An Option changes a handler that New makes.
type Option struct{ apply func(*handler) }

// WithControls lets the page and its actions change what runs: switch consumers on and
// off, pause and resume them, change their rates, resolve failing records, end holds, move
// their positions, send their dead letters again.
// Without it every request but GET and HEAD is refused with 403, and the page has no buttons.
func WithControls() Option { return Option{func(h *handler) { h.controls = true }} }

// WithoutErrors replaces the texts of errors, which can quote data, on the page, in JSON, in
// events and in the probes' answers. That there is an error still shows.
func WithoutErrors() Option { return Option{func(h *handler) { h.hideErrors = true }} }

// A source is what a handler asks of a manager.
type source interface {
	Consumers() []kafka.ConsumerStatus
	Consumer(jobName string) (kafka.ConsumerStatus, error)
	Producers() []kafka.ProducerStatus
	Lag(ctx context.Context, jobName string) ([]kafka.PartitionLag, error)
	Ready() error
	Healthy() error
	Subscribe(f func(kafka.Event)) (stop func())

	SetConsumerSwitch(jobName string, on bool) error
	Resolve(ctx context.Context, jobName string, p kafka.TopicPartition, offset int64, do kafka.Failure) error
	EndHold(jobName string) error
	Pause(jobName string, ps ...kafka.TopicPartition) error
	Resume(jobName string, ps ...kafka.TopicPartition) error
	SetRate(jobName string, perSecond float64) error
	PreviewSeek(ctx context.Context, jobName string, to kafka.Position, ps ...kafka.TopicPartition) ([]kafka.SeekPreview, error)
	Redrive(ctx context.Context, cfg kafka.RedriveConfig) (kafka.RedriveReport, error)
	Seek(ctx context.Context, jobName string, to kafka.Position, ps ...kafka.TopicPartition) error
}

// A handler answers requests about one manager.
type handler struct {
	source     source
	controls   bool
	hideErrors bool

	events  *events
	history *history
	lags    *lags
	live    *live
	notices notices
	inner   http.Handler

	slow  time.Duration // how long a reader of a stream may keep a write waiting
	once  sync.Once
	ended chan struct{} // closed when the manager has shut down
}

// New returns a handler that shows m, as the package comment describes. A nil m, or one
// that was not made by kafka.New, has no consumers.
func New(m *kafka.Manager, opts ...Option) http.Handler { return newHandler(m, opts...) }

func newHandler(s source, opts ...Option) *handler {
	h := &handler{source: s, slow: slowReader, ended: make(chan struct{})}
	for _, o := range opts {
		if o.apply != nil {
			o.apply(h)
		}
	}
	h.events = newEvents(time.Now())
	h.history = newHistory(s.Consumers)
	h.lags = newLags(s.Lag)
	h.live = newLive(h.fragment)
	h.inner = h.routes()
	s.Subscribe(h.event)
	// A manager that has shut down sends no ShutdownEnded, nor does one that kafka.New did not make.
	if err := s.Ready(); errors.Is(err, kafka.ErrClosed) || err != nil && len(s.Consumers()) == 0 {
		h.end()
	}
	h.history.begin()
	return h
}

// end ends the history and the streams.
func (h *handler) end() {
	h.once.Do(func() {
		h.history.end()
		close(h.ended)
	})
}

// hasEnded reports whether the manager has shut down.
func (h *handler) hasEnded() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// event keeps an event. The last one ends what follows the manager.
func (h *handler) event(e kafka.Event) {
	if h.hideErrors {
		e = withoutErrors(e)
	}
	h.events.add(e)
	if _, ended := e.(kafka.ShutdownEnded); ended {
		h.end()
	}
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.overview)
	mux.HandleFunc("GET /consumer", h.consumerPage)
	mux.HandleFunc("GET /lag", h.lagPage)
	mux.HandleFunc("GET /live", h.serveLive)
	mux.HandleFunc("GET /style.css", asset("style.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", asset("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /live.js", asset("live.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /consumers", h.consumers)
	mux.HandleFunc("GET /consumers/{name}", h.consumer)
	mux.HandleFunc("GET /consumers/{name}/lag", h.lag)
	mux.HandleFunc("GET /producers", h.producers)
	mux.HandleFunc("GET /events", h.serveEvents)
	mux.HandleFunc("GET /ready", h.probe(source.Ready, "ready"))
	mux.HandleFunc("GET /healthy", h.probe(source.Healthy, "healthy"))
	mux.HandleFunc("POST /actions/{action}", h.act)
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, http.StatusForbidden, "this request comes from another site, or a proxy has changed its Host")
	}))
	return protection.Handler(mux)
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
	if !isClean(r.URL.EscapedPath()) {
		h.refuse(w, r, http.StatusNotFound, "there is no such page")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !h.controls {
		h.refuse(w, r, http.StatusForbidden, "this page was made without controls")
		return
	}
	h.inner.ServeHTTP(w, r)
}

// isClean reports whether http.ServeMux would leave a path as it is. It redirects all others
// to a path that lacks the prefix which the program has stripped.
func isClean(p string) bool {
	clean := path.Clean(p)
	if clean != "/" && strings.HasSuffix(p, "/") {
		clean += "/"
	}
	return strings.HasPrefix(p, "/") && clean == p
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
