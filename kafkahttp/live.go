package kafkahttp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// A live keeps pages up to date. While a page has readers, one goroutine renders it every
// now and then, once for all of them, and only what has changed is sent. A reader holds
// nothing: a slow one skips versions.
type live struct {
	render func(page string) ([]byte, bool) // false if there is no such page

	mu    sync.Mutex
	pages map[string]*livePage // that have readers
}

// A livePage is a page that has readers.
type livePage struct {
	readers int
	data    []byte        // the latest version, as an event
	version int           // counts them
	changed chan struct{} // closed and replaced with each
	stop    chan struct{} // closed when the last reader has gone
}

// A page is rendered again after liveEvery, or after 50 times the time that rendering took,
// so that it never takes more than a few percent of a core.
const (
	liveEvery = 2 * time.Second
	liveShare = 50
)

func newLive(render func(page string) ([]byte, bool)) *live {
	return &live{render: render, pages: make(map[string]*livePage)}
}

// join adds a reader to a page.
func (l *live) join(name string) *livePage {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pages[name]
	if p == nil {
		p = &livePage{changed: make(chan struct{}), stop: make(chan struct{})}
		l.pages[name] = p
		go l.run(name, p)
	}
	p.readers++
	return p
}

func (l *live) leave(name string, p *livePage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.readers--; p.readers == 0 {
		delete(l.pages, name)
		close(p.stop)
	}
}

// run renders p until it has no readers.
func (l *live) run(name string, p *livePage) {
	var before []byte
	for {
		began := time.Now()
		html, found := l.render(name)
		if found && !bytes.Equal(html, before) {
			before = html
			l.publish(p, html)
		}
		timer := time.NewTimer(max(liveEvery, liveShare*time.Since(began)))
		select {
		case <-timer.C:
		case <-p.stop:
			timer.Stop()
			return
		}
	}
}

func (l *live) publish(p *livePage, html []byte) {
	var b bytes.Buffer
	b.WriteString("event: page\ndata: ")
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)     // it is no part of a page, and would be a quarter longer
	_ = e.Encode(string(html)) // a string always can be; this ends the line
	b.WriteByte('\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	p.data = b.Bytes()
	p.version++
	close(p.changed)
	p.changed = make(chan struct{})
}

// now returns the latest version, and a channel that is closed when there is another.
func (l *live) now(p *livePage) (data []byte, version int, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return p.data, p.version, p.changed
}

// serveLive sends versions of a page, by the name of a consumer, or of the overview, until
// the manager has shut down.
func (h *handler) serveLive(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name") // FormValue would read a body, without a bound
	if name != "" {
		one, err := h.source.Consumer(name)
		if err != nil {
			h.refuse(w, r, http.StatusNotFound, text(err))
			return
		}
		name = one.JobName // the same page for all cases of the letters
	}
	if h.hasEnded() {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s := h.newStream(w, r)
	if s == nil {
		return
	}
	p := h.live.join(name)
	defer h.live.leave(name, p)
	for sent := 0; ; {
		data, version, more := h.live.now(p)
		if version != sent {
			s.write(data)
			sent = version
		}
		if !s.await(r, more, h.ended) || h.hasEnded() {
			return
		}
	}
}
