package kafkahttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// On a manager: dead letters come back to their consumer, a limit at a time.
func TestRedriveOnAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders.dlq", 1)
		h := New(k.Manager, WithControls())
		var mended atomic.Bool
		k.Start(kafka.NewConsumer(kafka.ConsumerConfig{
			JobName: "orders", Topic: "orders", ConsumerGroup: "shop", BootstrapServers: "localhost:9092",
			Failure: kafka.FailurePolicy{Then: kafka.FailureDeadLetter, MaxAttempts: 1, DeadLetter: kafka.DeadLetterConfig{Topic: "orders.dlq"}},
		}, func(context.Context, *kafka.Message) error {
			if mended.Load() {
				return nil
			}
			return errHandler
		}))
		for range 5 {
			k.WaitDead(k.Send("orders", "1", "bad"))
		}
		mended.Store(true)

		code, a := orderJSON(t, h, "redrive", `{"consumer":"orders","to":"{source}","confirm":true}`)
		assert.Equal(t, http.StatusConflict, code)
		assert.Contains(t, a["error"], "it is not known where the last redrive has ended")
		code, a = orderJSON(t, h, "redrive", `{"consumer":"orders","from":"start","confirm":true}`)
		assert.Equal(t, http.StatusBadRequest, code)
		assert.Contains(t, a["error"], "the consumer has no retry topic to which it sends")

		report := func(read, sent int) map[string]any {
			return map[string]any{"Read": float64(read), "Sent": float64(sent), "Unmatched": 0.0, "Worn": 0.0, "Foreign": 0.0, "Again": read == 5}
		}
		code, a = orderJSON(t, h, "redrive", `{"consumer":"orders","from":"start","to":"{source}","dryRun":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, map[string]any{"would": "A run would send 5 dead letters: 5 read.", "report": report(5, 5)}, a)
		time.Sleep(time.Minute)
		require.Len(t, k.Produced("orders"), 5, "nothing was sent")

		code, a = orderJSON(t, h, "redrive", `{"consumer":"orders","from":"start","to":"{source}","limit":2,"confirm":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, map[string]any{
			"done":   `2 dead letters of orders sent again: 2 read. The run has ended at its limit. To go on, redrive again from "where the last redrive ended".`,
			"report": report(2, 2), "more": true,
		}, a)
		code, a = orderJSON(t, h, "redrive", `{"consumer":"orders","to":"{source}","confirm":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, map[string]any{"done": "3 dead letters of orders sent again: 3 read.", "report": report(3, 3)}, a)
		records := k.Produced("orders")
		require.Len(t, records, 10)
		k.WaitHandled(records[5:]...)
	})
}

// An order that makes no sense names the field, its value and the rule.
func TestRedriveOrders(t *testing.T) {
	s := everything("x")
	h := newTest(t, s, WithControls())
	for body, want := range map[string]string{
		`{"consumer":"job x"}`:                                             "confirm is missing: a redrive cannot be undone; dryRun says what it would do",
		`{"consumer":"job x","to":"payments","confirm":true}`:              `to is "payments", and must be {source}, or empty for the first retry topic`,
		`{"consumer":"job x","from":"end","confirm":true}`:                 `from is "end", and must be last, start or time`,
		`{"consumer":"job x","from":"time","confirm":true}`:                "time is missing: such as 2026-11-30T02:00:00Z",
		`{"consumer":"job x","time":"2026-11-30T02:00:00Z","dryRun":true}`: `time is "2026-11-30T02:00:00Z", and has an effect with from time only`,
		`{"consumer":"job x","limit":0,"dryRun":true}`:                     "limit is 0, and must be from 1 to 100000",
		`{"consumer":"job x","limit":100001,"dryRun":true}`:                "limit is 100001, and must be from 1 to 100000",
		`{"consumer":"job x","perSecond":-1,"dryRun":true}`:                "perSecond is -1, and must be a number from 0, which is no bound",
	} {
		code, a := orderJSON(t, h, "redrive", body)
		assert.Equal(t, http.StatusBadRequest, code, body)
		assert.Contains(t, a["error"], want, body)
	}
	w := post(t, h, "/actions/redrive", "application/x-www-form-urlencoded", "consumer=job+x&limit=many&dryRun=true")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Empty(t, s.done())
	for body, want := range map[string]string{
		`{"consumer":"x","dryRun":true}`: `redrive x to "" limit 1000 rate 0 start false since 0001-01-01 00:00:00 +0000 UTC dry true`,
		`{"consumer":"x","from":"last","to":"{source}","limit":7,"perSecond":2.5,"confirm":true}`: `redrive x to "{source}" limit 7 rate 2.5 start false since 0001-01-01 00:00:00 +0000 UTC dry false`,
		`{"consumer":"x","from":"start","confirm":true}`:                                          `redrive x to "" limit 1000 rate 0 start true since 0001-01-01 00:00:00 +0000 UTC dry false`,
		`{"consumer":"x","from":"time","time":"2026-11-30T03:00:00+01:00","confirm":true}`:        `redrive x to "" limit 1000 rate 0 start false since 2026-11-30 02:00:00 +0000 UTC dry false`,
	} {
		s := &fakeSource{}
		code, _ := orderJSON(t, newTest(t, s, WithControls()), "redrive", body)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, []string{want}, s.done())
	}
}

// A browser without scripts: the form leads to a page with the report of the dry run, and its
// form leads back to the consumer.
func TestRedriveForms(t *testing.T) {
	s := everything("x")
	s.report = kafka.RedriveReport{Read: 10, Sent: 5, Worn: 2, Foreign: 1, Unmatched: 2}
	h := newTest(t, s, WithControls())
	form := url.Values{"consumer": {"job x"}, "from": {"time"}, "time": {"2026-11-30T02:00"}, "to": {""}, "limit": {"5"}, "perSecond": {"0.5"}, "dryRun": {"true"}}
	w := submit(t, h, "redrive", form.Encode())
	require.Equal(t, http.StatusOK, w.Code)
	assertHeaders(t, w)
	page := w.Body.String()
	assertNoInline(t, page)
	for _, want := range []string{
		"<h1>Redrive the dead letters of job x?</h1>", "A run would send 5 dead letters: 10 read. There may be more: a run ends at its limit, and the next one goes on there.",
		"2: put back three times already, and not sent. 1: of another group or topic, and not sent.",
		"<dt>Read</dt><dd>10</dd>", "<dt>Would be sent</dt><dd>5</dd>", "<dt>Worn</dt><dd>2</dd>", "<dt>Foreign</dt><dd>1</dd>", "<dt>Unmatched</dt><dd>2</dd>",
		"the first retry topic, which only this group reads", "A run sends at most 5 dead letters, at most 0.5 records per second, for at most 30 seconds.",
		"It begins at 2026-11-30 02:00:00 UTC: what an earlier redrive has sent since then is sent once more.",
		`name="from" value="time"`, `name="time" value="2026-11-30T02:00"`, `name="limit" value="5"`, `name="perSecond" value="0.5"`, `name="confirm" value="true" required`,
	} {
		assert.Contains(t, page, want)
	}
	form.Del("dryRun")
	form.Set("confirm", "true")
	w = submit(t, h, "redrive", form.Encode())
	require.Equal(t, http.StatusSeeOther, w.Code)
	to, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	assert.Contains(t, get(t, h, "/consumer?"+to.RawQuery).Body.String(), "5 dead letters of job x sent again: 10 read. The run has ended at its limit.")

	page = submit(t, h, "redrive", "consumer=job+x&from=start&to=%7Bsource%7D&dryRun=true").Body.String()
	assert.Contains(t, page, "what an earlier redrive has sent is sent once more")
	assert.Contains(t, page, "every group that reads it gets the record again")
	s.report = kafka.RedriveReport{}
	page = submit(t, h, "redrive", "consumer=job+x&dryRun=true").Body.String()
	assert.Contains(t, page, "A run would send nothing: there are no dead letters to read.")
	assert.NotContains(t, page, "<form")
}

// The page offers what the consumer has: dead letters, and a choice if it has retry topics.
func TestRedriveForm(t *testing.T) {
	page := func(s kafka.ConsumerStatus) string {
		s.JobName = "orders"
		return get(t, newTest(t, &fakeSource{consumers: []kafka.ConsumerStatus{s}}, WithControls()), "/consumer?name=orders").Body.String()
	}
	const button = "Show what a redrive would do"
	assert.NotContains(t, page(kafka.ConsumerStatus{}), button)
	assert.NotContains(t, page(kafka.ConsumerStatus{Forwards: true, State: kafka.StateStopped}), button)
	plain := page(kafka.ConsumerStatus{Forwards: true})
	assert.Contains(t, plain, button)
	assert.Contains(t, plain, `<input type="hidden" name="to" value="{source}">`)
	assert.Contains(t, page(kafka.ConsumerStatus{Forwards: true, RetryTopics: []string{"retry"}}), `<input type="radio" name="to" value="" checked>`)
}

// What the manager refuses is said in a sentence that helps, and what was sent by then.
func TestRedriveRefused(t *testing.T) {
	secret := errors.New("the-secret")
	field := &kafka.FieldError{Kind: "redrive", Name: "x", Field: "JobName", Problem: "the consumer has no DeadLetter.Topic"}
	for _, tt := range []struct {
		err  error
		sent int
		code int
		want string
	}{
		{fmt.Errorf("%w: %w", kafka.ErrRedriving, secret), 0, 409, "another redrive of the consumer runs; "},
		{fmt.Errorf("%w: %w", kafka.ErrNoPosition, secret), 0, 409, "it is not known where the last redrive has ended: "},
		{fmt.Errorf("%w: %w", kafka.ErrUnsupported, secret), 0, 501, "the driver cannot read positions of groups, which a redrive needs"},
		{secret, 1, 409, "the redrive has failed after 1 dead letter; to go on, redrive again from \"where the last redrive ended\""},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), 1, 409, "the redrive has failed after 1 dead letter; "},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), 0, 409, "no dead letter could be read in 30 seconds, and nothing was sent"},
		{secret, 0, 409, ""},
		{errors.Join(field), 0, 400, field.Error()},
	} {
		s := &fakeSource{err: tt.err, report: kafka.RedriveReport{Read: tt.sent, Sent: tt.sent}}
		const body = `{"consumer":"x","confirm":true}`
		code, a := orderJSON(t, newTest(t, s, WithControls()), "redrive", body)
		assert.Equal(t, tt.code, code)
		assert.True(t, strings.HasPrefix(a["error"].(string), tt.want), a["error"])
		code, a = orderJSON(t, newTest(t, s, WithControls(), WithoutErrors()), "redrive", body)
		assert.Equal(t, tt.code, code)
		assert.NotContains(t, a["error"], secret.Error())
		if tt.want != "" {
			assert.True(t, strings.HasPrefix(a["error"].(string), tt.want), a["error"])
		}
	}
}

// A run is bounded, says what it has sent by then, and ends with its reader.
func TestRedriveIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTest(t, &fakeSource{block: true, report: kafka.RedriveReport{Read: 40, Sent: 40}}, WithControls())
		began := time.Now()
		code, a := orderJSON(t, h, "redrive", `{"consumer":"x","confirm":true}`)
		assert.Equal(t, redriveFor, time.Since(began))
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, `40 dead letters of x sent again: 40 read. The run has ended after 30 seconds. To go on, redrive again from "where the last redrive ended".`, a["done"])
		assert.Equal(t, true, a["more"])
		code, a = orderJSON(t, h, "redrive", `{"consumer":"x","dryRun":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, "A run would send 40 dead letters: 40 read. There are more, which could not be read in 30 seconds.", a["would"])

		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest("POST", "/actions/redrive", strings.NewReader(`{"consumer":"x","confirm":true}`)).WithContext(ctx)
		r.Header.Set("Content-Type", "application/json")
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Contains(t, w.Body.String(), "the redrive has failed after 40 dead letters; to go on, redrive again from ")
	})
}
