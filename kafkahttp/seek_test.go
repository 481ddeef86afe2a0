package kafkahttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// order posts JSON, and returns the status and the answer.
func orderJSON(t *testing.T, h http.Handler, action, body string) (code int, answer map[string]any) {
	t.Helper()
	w := post(t, h, "/actions/"+action, "application/json", body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body.String())
	return w.Code, answer
}

// submit posts a form as a browser does.
func submit(t *testing.T, h http.Handler, action, form string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", "/actions/"+action, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// On a manager: a dry run says what a seek then does, to a consumer that runs and to one that
// is off.
func TestSeekOnAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 1)
		k.CreateTopic("orders.dlq", 1)
		h := New(k.Manager, WithControls())
		k.Start(orders())
		var records []*kafka.Message
		for range 3 {
			records = append(records, k.Send("orders", "1", "good"))
		}
		k.WaitHandled(records...)
		k.WaitCommitted("orders")
		noon := time.Now().Add(time.Minute).UTC()
		time.Sleep(2 * time.Minute)
		records = append(records, k.Send("orders", "1", "good"), k.Send("orders", "1", "good"))
		k.WaitHandled(records...)
		k.WaitCommitted("orders")
		attempts := func() (all []int) {
			for _, r := range records {
				all = append(all, k.Attempts(r))
			}
			return all
		}
		require.Equal(t, []int{1, 1, 1, 1, 1}, attempts())

		code, a := orderJSON(t, h, "seek", `{"consumer":"orders","to":"beginning","dryRun":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, map[string]any{
			"would":      "orders would be moved to the beginning in 1 partition. At most 5 records are handled again. Nothing was moved.",
			"partitions": []any{map[string]any{"partition": "orders/0", "from": 5.0, "to": 0.0, "again": 5.0, "skipped": 0.0}},
		}, a)
		time.Sleep(time.Minute)
		require.Equal(t, []int{1, 1, 1, 1, 1}, attempts(), "nothing was moved")

		code, a = orderJSON(t, h, "seek", fmt.Sprintf(`{"consumer":"orders","to":"time","time":%q,"confirm":true}`, noon.Format("2006-01-02T15:04:05")))
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, fmt.Sprintf("orders is moved to %s in 1 partition. At most 2 records are handled again.", noon.Format(time.RFC3339)), a["done"])
		k.WaitAttempts(records[4], 2)
		require.Equal(t, []int{1, 1, 1, 2, 2}, attempts())
		k.WaitCommitted("orders")

		code, a = orderJSON(t, h, "seek", `{"consumer":"orders","to":"offset","offset":4,"partition":"orders/0","confirm":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, "orders is moved to offset 4 in 1 partition. At most 1 record is handled again.", a["done"])
		k.WaitAttempts(records[4], 3)
		k.WaitCommitted("orders")

		require.NoError(t, k.SetConsumerSwitch("orders", false))
		k.WaitState("orders", kafka.StateOff)
		k.Send("orders", "1", "good")
		code, a = orderJSON(t, h, "seek", `{"consumer":"orders","to":"end","confirm":true}`)
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, "orders is moved to the end in 1 partition. At most 1 record is skipped.", a["done"])
		assert.Equal(t, int64(6), k.Committed("orders", "orders", 0))

		for body, want := range map[string]string{
			`{"consumer":"orders","to":"offset","offset":99,"partition":"orders/0","dryRun":true}`: "the log of orders/0 begins at 0 and ends at 6",
			`{"consumer":"orders","to":"end","partition":"payments/0","dryRun":true}`:              `it does not read topic "payments"`,
		} {
			code, a = orderJSON(t, h, "seek", body)
			assert.Equal(t, http.StatusConflict, code, body)
			assert.Contains(t, a["error"], want)
		}
	})
}

// An order that makes no sense names the field, its value and the rule.
func TestSeekOrders(t *testing.T) {
	s := everything("x")
	h := newTest(t, s, WithControls())
	for body, want := range map[string]string{
		`{"consumer":"job x","confirm":true}`:                                                  "to is missing: offset, time, beginning or end",
		`{"consumer":"job x","to":"start","confirm":true}`:                                     `to is "start", and must be offset, time, beginning or end`,
		`{"consumer":"job x","to":"offset","partition":"orders/0","confirm":true}`:             "offset is missing: to offset needs one",
		`{"consumer":"job x","to":"offset","partition":"orders/0","offset":-3,"confirm":true}`: "offset is -3, and must not be negative",
		`{"consumer":"job x","to":"offset","offset":3,"confirm":true}`:                         "partition is missing: an offset is one of one partition",
		`{"consumer":"job x","to":"end","offset":3,"confirm":true}`:                            "offset is 3, and has an effect with to offset only",
		`{"consumer":"job x","to":"end","time":"2026-11-30","confirm":true}`:                   `time is "2026-11-30", and has an effect with to time only`,
		`{"consumer":"job x","to":"time","confirm":true}`:                                      "time is missing: such as 2026-11-30T02:00:00Z",
		`{"consumer":"job x","to":"time","time":"yesterday","confirm":true}`:                   `time is "yesterday", and must be such as 2026-11-30T02:00:00Z; without a zone it is UTC`,
		`{"consumer":"job x","to":"end","partition":"orders","confirm":true}`:                  "orders",
		`{"consumer":"job x","to":"end"}`:                                                      "confirm is missing: a seek cannot be undone; dryRun says what it would do",
	} {
		code, a := orderJSON(t, h, "seek", body)
		assert.Equal(t, http.StatusBadRequest, code, body)
		assert.Contains(t, a["error"], want, body)
	}
	assert.Empty(t, s.done())
}

// What the answer counts.
func TestCountMoved(t *testing.T) {
	for _, tt := range []struct {
		moved []movedJSON
		want  string
	}{
		{[]movedJSON{{From: 10, Again: 10}}, "At most 10 records are handled again."},
		{[]movedJSON{{From: 10, Again: 0, Skipped: 1}}, "At most 1 record is skipped."},
		{[]movedJSON{{From: 10, Again: 1200}, {Skipped: 2}}, "At most 1\u202f200 records are handled again, and at most 2 records are skipped."},
		{[]movedJSON{{From: 10}}, "No record is handled again or skipped: it is there already."},
		{[]movedJSON{{From: 10, Again: 1}, {From: -1, Again: -1, Skipped: -1}}, "At most 1 record is handled again. In 1 partition the number is not known."},
		{[]movedJSON{{From: -1, Again: -1, Skipped: -1}}, "In 1 partition the number is not known."},
	} {
		assert.Equal(t, tt.want, countMoved(tt.moved))
	}
}

// A browser without scripts: the form leads to a page that says what would be done and asks,
// and its form leads back to the consumer.
func TestSeekForms(t *testing.T) {
	s := everything("x")
	s.previews = []kafka.SeekPreview{{TopicPartition: kafka.TopicPartition{Topic: "topic-x"}, From: 42, To: 2}}
	h := newTest(t, s, WithControls())
	form := url.Values{"consumer": {"job x"}, "to": {"time"}, "time": {"2026-11-30T02:00"}, "offset": {""}, "partition": {""}, "dryRun": {"true"}}
	w := submit(t, h, "seek", form.Encode())
	require.Equal(t, http.StatusOK, w.Code)
	assertHeaders(t, w)
	page := w.Body.String()
	assertNoInline(t, page)
	for _, want := range []string{
		"<h1>Move job x to 2026-11-30T02:00:00Z?</h1>", "<strong>Nothing was done yet.</strong> At most 40 records are handled again.",
		`<th scope="row">topic-x/0</th><td class="n">42</td><td class="n">2</td><td class="n">40</td><td class="n">0</td>`,
		`<input type="hidden" name="consumer" value="job x">`, `<input type="hidden" name="to" value="time">`, `<input type="hidden" name="time" value="2026-11-30T02:00">`,
		`name="confirm" value="true" required`, "upper bounds", "Partitions of other members", "Partitions of retry topics stay where they are", `href="../style.css"`,
	} {
		assert.Contains(t, page, want)
	}
	assert.NotContains(t, page, `name="dryRun"`)
	assert.NotContains(t, page, `name="offset"`)
	assert.Empty(t, s.done())

	form.Del("dryRun")
	form.Set("confirm", "true")
	w = submit(t, h, "seek", form.Encode())
	require.Equal(t, http.StatusSeeOther, w.Code)
	to, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	assert.Contains(t, get(t, h, "/consumer?"+to.RawQuery).Body.String(), "job x is moved to 2026-11-30T02:00:00Z in 1 partition. At most 40 records are handled again.")
	assert.Equal(t, []string{"seek job x 2026-11-30T02:00:00Z [topic-x/0]"}, s.done())

	page = submit(t, h, "seek", "consumer=job+x&to=offset&offset=7&partition=topic-x%2F0&dryRun=true").Body.String()
	for _, want := range []string{`name="offset" value="7"`, `name="partition" value="topic-x/0"`} {
		assert.Contains(t, page, want)
	}
	w = submit(t, h, "seek", "consumer=job+x&to=time&time=")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Contains(t, w.Body.String(), `<a href="../consumer?name=job&#43;x">Back to job x</a>`)

	for _, c := range []struct {
		status kafka.ConsumerStatus
		want   string
	}{
		{kafka.ConsumerStatus{JobName: "y"}, "The whole group is moved."},
		{kafka.ConsumerStatus{JobName: "y", Paused: true}, "The consumer is paused: records are handed out when it is resumed."},
	} {
		s.consumers = []kafka.ConsumerStatus{c.status}
		assert.Contains(t, submit(t, h, "seek", "consumer=y&to=end&dryRun=true").Body.String(), c.want)
	}
	s.previews = s.previews[:1]
	s.previews[0].To = s.previews[0].From
	page = submit(t, h, "seek", "consumer=y&to=end&dryRun=true").Body.String()
	assert.Contains(t, page, "it is there already")
	assert.NotContains(t, page, "<form", "there is nothing to confirm")
	s.previews = make([]kafka.SeekPreview, 5000)
	page = submit(t, h, "seek", "consumer=y&to=end&dryRun=true").Body.String()
	assert.Equal(t, maxParts, strings.Count(page, `<th scope="row">`))
	assert.Contains(t, page, "And 4000 more partitions.")
}

// Names on the page of a dry run stay text.
func TestSeekPageOfHostileNames(t *testing.T) {
	ask := func(word string) string {
		s := everything(word)
		s.previews = []kafka.SeekPreview{{TopicPartition: kafka.TopicPartition{Topic: word}, From: 42, To: 2}}
		form := url.Values{"consumer": {"job " + word}, "to": {"beginning"}, "dryRun": {"true"}}
		w := submit(t, newTest(t, s, WithControls()), "seek", form.Encode())
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		assertNoInline(t, w.Body.String())
		return w.Body.String()
	}
	plain := ask("word")
	for _, word := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "\x1b[31m\u202e", "{{.}}"} {
		page := ask(word)
		assert.Equal(t, tags(plain), tags(page), word)
		assert.NotContains(t, page, "\x1b")
		assert.NotContains(t, page, "\u202e")
	}
}

// What the manager refuses is said in a sentence that helps, with the error, whose text
// WithoutErrors leaves out.
func TestSeekRefused(t *testing.T) {
	secret := errors.New("the-secret")
	for _, tt := range []struct {
		err  error
		code int
		want string
	}{
		{fmt.Errorf("%w: %w", kafka.ErrNotOwned, secret), 409, "this process does not own what is to be moved; "},
		{fmt.Errorf("%w: %w", kafka.ErrNotRunning, secret), 409, "the consumer is neither running nor off; "},
		{fmt.Errorf("%w: %w", kafka.ErrGroupHasMembers, secret), 409, "the group has members; switch the consumer off in every process, and try again"},
		{fmt.Errorf("%w: %w", kafka.ErrUnsupported, secret), 501, "the driver cannot move positions"},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, secret), 409, "the brokers have not answered in time; "},
		{&kafka.SeekError{Failed: []kafka.SeekFailure{{Partition: kafka.TopicPartition{Topic: "orders", Partition: 3}, Err: secret}}}, 409, "not moved, or not known to be: orders/3"},
		{secret, 409, ""},
	} {
		for _, preview := range []bool{true, false} {
			s := &fakeSource{err: tt.err}
			if preview {
				s.previewErr = tt.err
			}
			const body = `{"consumer":"x","to":"end","confirm":true}`
			code, a := orderJSON(t, newTest(t, s, WithControls()), "seek", body)
			assert.Equal(t, tt.code, code)
			assert.True(t, strings.HasPrefix(a["error"].(string), tt.want), a["error"])
			assert.Contains(t, a["error"], secret.Error())
			code, a = orderJSON(t, newTest(t, s, WithControls(), WithoutErrors()), "seek", body)
			assert.Equal(t, tt.code, code)
			assert.NotContains(t, a["error"], secret.Error())
			if tt.want != "" {
				assert.True(t, strings.HasPrefix(a["error"].(string), tt.want), a["error"])
			}
		}
	}
}

// A seek that fails in some partitions says whether others are moved.
func TestSeekThatFailsInPart(t *testing.T) {
	failed := &kafka.SeekError{Failed: []kafka.SeekFailure{{Partition: kafka.TopicPartition{Topic: "orders", Partition: 3}, Err: errors.New("why")}}}
	of := func(partitions ...int32) (previews []kafka.SeekPreview) {
		for _, p := range partitions {
			previews = append(previews, kafka.SeekPreview{TopicPartition: kafka.TopicPartition{Topic: "orders", Partition: p}})
		}
		return previews
	}
	for want, previews := range map[string][]kafka.SeekPreview{
		"not moved, or not known to be: orders/3":                             of(3),
		"not moved, or not known to be: orders/3; other partitions are moved": of(3, 4),
	} {
		h := newTest(t, &fakeSource{err: failed, previews: previews}, WithControls(), WithoutErrors())
		_, a := orderJSON(t, h, "seek", `{"consumer":"x","to":"end","confirm":true}`)
		assert.Equal(t, want, a["error"])
	}
}

// The confirmation is asked for if any partition would move, also one that the page leaves out.
func TestSeekAsksForHiddenPartitions(t *testing.T) {
	moved := make([]movedJSON, maxParts+1)
	h := newTest(t, &fakeSource{}, WithControls())
	assert.Empty(t, h.askSeek(&order{}, kafka.AtEnd(), moved).Confirm)
	moved[maxParts].Skipped = 1
	assert.NotEmpty(t, h.askSeek(&order{}, kafka.AtEnd(), moved).Confirm)
}

// A seek goes on when its reader leaves, and is bounded; a dry run is not worth that.
func TestSeekWithoutItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSource{block: true}
		h := newTest(t, s, WithControls())
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest("POST", "/actions/seek", strings.NewReader(`{"consumer":"x","to":"end","confirm":true}`)).WithContext(ctx)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		began := time.Now()
		time.AfterFunc(time.Second, cancel)
		h.ServeHTTP(w, r)
		assert.Equal(t, seekFor, time.Since(began))
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Contains(t, w.Body.String(), "the brokers have not answered in time")
	})
}
