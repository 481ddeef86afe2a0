package kafkahttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

var errHandler = errors.New("the database is down")

// orders is a consumer whose handler fails what it is sent as "bad".
func orders() kafka.Consumer {
	return kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop", BootstrapServers: "localhost:9092",
		Failure: kafka.FailurePolicy{DeadLetter: kafka.DeadLetterConfig{Topic: "orders.dlq"}},
	}, func(_ context.Context, m *kafka.Message) error {
		switch string(m.Value) {
		case "bad":
			return errHandler
		case "hold":
			return kafka.Hold(errHandler, time.Hour)
		}
		return nil
	})
}

// On a manager: every endpoint, and every action with its effect.
func TestOnAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders.dlq", 1)
		h := New(k.Manager, WithControls())
		assert.Contains(t, get(t, h, "/").Body.String(), "No consumers are registered")
		assert.Equal(t, "[]\n", get(t, h, "/consumers").Body.String())
		assert.Equal(t, "[]\n", get(t, h, "/producers").Body.String())
		assert.Equal(t, "[]\n", get(t, h, "/events").Body.String())
		k.Start(orders())
		k.Producer()
		k.WaitHandled(k.Send("orders", "1", "payload-secret"))
		k.WaitCommitted("orders")
		bad := k.SendMessage(&kafka.ProducerMessage{Topic: "orders", Key: []byte("key-secret"), Value: []byte("bad"),
			Headers: []kafka.Header{{Key: "tenant", Value: []byte("header-secret")}}})
		k.WaitFailed(bad, 2)
		synctest.Wait()

		var all []map[string]any
		require.NoError(t, json.Unmarshal(get(t, h, "/consumers").Body.Bytes(), &all))
		require.Len(t, all, 1)
		assert.Equal(t, "running", all[0]["State"])
		var one map[string]any
		require.NoError(t, json.Unmarshal(get(t, h, "/consumers/orders").Body.Bytes(), &one))
		p := one["Partitions"].([]any)[0].(map[string]any)
		assert.Equal(t, float64(bad.Offset), p["Failing"])
		assert.Equal(t, errHandler.Error(), p["LastError"])
		assert.Equal(t, http.StatusNotFound, get(t, h, "/consumers/none").Code)
		require.NoError(t, json.Unmarshal(get(t, h, "/producers").Body.Bytes(), &all))
		assert.Len(t, all, 1)
		require.NoError(t, json.Unmarshal(get(t, h, "/events").Body.Bytes(), &all))
		assert.Equal(t, "StateChanged", all[0]["type"])
		assert.Equal(t, float64(1), all[0]["id"])
		assert.Equal(t, "starting", all[0]["event"].(map[string]any)["To"])
		for _, path := range []string{"/ready", "/healthy"} {
			assert.Equal(t, http.StatusOK, get(t, h, path).Code)
		}
		overview, page := get(t, h, "/").Body.String(), get(t, h, "/consumer?name=orders").Body.String()
		for _, secret := range []string{"payload-secret", "key-secret", "header-secret", "tenant"} {
			for _, path := range []string{"/", "/consumer?name=orders", "/consumers", "/consumers/orders", "/producers", "/events"} {
				assert.NotContains(t, get(t, h, path).Body.String(), secret, path)
			}
		}
		assert.Contains(t, overview, "stands still")
		assert.Contains(t, overview, "The record at offset 1 has failed 2 times.")
		assert.Contains(t, page, errHandler.Error())
		assert.Contains(t, page, "Try offset 1 now")

		before := k.Attempts(bad)
		act(t, h, "resolve", `{"consumer":"orders","partition":"orders/0","offset":1,"do":"keep"}`, "Trying the record of orders/0 at offset 1 now.")
		k.WaitAttempts(bad, before+1)
		act(t, h, "resolve", `{"consumer":"orders","partition":"orders/0","offset":1,"do":"dead letter","confirm":true}`,
			"Sending the record of orders/0 at offset 1 to the dead letters; an event says when it is there.")
		k.WaitDead(bad)
		worse := k.Send("orders", "1", "bad")
		k.WaitFailed(worse, 1)
		act(t, h, "resolve", fmt.Sprintf(`{"consumer":"orders","partition":"orders/0","offset":%d,"do":"skip","confirm":true}`, worse.Offset),
			"Skipping the record of orders/0 at offset 2.")
		k.WaitSkipped(worse)
		assert.Equal(t, http.StatusConflict, post(t, h, "/actions/resolve", "application/json",
			`{"consumer":"orders","partition":"orders/0","offset":2,"do":"skip","confirm":true}`).Code, "once more")
		held := k.Send("orders", "1", "hold")
		k.WaitAttempts(held, 1)
		synctest.Wait()
		assert.Contains(t, get(t, h, "/consumer?name=orders").Body.String(), "End the hold")
		act(t, h, "end-hold", `{"consumer":"orders"}`, "The hold of orders is over: its records are handed out again.")
		k.WaitAttempts(held, 2)
		act(t, h, "switch", `{"consumer":"orders","on":false}`, "orders is switched off in this process: running handlers are cancelled, and it leaves its group.")
		k.WaitState("orders", kafka.StateOff)
		assert.Contains(t, get(t, h, "/consumer?name=orders").Body.String(), "Switched off in this process.")
		act(t, h, "switch", `{"consumer":"orders","on":true}`, "orders is switched on in this process.")
		k.WaitState("orders", kafka.StateRunning)
	})
}

func act(t *testing.T, h http.Handler, action, order, done string) {
	t.Helper()
	w := post(t, h, "/actions/"+action, "application/json", order)
	assert.Equal(t, http.StatusOK, w.Code)
	assert.JSONEq(t, fmt.Sprintf(`{"done":%q}`, done), w.Body.String())
}

// paths are all that can be got.
func paths(word string) []string {
	name := url.QueryEscape("job " + word)
	return []string{"/", "/consumer?name=" + name, "/consumer?name=none", "/consumers", "/consumers/" + url.PathEscape("job "+word), "/consumers/none",
		"/producers", "/events", "/ready", "/healthy", "/style.css", "/live.js", "/icon.svg", "/none",
		"/lag?name=" + name, "/consumers/" + url.PathEscape("job "+word) + "/lag", "/lag?name=none", "/consumers/none/lag"}
}

// A name or an error that looks like code stays text: on pages, in JSON and in events.
func TestHostileNames(t *testing.T) {
	for _, word := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</q></li></main><h1>`,
		"a/b\\..%2f?x=1&y=2#z", "line\nid: 7\nevent: page\ndata: x\n\n", "\x00\x1b[31m\xff\u202e", "{{.}}", strings.Repeat("ä", 3000),
	} {
		s := everything(word)
		h := newTest(t, s, WithControls())
		for _, e := range allEvents(word) {
			h.event(e)
		}
		plain := newTest(t, everything("word"), WithControls())
		for _, e := range allEvents("word") {
			plain.event(e)
		}
		for i, path := range paths(word) {
			w := get(t, h, path)
			assertHeaders(t, w)
			text := w.Body.String()
			switch kind := w.Header().Get("Content-Type"); {
			case strings.HasPrefix(kind, "text/html"):
				assertNoInline(t, text)
				assert.Equal(t, tags(get(t, plain, paths("word")[i]).Body.String()), tags(text), "%q at %s", word, path)
			case kind == "application/json":
				assert.True(t, json.Valid([]byte(text)), path)
			}
			assert.NotContains(t, text, "\x1b", path)
			if path == "/" {
				assert.NotContains(t, text, "\u202e", path)
			}
		}
	}
}

// tags returns the names of all tags in order: text that is escaped adds none.
func tags(html string) []string {
	return regexp.MustCompile(`</?[a-zA-Z][a-zA-Z0-9]*`).FindAllString(html, -1)
}

func assertHeaders(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	assert.Equal(t, "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		w.Header().Get("Content-Security-Policy"))
	assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	assert.Equal(t, "DENY", w.Header().Get("X-Frame-Options"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
}

// assertNoInline asserts that a page needs no more than the policy allows.
func assertNoInline(t *testing.T, html string) {
	t.Helper()
	assert.NotRegexp(t, `<[a-zA-Z][^>"]*("[^"]*"[^>"]*)*\s(style|on[a-z]+)\s*=`, html)
	assert.NotRegexp(t, `<script(\s+defer)?>`, html)
	for _, m := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		assert.NotRegexp(t, `^(?:/|[a-z]+:)`, m[1], "links are relative")
	}
}

// WithoutErrors shows the text of no error, wherever one can be.
func TestWithoutErrors(t *testing.T) {
	const secret = "the-secret"
	s := everything(secret)
	for i := range s.consumers { // names may be seen
		s.consumers[i].JobName = strings.ReplaceAll(s.consumers[i].JobName, secret, "name")
		s.consumers[i].Topics, s.consumers[i].RetryTopics, s.consumers[i].Group, s.consumers[i].ClientID = nil, nil, "", ""
		s.consumers[i].Stragglers, s.consumers[i].PausedPartitions = nil, nil
		for j := range s.consumers[i].Partitions {
			s.consumers[i].Partitions[j].Topic = "topic"
		}
		for j := range s.consumers[i].TopicErrors {
			s.consumers[i].TopicErrors[j].Topic = "topic"
		}
	}
	s.producers = nil
	for i := range s.lags {
		s.lags[i].Topic = "topic"
	}
	h := newTest(t, s, WithoutErrors(), WithControls())
	for _, e := range allEvents("name") {
		h.event(replaceErrors(e, errors.New(secret)))
	}
	shown := newTest(t, s)
	for i, path := range paths("name") {
		assert.NotContains(t, get(t, h, path).Body.String(), secret, path)
		if i < 2 || i == 3 || i == 8 || i == 14 || i == 15 {
			assert.Contains(t, get(t, shown, path).Body.String(), secret, path)
		}
	}
	assert.Contains(t, get(t, h, "/").Body.String(), "an error, whose text is not shown")
	s.err = errors.New(secret)
	w := post(t, h, "/actions/end-hold", "application/json", `{"consumer":"x"}`)
	assert.Equal(t, http.StatusConflict, w.Code)
	assert.NotContains(t, w.Body.String(), secret)
	for _, own := range []error{kafka.ErrUnknownConsumer, kafka.ErrNotFailing, kafka.ErrClosed} {
		s.err = own
		assert.Contains(t, post(t, h, "/actions/end-hold", "application/json", `{"consumer":"x"}`).Body.String(), own.Error())
	}
	assert.Equal(t, "reason: "+secret, s.consumers[0].Reason.Error(), "the status itself is not changed")
	assert.Equal(t, "held: "+secret, s.consumers[0].Held.Err.Error())
	assert.Equal(t, "handler: "+secret, s.consumers[0].Partitions[0].LastError.Error())
}

// replaceErrors puts err into the events of allEvents that have one.
func replaceErrors(e kafka.Event, err error) kafka.Event {
	switch e := e.(type) {
	case kafka.StateChanged:
		e.Reason = err
		return e
	case kafka.HandlerFailed:
		e.Err = err
		return e
	case kafka.ConsumerHeld:
		e.Err = err
		return e
	case kafka.CallbackPanicked:
		e.Err = &kafka.PanicError{Value: err}
		return e
	case kafka.ShutdownEnded:
		e.Err = err
		return e
	}
	return e
}

// The probes answer with the reason.
func TestProbes(t *testing.T) {
	h := newTest(t, &fakeSource{ready: errors.New("orders is starting"), healthy: nil})
	w := get(t, h, "/ready")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "orders is starting\n", w.Body.String())
	w = get(t, h, "/healthy")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "healthy\n", w.Body.String())
}

// Whatever is not a GET is refused without controls, before anything is read.
func TestWithoutControls(t *testing.T) {
	s := everything("x")
	h := newTest(t, s)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, path := range []string{"/", "/actions/switch", "/actions/resolve", "/actions/end-hold", "/actions/seek", "/actions/redrive", "/actions/none", "/consumers"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, path, strings.NewReader(`{"consumer":"job x","on":true}`))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(w, r)
			assert.Equal(t, http.StatusForbidden, w.Code, "%s %s", method, path)
		}
	}
	assert.Empty(t, s.done())
	for _, path := range paths("x") {
		assert.NotRegexp(t, `<(button|form|input)`, get(t, h, path).Body.String(), path)
	}
	assert.Regexp(t, `<button`, get(t, newTest(t, s, WithControls()), "/consumer?name=job+x").Body.String())
}

// A request of another site, or one that makes no sense, changes nothing.
func TestRefusedActions(t *testing.T) {
	s := everything("x")
	h := newTest(t, s, WithControls())
	for _, header := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/actions/end-hold", strings.NewReader(`{"consumer":"job x"}`))
		r.Header.Set("Content-Type", "application/json")
		for k, v := range header {
			r.Header.Set(k, v)
		}
		h.ServeHTTP(w, r)
		assert.Equal(t, http.StatusForbidden, w.Code, "%v", header)
		assertHeaders(t, w)
	}
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		action, kind, body string
		code               int
	}{
		{"none", asJSON, `{"consumer":"job x"}`, 404},
		{"switch", asJSON, ``, 400},
		{"switch", asJSON, `{`, 400},
		{"switch", asJSON, `[]`, 400},
		{"switch", asJSON, `null`, 400},
		{"switch", asJSON, `{"consumer":"job x"}`, 400},
		{"switch", asJSON, `{"on":true}`, 400},
		{"switch", asJSON, `{"consumer":"job x","on":"yes"}`, 400},
		{"switch", asJSON, `{"consumer":"job x","on":true,"also":1}`, 400},
		{"switch", asJSON, `{"consumer":"job x","on":true}{}`, 400},
		{"switch", asJSON, `{"consumer":"job x","on":true,"do":"` + strings.Repeat("x", 10<<10) + `"}`, 413},
		{"switch", "text/plain", `{"consumer":"job x","on":true}`, 415},
		{"switch", "", `{"consumer":"job x","on":true}`, 415},
		{"switch", "multipart/form-data; boundary=x", `--x--`, 415},
		{"switch", asForm, "consumer=job+x&on=perhaps", 400},
		{"switch", asForm, "consumer=%zz&on=true", 400},
		{"switch", asForm, "consumer=job+x&on=true&also=1", 400},
		{"switch", asForm, "", 400},
		{"switch", asForm, "consumer=job+x&on=true&do=" + strings.Repeat("x", 10<<10), 413},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","do":"keep"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","offset":1,"do":"keep"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/-1","offset":1,"do":"keep"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","offset":1,"do":"stop"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","offset":1,"do":"hold"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","offset":1}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","offset":1,"do":"skip"}`, 400},
		{"resolve", asJSON, `{"consumer":"job x","partition":"orders/0","offset":1,"do":"dead letter","confirm":false}`, 400},
		{"resolve", asForm, "consumer=job+x&partition=orders%2F0&offset=1&do=skip", 400},
		{"resolve", asForm, "consumer=job+x&partition=orders%2F0&offset=1.5&do=keep", 400},
		{"pause", asJSON, `{"consumer":"job x","partition":"orders"}`, 400},
		{"resume", asForm, "consumer=job+x&partition=orders%2F-1", 400},
		{"rate", asJSON, `{"consumer":"job x"}`, 400},
		{"rate", asJSON, `{"consumer":"job x","perSecond":-1}`, 400},
		{"rate", asForm, "consumer=job+x&perSecond=NaN", 400},
		{"rate", asForm, "consumer=job+x&perSecond=Inf", 400},
		{"rate", asForm, "consumer=job+x&perSecond=fast", 400},
		{"seek", asJSON, `{"consumer":"job x","to":"end"}`, 400},
		{"redrive", asJSON, `{"consumer":"job x"}`, 400},
		{"redrive", asForm, "consumer=job+x&limit=many&dryRun=true", 400},
		{"seek", asForm, "consumer=job+x&to=end&confirm=false", 400},
		{"seek", asForm, "consumer=job+x&to=end&dryRun=perhaps", 400},
	} {
		w := post(t, h, "/actions/"+tt.action, tt.kind, tt.body)
		assert.Equal(t, tt.code, w.Code, "%s %s %s", tt.action, tt.kind, tt.body)
		assert.Contains(t, w.Body.String(), `"error"`)
	}
	assert.Equal(t, http.StatusMethodNotAllowed, post(t, h, "/consumers", asJSON, `{}`).Code)
	assert.Equal(t, http.StatusMethodNotAllowed, get(t, h, "/actions/switch").Code)
	assert.Empty(t, s.done())
}

// What the manager refuses is passed on, with a status that says who has to act.
func TestManagerRefuses(t *testing.T) {
	s := &fakeSource{}
	h := newTest(t, s, WithControls())
	for err, code := range map[error]int{kafka.ErrUnknownConsumer: 404, kafka.ErrNotFailing: 409, kafka.ErrClosed: 409} {
		s.err = err
		w := post(t, h, "/actions/end-hold", "application/json", `{"consumer":"x"}`)
		assert.Equal(t, code, w.Code)
		assert.Contains(t, w.Body.String(), err.Error())
	}
}

// A browser without scripts: a form's answer leads back to the page, which says what was
// done, below whatever prefix. A link cannot put words there.
func TestForms(t *testing.T) {
	s := everything("x")
	h := http.StripPrefix("/ops/kafka", newTest(t, s, WithControls()))
	w := post(t, h, "/ops/kafka/actions/switch", "application/x-www-form-urlencoded", "consumer=job+x&on=false")
	require.Equal(t, http.StatusSeeOther, w.Code)
	base, err := url.Parse("http://host/ops/kafka/actions/switch")
	require.NoError(t, err)
	to, err := base.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	assert.Equal(t, "/ops/kafka/consumer", to.Path)
	page := get(t, h, to.RequestURI()).Body.String()
	assert.Contains(t, page, "job x is switched off in this process")
	assert.NotContains(t, get(t, h, "/ops/kafka/?note=All+is+lost").Body.String(), "All is lost")
	assert.Equal(t, []string{"switch job x false"}, s.done())

	r := httptest.NewRequest("POST", "/ops/kafka/actions/resolve", strings.NewReader("consumer=job+x"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "text/html,*/*")
	refused := httptest.NewRecorder()
	h.ServeHTTP(refused, r)
	assert.Equal(t, http.StatusBadRequest, refused.Code)
	assert.Contains(t, refused.Body.String(), "Not done.")
	assert.Contains(t, refused.Body.String(), `href="../style.css"`)

	r = httptest.NewRequest("POST", "/ops/kafka/", nil)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	refused = httptest.NewRecorder()
	h.ServeHTTP(refused, r)
	assert.Equal(t, http.StatusForbidden, refused.Code)
	assert.Contains(t, refused.Body.String(), "another site")
	assert.Contains(t, refused.Body.String(), `href="style.css"`)
}

// A GET does not read its body, which has no bound.
func TestGetReadsNoBody(t *testing.T) {
	h := newTest(t, everything("x"), WithControls())
	for _, path := range []string{"/", "/consumer?name=job+x", "/live?name=none", "/consumers"} {
		body := &countingReader{}
		r := httptest.NewRequest("GET", path, body)
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		h.ServeHTTP(httptest.NewRecorder(), r)
		assert.Zero(t, body.reads, path)
	}
}

// A countingReader counts the reads.
type countingReader struct{ reads int }

func (r *countingReader) Read([]byte) (int, error) {
	r.reads++
	return 0, io.EOF
}

// A record that an operator has paused is tried when it is resumed, and the answer says so.
func TestResolveWhilePaused(t *testing.T) {
	for _, s := range []kafka.ConsumerStatus{
		{JobName: "x", Paused: true},
		{JobName: "x", PausedPartitions: []kafka.TopicPartition{{Topic: "orders", Partition: 0}}},
	} {
		h := newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}, WithControls())
		act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`,
			"It is paused: the record of orders/0 at offset 1 is tried when it is resumed.")
		act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"skip","confirm":true}`,
			"Skipping the record of orders/0 at offset 1.")
	}
	other := kafka.ConsumerStatus{JobName: "x", PausedPartitions: []kafka.TopicPartition{{Topic: "orders", Partition: 7}}}
	h := newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{other}}, WithControls())
	act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`, "Trying the record of orders/0 at offset 1 now.")
}

// Pauses and rates: what the manager is asked for, and what the answer says.
func TestPauseAndRate(t *testing.T) {
	s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "x"}}}
	h := newTest(t, s, WithControls())
	act(t, h, "pause", `{"consumer":"x"}`, "x is paused in this process: its records wait, and it stays in its group.")
	act(t, h, "pause", `{"consumer":"x","partition":"orders/3"}`, "orders/3 is paused in this process: its records wait, and it stays in its group.")
	act(t, h, "resume", `{"consumer":"x","partition":"orders/3"}`, "orders/3 is resumed.")
	act(t, h, "resume", `{"consumer":"x"}`, "x is resumed.")
	act(t, h, "rate", `{"consumer":"x","perSecond":12.5}`, "x hands out at most 12.5 records per second in this process.")
	act(t, h, "rate", `{"consumer":"x","perSecond":0}`, "x hands out records without a bound.")
	s.consumers[0].Paused = true
	act(t, h, "resume", `{"consumer":"x","partition":"orders/3"}`, "orders/3 is no longer paused by itself, and waits until its consumer is resumed.")
	act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`, "It is paused: the record of orders/0 at offset 1 is tried when it is resumed.")
	assert.Equal(t, []string{
		"pause x []", "pause x [orders/3]", "resume x [orders/3]", "resume x []", "rate x 12.5", "rate x 0", "resume x [orders/3]", "resolve x orders/0 1 keep",
	}, s.done())
}

// While a consumer is held a record is tried when the hold ends, and the answer says so.
func TestResolveUnderAHold(t *testing.T) {
	h := newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "x", Held: &kafka.HeldStatus{}}}}, WithControls())
	act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`,
		"The consumer is held: the record of orders/0 at offset 1 is tried when the hold ends.")
	act(t, h, "resolve", `{"consumer":"x","partition":"orders/0","offset":1,"do":"skip","confirm":true}`, "Skipping the record of orders/0 at offset 1.")
}

// A record that the handler is at is not waited for as long as the handler takes.
func TestResolveOfARecordAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{block: true}
		h := newTest(t, s, WithControls())
		began := time.Now()
		w := post(t, h, "/actions/resolve", "application/json", `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`)
		assert.Equal(t, patience, time.Since(began))
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Contains(t, w.Body.String(), "nothing was done")
	})
}

// The notices are bounded, and are not repeated later.
func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notices
		first := n.add("first")
		assert.Equal(t, "first", n.get(first))
		for range keptNotices {
			n.add("more")
		}
		assert.Empty(t, n.get(first))
		assert.Len(t, n.texts, keptNotices)
		last := n.add("last")
		time.Sleep(noticeFor - time.Second)
		assert.Equal(t, "last", n.get(last))
		time.Sleep(time.Second)
		assert.Empty(t, n.get(last))
	})
}

// Below a prefix every link of a page leads somewhere.
func TestLinksBelowAPrefix(t *testing.T) {
	h := http.StripPrefix("/ops/kafka", newTest(t, everything("x"), WithControls()))
	for _, page := range []string{"/ops/kafka/", "/ops/kafka/consumer?name=job+x"} {
		base, err := url.Parse("http://host" + page)
		require.NoError(t, err)
		html := get(t, h, page).Body.String()
		links := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(html, -1)
		require.Greater(t, len(links), 3)
		for _, m := range links {
			to, err := base.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			require.NoError(t, err)
			assert.Equal(t, http.StatusOK, get(t, h, to.RequestURI()).Code, "%s on %s", m[1], page)
		}
	}
}

// A path that is not clean is no page: a redirect would lead out of the prefix.
func TestPathsThatAreNotClean(t *testing.T) {
	h := http.StripPrefix("/ops/kafka", newTest(t, everything("x")))
	for path, code := range map[string]int{
		"/ops/kafka": 404, "/ops/kafka//": 404, "/ops/kafka//ready": 404, "/ops/kafka/./ready": 404, "/ops/kafka/x/../ready": 404,
		"/ops/kafka/": 200, "/ops/kafka/events": 200, "/ops/kafka/events/": 404, "/ops/kafka/consumers/job%20x": 200,
	} {
		w := get(t, h, path)
		assert.Equal(t, code, w.Code, path)
		assert.Empty(t, w.Header().Get("Location"), path)
	}
}

// A nil manager, one that New has not made, and one that has shut down have nothing to
// follow.
func TestNoManager(t *testing.T) {
	closed := kafkatest.New(t).Manager
	require.NoError(t, closed.Shutdown(t.Context()))
	for _, m := range []*kafka.Manager{nil, {}, closed} {
		h := New(m, WithControls())
		assert.Equal(t, http.StatusOK, get(t, h, "/").Code)
		assert.Equal(t, http.StatusServiceUnavailable, get(t, h, "/ready").Code)
		assert.Equal(t, http.StatusNoContent, get(t, h, "/live").Code)
		assert.Nil(t, h.(*handler).history.timer)
		for action, order := range map[string]string{
			"switch": `{"consumer":"x","on":true}`, "end-hold": `{"consumer":"x"}`, "resolve": `{"consumer":"x","partition":"orders/0","offset":1,"do":"keep"}`,
			"seek": `{"consumer":"x","to":"end","confirm":true}`, "redrive": `{"consumer":"x","confirm":true}`,
		} {
			assert.GreaterOrEqual(t, post(t, h, "/actions/"+action, "application/json", order).Code, 400, action)
		}
	}
	h := New(kafkatest.New(t).Manager)
	assert.False(t, h.(*handler).hasEnded(), "it has no consumers yet")
}
