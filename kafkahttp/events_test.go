package kafkahttp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// A reader is the body of a stream. It blocks after a number of bytes, as one that does
// not read does, until its deadline.
type reader struct {
	header http.Header
	room   int // -1 is no bound

	mu       sync.Mutex
	got      strings.Builder
	deadline time.Time
}

func newReader(room int) *reader { return &reader{header: http.Header{}, room: room} }

func (r *reader) Header() http.Header { return r.header }
func (r *reader) WriteHeader(int)     {}
func (r *reader) FlushError() error   { return nil }

func (r *reader) SetWriteDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
	return nil
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room >= 0 && r.got.Len()+len(b) > r.room {
		deadline := r.deadline
		r.mu.Unlock()
		time.Sleep(time.Until(deadline))
		r.mu.Lock()
		return 0, os.ErrDeadlineExceeded
	}
	return r.got.Write(b)
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// ids returns the numbers of the events that r has got, without their epoch.
func (r *reader) ids() (ids []string) {
	for l := range strings.Lines(r.text()) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(l), "id: "); ok {
			_, n, _ := strings.Cut(id, "-")
			ids = append(ids, n)
		}
	}
	return ids
}

// follow serves a stream to r until stop is called.
func follow(h http.Handler, path, lastID string, r *reader) (stop func(), ended chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan struct{})
	req := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	go func() {
		defer close(ended)
		h.ServeHTTP(r, req)
	}()
	return func() { cancel(); <-ended }, ended
}

func commitFailed(n int) kafka.Event { return kafka.CommitFailed{JobName: fmt.Sprint(n)} }

// A reader gets what is kept, then each event, and goes on where it was after a reconnect.
func TestEventsResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTest(t, &fakeSource{})
		h.event(commitFailed(1))
		h.event(commitFailed(2))
		first := newReader(-1)
		stop, _ := follow(h, "/events", "", first)
		synctest.Wait()
		assert.Equal(t, []string{"1", "2"}, first.ids())
		h.event(commitFailed(3))
		synctest.Wait()
		assert.Equal(t, []string{"1", "2", "3"}, first.ids())
		assert.Contains(t, first.text(), "event: CommitFailed\ndata: {\"id\":3,")
		assert.Contains(t, first.text(), "retry: 2000\n\n")
		stop()
		h.event(commitFailed(4))
		last := h.events.epoch + "-3"
		for _, tt := range []struct {
			last string
			want []string
		}{
			{last, []string{"4"}},
			{h.events.epoch + "-4", nil},
			{h.events.epoch + "-99", nil},
			{"other-3", []string{"1", "2", "3", "4"}},
			{"3", []string{"1", "2", "3", "4"}},
			{h.events.epoch + "-x", []string{"1", "2", "3", "4"}},
			{h.events.epoch + "--5", []string{"1", "2", "3", "4"}},
		} {
			r := newReader(-1)
			stop, _ := follow(h, "/events", tt.last, r)
			synctest.Wait()
			assert.Equal(t, tt.want, r.ids(), tt.last)
			assert.NotContains(t, r.text(), "missed")
			stop()
		}
	})
}

// Only the latest events are kept; a reader that comes back late learns how many are gone.
func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTest(t, &fakeSource{})
		for i := range 10 * keptEvents {
			h.event(commitFailed(i))
		}
		var all []map[string]any
		require.NoError(t, json.Unmarshal(get(t, h, "/events").Body.Bytes(), &all))
		assert.Len(t, all, keptEvents)
		assert.Equal(t, float64(9*keptEvents+1), all[0]["id"])
		r := newReader(-1)
		stop, _ := follow(h, "/events", h.events.epoch+"-17", r)
		synctest.Wait()
		stop()
		assert.Contains(t, r.text(), "event: missed\ndata: {\"missed\":4483}\n\n")
		assert.Len(t, r.ids(), keptEvents)
		fresh := newReader(-1)
		stop, _ = follow(h, "/events", "", fresh)
		synctest.Wait()
		stop()
		assert.NotContains(t, fresh.text(), "missed", "it has asked for none")
	})
}

// A reader that does not read is dropped, and the events of others do not wait for it.
func TestSlowReaderIsDropped(t *testing.T) {
	for _, path := range []string{"/events", "/live"} {
		synctest.Test(t, func(t *testing.T) {
			s := everything("x")
			h := newTest(t, s)
			slow, quick := newReader(200), newReader(-1)
			_, dropped := follow(h, path, "", slow)
			stop, _ := follow(h, path, "", quick)
			began := time.Now()
			for i := range 100 {
				h.event(commitFailed(i))
			}
			<-dropped
			assert.Equal(t, slowReader, time.Since(began))
			synctest.Wait()
			assert.Greater(t, len(quick.text()), 1000)
			stop()
			time.Sleep(time.Minute)
			assert.Empty(t, h.live.pages, "no page is rendered without readers")
		})
	}
}

// A reader that has vanished is noticed by the comments of a quiet stream.
func TestQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTest(t, &fakeSource{})
		r := newReader(-1)
		stop, _ := follow(h, "/events", "", r)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		assert.Equal(t, 4, strings.Count(r.text(), ": still here\n\n"))
		stop()
	})
}

// The page follows: one rendering for all readers, sent when it has changed.
func TestLivePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "orders", State: kafka.StateOff, Since: now.Add(-10 * time.Second), NextRetry: now.Add(time.Hour)}}}
		h := newTest(t, s)
		h.event(kafka.HandlerFailed{JobName: "orders"})
		one, two, of := newReader(-1), newReader(-1), newReader(-1)
		stopOne, _ := follow(h, "/live", "", one)
		stopTwo, _ := follow(h, "/live", "", two)
		stopOf, _ := follow(h, "/live?name=Orders", "", of)
		again := newReader(-1)
		stopAgain, _ := follow(h, "/live?name=orders", "", again)
		synctest.Wait()
		assert.Equal(t, 1, strings.Count(one.text(), "event: page\n"))
		assert.Len(t, h.live.pages, 2)
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, strings.Count(one.text(), "event: page\n"), "times alone are no change")
		assert.Equal(t, 1, strings.Count(of.text(), "event: page\n"))
		assert.Contains(t, one.text(), `<main id=\"main\">`)
		assert.NotContains(t, one.text(), " ago")
		h.event(kafka.CommitFailed{JobName: "orders"})
		time.Sleep(liveEvery + time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 2, strings.Count(one.text(), "event: page\n"))
		assert.Equal(t, one.text(), two.text())
		assert.Contains(t, of.text(), "Commit failed.")
		stopOne()
		stopTwo()
		stopOf()
		stopAgain()
		synctest.Wait()
		assert.Empty(t, h.live.pages)
		assert.Equal(t, http.StatusNotFound, get(t, h, "/live?name=none").Code)
	})
}

// Streams end with the manager, after what is left. A reader that has all by then is not to
// come again.
func TestStreamsEndWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTest(t, everything("x"))
		events, page := newReader(-1), newReader(-1)
		_, eventsEnded := follow(h, "/events", "", events)
		_, pageEnded := follow(h, "/live", "", page)
		synctest.Wait()
		h.event(commitFailed(1))
		h.event(kafka.ShutdownEnded{})
		<-eventsEnded
		<-pageEnded
		assert.Equal(t, []string{"1", "2"}, events.ids())
		synctest.Wait()
		assert.Empty(t, h.live.pages)
		assert.Equal(t, http.StatusNoContent, get(t, h, "/live").Code)
		late := newReader(-1)
		_, lateEnded := follow(h, "/events", h.events.epoch+"-1", late)
		<-lateEnded
		assert.Equal(t, []string{"2"}, late.ids())
		r := httptest.NewRequest("GET", "/events", nil)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("Last-Event-ID", h.events.epoch+"-2")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, http.StatusNoContent, w.Code)
		assert.Contains(t, get(t, h, "/events").Body.String(), "ShutdownEnded", "the list stays")
	})
}

// HEAD has no body that could go on, and a writer that cannot flush would never show one:
// the answer to both is complete at once, and no page is rendered for them.
func TestStreamsThatCannotBe(t *testing.T) {
	h := newTest(t, everything("x"))
	for _, path := range []string{"/events", "/live", "/live?name=job+x"} {
		for method, code := range map[string]int{"HEAD": 200, "GET": 501} {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("Accept", "text/event-stream")
			w := httptest.NewRecorder()
			h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
			assert.Equal(t, code, w.Code, "%s %s", method, path)
			assert.NotContains(t, w.Body.String(), "retry")
		}
		assert.Empty(t, h.live.pages)
	}
}

// With HTTP/2 a stream outlives its quiet times: no deadline is left from the latest write.
func TestQuietStreamOverHTTP2(t *testing.T) {
	h := newTest(t, &fakeSource{})
	h.slow = 500 * time.Millisecond
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer server.CloseClientConnections()
	for _, path := range []string{"/events", "/live"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, nil)
		require.NoError(t, err)
		req.Header.Set("Accept", "text/event-stream")
		res, err := server.Client().Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		assert.Equal(t, 2, res.ProtoMajor)
		text := bufio.NewReader(res.Body)
		next := func() string {
			for {
				line, err := text.ReadString('\n')
				if err != nil {
					return err.Error()
				}
				if strings.HasPrefix(line, "data: ") {
					return line
				}
			}
		}
		h.event(commitFailed(1))
		next()
		time.Sleep(3 * h.slow) // the deadline of the latest write would be over
		h.event(commitFailed(2))
		assert.Contains(t, next(), "data: ", path)
	}
}

// Over a real connection: server-sent events as a client sees them.
func TestEventsOverHTTP(t *testing.T) {
	h := newTest(t, &fakeSource{})
	server := httptest.NewServer(http.StripPrefix("/kafka", h))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	h.event(commitFailed(1))
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/kafka/events", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	lines := bufio.NewScanner(res.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return "the stream has ended"
	}
	assert.Contains(t, next(), `"JobName":"1"`)
	h.event(commitFailed(2))
	assert.Contains(t, next(), `"JobName":"2"`)
}

// The history keeps the last minutes, also while no page is open, and ends with the manager.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "orders", Partitions: []kafka.PartitionStatus{{Lag: 3}, {Lag: -1}, {Lag: 4}}}, {JobName: "none"}}}
		h := newTest(t, s)
		assert.NotContains(t, get(t, h, "/").Body.String(), "<svg")
		time.Sleep(time.Hour)
		synctest.Wait() // for what is taken at this very moment
		assert.Len(t, h.history.of("orders"), historyKept)
		assert.Equal(t, int64(7), h.history.of("orders")[0])
		assert.Equal(t, int64(-1), h.history.of("none")[0])
		page := get(t, h, "/").Body.String()
		assert.Equal(t, 1, strings.Count(page, "<svg"))
		assert.Contains(t, page, "Lag over the last 10 min: from 7 to 7, at most 7.")
		h.event(kafka.ShutdownEnded{})
		s.consumers = nil
		time.Sleep(time.Hour)
		assert.Equal(t, int64(7), h.history.of("orders")[historyKept-1], "nothing was taken since")
	})
}
