package kafkahttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// keptEvents is how many events a handler keeps.
const keptEvents = 500

// An entry is an event as /events shows it.
type entry struct {
	ID    int64       `json:"id"`
	At    time.Time   `json:"at"`
	Type  string      `json:"type"` // such as StateChanged
	Event kafka.Event `json:"event"`

	job string // that the event is about, or ""
}

// Events are the latest events. Readers take them from here by number, so that a slow
// one costs nothing beyond what it is sent at the moment.
type events struct {
	epoch string // distinguishes the numbers of this process from those of another

	mu    sync.Mutex
	ring  [keptEvents]entry
	next  int64         // the number of the next event, from 1
	added chan struct{} // closed and replaced with each
}

func newEvents(now time.Time) *events {
	return &events{epoch: strconv.FormatInt(now.UnixNano(), 36), next: 1, added: make(chan struct{})}
}

func (b *events) add(e kafka.Event) {
	one := entry{Type: reflect.TypeOf(e).Name(), Event: e, job: jobOf(e)}
	b.mu.Lock()
	defer b.mu.Unlock()
	one.ID, one.At = b.next, time.Now()
	b.ring[b.next%keptEvents] = one
	b.next++
	close(b.added)
	b.added = make(chan struct{})
}

// since returns the events from number from on, how many of those asked for are gone, and
// a channel that is closed when there are more.
func (b *events) since(from int64) (all []entry, missed int64, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := max(1, b.next-keptEvents)
	if from < first {
		missed = first - from
		from = first
	}
	for n := from; n < b.next; n++ {
		all = append(all, b.ring[n%keptEvents])
	}
	return all, missed, b.added
}

// latest returns the n latest events of a job, or of all for "", the youngest first.
func (b *events) latest(n int, job string) (all []entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := b.next - 1; i >= max(1, b.next-keptEvents) && len(all) < n; i-- {
		if e := &b.ring[i%keptEvents]; job == "" || e.job == job {
			all = append(all, *e)
		}
	}
	return all
}

// after returns the number that follows a Last-Event-ID. One of another process, or none,
// means all.
func (b *events) after(lastID string) int64 {
	epoch, number, _ := strings.Cut(lastID, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || epoch != b.epoch || n < 0 {
		return 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(n+1, b.next)
}

// upToDate reports whether no event has the number from, or a later one.
func (b *events) upToDate(from int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return from >= b.next
}

// serveEvents answers with a list, or with a stream for a reader that asks for one. The
// stream ends with the manager. A reader that has all by then gets no content, so that it
// does not connect again.
func (h *handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		all, _, _ := h.events.since(1)
		writeJSON(w, http.StatusOK, append([]entry{}, all...))
		return
	}
	last := r.Header.Get("Last-Event-ID")
	from := h.events.after(last)
	resumes := last != "" && from > 1
	if h.hasEnded() && h.events.upToDate(from) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s := h.newStream(w, r)
	for s != nil {
		ended := h.hasEnded() // before what is left is read
		all, missed, more := h.events.since(from)
		if missed > 0 && resumes {
			s.printf("event: missed\ndata: {\"missed\":%d}\n\n", missed)
		}
		resumes = true
		for _, e := range all {
			if data, err := json.Marshal(e); err == nil {
				s.printf("id: %s-%d\nevent: %s\ndata: %s\n\n", h.events.epoch, e.ID, e.Type, data)
			}
			from = e.ID + 1
		}
		if ended {
			s.flush()
			return
		}
		if !s.await(r, more, h.ended) {
			return
		}
	}
}

// A stream writes server-sent events.
type stream struct {
	w    http.ResponseWriter
	c    *http.ResponseController
	slow time.Duration // the longest time that a write may take
	err  error
}

const (
	// slowReader is how long a reader may keep a write waiting. Then it is dropped.
	slowReader = 10 * time.Second
	// quiet is the longest time without a byte: proxies end a connection that is silent,
	// and a reader that has vanished is noticed.
	quiet = 15 * time.Second
)

// newStream begins a stream. It returns nil if the answer is complete: to HEAD, which has no
// body that could end, and where the writer cannot flush, so that nothing would arrive.
func (h *handler) newStream(w http.ResponseWriter, r *http.Request) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil
	}
	s := &stream{w: w, c: http.NewResponseController(w), slow: h.slow}
	_ = s.c.SetReadDeadline(time.Time{}) // http.Server.ReadTimeout would end the stream
	s.limit()
	if s.err = s.c.Flush(); errors.Is(s.err, http.ErrNotSupported) {
		h.refuse(w, r, http.StatusNotImplemented, "this server cannot stream: its http.ResponseWriter has no Flush")
		return nil
	}
	s.printf("retry: 2000\n\n")
	return s
}

// printf writes, unless an earlier write has failed.
func (s *stream) printf(format string, args ...any) {
	if s.err == nil {
		s.limit()
		_, s.err = fmt.Fprintf(s.w, format, args...)
	}
}

// write is printf for bytes that are shared with other readers.
func (s *stream) write(b []byte) {
	if s.err == nil {
		s.limit()
		_, s.err = s.w.Write(b)
	}
}

// limit bounds the next write. A ResponseWriter that knows no deadline has none.
func (s *stream) limit() { _ = s.c.SetWriteDeadline(time.Now().Add(s.slow)) }

// flush sends what was written, and returns false when the reader is gone. Then there is no
// deadline until the next write: with HTTP/2 one that passes ends the stream, although no
// write is under way, and with HTTP/1 the next request of the connection would have it.
func (s *stream) flush() bool {
	if s.err == nil {
		s.err = s.c.Flush()
	}
	_ = s.c.SetWriteDeadline(time.Time{})
	return s.err == nil
}

// await flushes, and waits for more or for the end, or sends a comment when it has been
// quiet. It returns false when the reader is gone.
func (s *stream) await(r *http.Request, more, ended <-chan struct{}) bool {
	if !s.flush() {
		return false
	}
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	select {
	case <-more:
	case <-ended:
	case <-timer.C:
		s.printf(": still here\n\n")
	case <-r.Context().Done():
		return false
	}
	return s.err == nil
}
