package kafka

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A thinner is the log handler of one consumer and its driver. What repeats, as it
// does while a broker is away, is thinned out: the first line of a kind is written
// at once; those that follow within thinEvery become one line at its end, the latest
// of them, with how many there were. So no line is later than that, none is left
// out without a count, and the last word of each kind is always written.
//
// Two lines are of one kind if message, topic, partitions, and texts are equal, but
// for words with digits in them: ports, offsets and IDs differ each time. At level
// ERROR every attribute counts, since each gap in a log is another one.
type thinner struct {
	next   slog.Handler
	prefix string // what With has added, as part of the kind
	kinds  *kinds
}

const (
	thinEvery = time.Minute
	maxKinds  = 256 // beyond that, all other lines are of one kind
	maxKind   = 256 // bytes of one attribute that tell kinds apart
)

// kinds is what is known of a consumer's log lines.
type kinds struct {
	mu     sync.Mutex
	lines  map[string]*repeated
	closed bool
	timers sync.WaitGroup // those that are set, until they have run or are stopped
}

// A repeated is one kind of line.
type repeated struct {
	since  time.Time // when one was written
	left   int       // that were not written since
	latest slog.Record
	next   slog.Handler
	timer  *time.Timer // nil while left is 0
}

// thin returns a logger that writes to l what is left of a consumer's lines, and
// what ends that.
func thin(l *slog.Logger) (*slog.Logger, *kinds) {
	k := &kinds{lines: make(map[string]*repeated)}
	return slog.New(&thinner{next: l.Handler(), kinds: k}), k
}

// Enabled implements slog.Handler.
func (t *thinner) Enabled(ctx context.Context, level slog.Level) bool {
	return t.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (t *thinner) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		describe(&b, a, true)
	}
	return &thinner{t.next.WithAttrs(attrs), t.prefix + b.String(), t.kinds}
}

// WithGroup implements slog.Handler.
func (t *thinner) WithGroup(name string) slog.Handler {
	return &thinner{t.next.WithGroup(name), t.prefix + name + ".", t.kinds}
}

// Handle implements slog.Handler.
func (t *thinner) Handle(ctx context.Context, r slog.Record) error {
	if t.kinds.withhold(t.kind(r), t.next, r) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

// kind returns what is equal in lines of one kind.
func (t *thinner) kind(r slog.Record) string {
	var b strings.Builder
	b.WriteString(t.prefix)
	b.WriteString(r.Message)
	exact := r.Level >= slog.LevelError
	r.Attrs(func(a slog.Attr) bool {
		describe(&b, a, exact)
		return true
	})
	return b.String()
}

// describe adds to b the part of an attribute that distinguishes kinds of lines.
func describe(b *strings.Builder, a slog.Attr, exact bool) {
	v := a.Value.Resolve()
	switch {
	case exact, a.Key == "topic", a.Key == "partition", a.Key == "partitions":
		b.WriteString(" " + a.Key + "=" + v.String())
	case v.Kind() == slog.KindString, v.Kind() == slog.KindAny:
		b.WriteString(" " + a.Key + "=" + withoutNumbers(v.String()))
	}
}

// withoutNumbers replaces words with digits in them, and cuts a long text.
func withoutNumbers(s string) string {
	s = s[:min(len(s), maxKind)]
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, w := range words {
		if strings.ContainsFunc(w, unicode.IsDigit) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// withhold reports whether a line is not to be written now. It is written later
// then, or a later one in its place.
func (k *kinds) withhold(kind string, next slog.Handler, r slog.Record) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	l := k.line(kind, now)
	switch {
	case k.closed:
		return false
	case l.left == 0 && now.Sub(l.since) >= thinEvery:
		l.since = now
		return false
	}
	l.left++
	l.latest, l.next = r.Clone(), next
	if l.timer == nil {
		k.timers.Add(1)
		l.timer = time.AfterFunc(l.since.Add(thinEvery).Sub(now), func() { k.expire(l) })
	}
	return true
}

// line returns that of a kind; a new one has never been written. The caller holds
// the mutex.
func (k *kinds) line(kind string, now time.Time) *repeated {
	if l := k.lines[kind]; l != nil {
		return l
	}
	if len(k.lines) >= maxKinds {
		for kind, l := range k.lines {
			if l.left == 0 && now.Sub(l.since) >= thinEvery {
				delete(k.lines, kind)
			}
		}
	}
	if len(k.lines) >= maxKinds {
		kind = ""
		if l := k.lines[kind]; l != nil {
			return l
		}
	}
	l := &repeated{}
	k.lines[kind] = l
	return l
}

// expire is the goroutine of a line's timer.
func (k *kinds) expire(l *repeated) {
	defer k.timers.Done()
	k.mu.Lock()
	write := l.take()
	k.mu.Unlock()
	write()
}

// take returns what writes the latest line that was withheld. The caller holds the
// mutex, and calls it when it has let go.
func (l *repeated) take() (write func()) {
	r, next, n := l.latest, l.next, l.left
	l.since, l.left, l.timer = time.Now(), 0, nil
	l.latest, l.next = slog.Record{}, nil
	return func() {
		if n > 1 {
			r.AddAttrs(slog.Int("repeated", n))
		}
		next.Handle(context.Background(), r)
	}
}

// close writes what is withheld, and withholds nothing from then on.
func (k *kinds) close() {
	var writes []func()
	k.mu.Lock()
	k.closed = true
	for _, l := range k.lines {
		if l.timer != nil && l.timer.Stop() {
			k.timers.Done()
			writes = append(writes, l.take())
		}
	}
	k.mu.Unlock()
	for _, write := range writes {
		write()
	}
	k.timers.Wait()
}
