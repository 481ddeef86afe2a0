package kafkahttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// The lag of the group, while the consumer runs and while it is off.
func TestLagOnAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		h := New(k.Manager)
		k.Start(orders())
		k.Producer()
		k.WaitHandled(k.Send("orders", "1", "good"))
		k.WaitCommitted("orders")
		ask := func() (g groupJSON) {
			w := get(t, h, "/consumers/orders/lag")
			assert.Equal(t, http.StatusOK, w.Code)
			var raw struct {
				At           time.Time
				Lag          int64
				Unknown      int
				Partitions   []map[string]any
				Error, Extra string
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &raw))
			assert.WithinDuration(t, time.Now(), raw.At, lagFor)
			assert.Empty(t, raw.Error)
			require.NotEmpty(t, raw.Partitions)
			assert.Equal(t, "orders", raw.Partitions[0]["Topic"])
			assert.Contains(t, raw.Partitions[0], "Err")
			return groupJSON{Lag: raw.Lag, Unknown: raw.Unknown}
		}
		assert.Equal(t, groupJSON{Lag: 0}, ask())
		assert.Contains(t, get(t, h, "/lag?name=orders").Body.String(), `<span class="muted">here</span>`)
		require.NoError(t, k.SetConsumerSwitch("orders", false))
		k.WaitState("orders", kafka.StateOff)
		for range 7 {
			k.Send("orders", "1", "good")
		}
		time.Sleep(lagFor)
		assert.Equal(t, groupJSON{Lag: 7}, ask())
		page := get(t, h, "/lag?name=ORDERS")
		assert.Equal(t, http.StatusOK, page.Code)
		assert.Contains(t, page.Body.String(), "<dd><b>7</b></dd>")
		assert.NotContains(t, page.Body.String(), `<span class="muted">here</span>`)
		assert.Contains(t, get(t, h, "/consumer?name=orders").Body.String(), `<a href="lag?name=orders">Lag of the whole group</a>`)
	})
}

// A lagSource answers with what a test says.
type lagSource struct {
	fakeSource
	lag func(ctx context.Context, name string) ([]kafka.PartitionLag, error)
}

func (s *lagSource) Lag(ctx context.Context, name string) ([]kafka.PartitionLag, error) {
	return s.lag(ctx, name)
}

func newLagTest(t *testing.T, jobs int, lag func(ctx context.Context, name string) ([]kafka.PartitionLag, error)) *handler {
	s := &lagSource{lag: lag}
	for i := range jobs {
		s.consumers = append(s.consumers, kafka.ConsumerStatus{JobName: fmt.Sprint("job", i)})
	}
	h := newHandler(s)
	t.Cleanup(h.history.end)
	return h
}

// Many readers of one group cost one question, in which a reader that leaves takes nothing
// from the others. Later readers cost another.
func TestReadersShareALag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		h := newLagTest(t, 1, func(ctx context.Context, _ string) ([]kafka.PartitionLag, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
				return []kafka.PartitionLag{{Topic: "orders", Lag: 3}}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		var readers sync.WaitGroup
		first, leave := context.WithCancel(t.Context())
		readers.Go(func() {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(first, "GET", "/lag?name=job0", nil))
		})
		synctest.Wait()
		leave()
		began := time.Now()
		for i := range 1000 {
			readers.Go(func() {
				path := "/lag?name=job0"
				if i%2 == 0 {
					path = "/consumers/JOB0/lag"
				}
				w := get(t, h, path)
				assert.Equal(t, http.StatusOK, w.Code)
				assert.Equal(t, time.Second, time.Since(began))
			})
		}
		readers.Wait()
		assert.EqualValues(t, 1, asked.Load())
		time.Sleep(lagFor - time.Nanosecond)
		get(t, h, "/lag?name=job0")
		assert.EqualValues(t, 1, asked.Load())
		time.Sleep(time.Nanosecond)
		get(t, h, "/lag?name=job0")
		assert.EqualValues(t, 2, asked.Load())
	})
}

// A few groups are asked for at a time, for a bounded time. A reader that waits for another
// one's answer goes when it wants.
func TestLagIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		at, most := 0, 0
		h := newLagTest(t, 10, func(ctx context.Context, name string) ([]kafka.PartitionLag, error) {
			mu.Lock()
			at++
			most = max(most, at)
			mu.Unlock()
			<-ctx.Done()
			time.Sleep(time.Second) // until all others have given up
			mu.Lock()
			at--
			mu.Unlock()
			return []kafka.PartitionLag{{Topic: "orders", Lag: -1, Err: ctx.Err()}}, nil
		})
		began := time.Now()
		var readers sync.WaitGroup
		var answered, busy atomic.Int32
		for i := range 10 {
			readers.Go(func() {
				w := get(t, h, fmt.Sprintf("/consumers/job%d/lag", i))
				if w.Code == http.StatusOK {
					assert.Contains(t, w.Body.String(), context.DeadlineExceeded.Error())
					assert.Equal(t, lagTimeout+time.Second, time.Since(began))
					answered.Add(1)
					return
				}
				assert.Equal(t, http.StatusServiceUnavailable, w.Code)
				assert.Contains(t, w.Body.String(), errBusy.Error())
				assert.Equal(t, lagTimeout, time.Since(began))
				busy.Add(1)
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/consumers/job0/lag", nil))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, time.Second, time.Since(began))
		readers.Wait()
		assert.Equal(t, maxQuestions, most)
		assert.EqualValues(t, maxQuestions, answered.Load())
		assert.EqualValues(t, 10-maxQuestions, busy.Load())
		time.Sleep(lagFor)
		h.lags.question("none")
		assert.Len(t, h.lags.last, 1, "old answers are forgotten")
	})
}

// A question that panics leaves no reader behind.
func TestLagPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLagTest(t, 1, func(context.Context, string) ([]kafka.PartitionLag, error) {
			time.Sleep(time.Second)
			panic("no")
		})
		var readers sync.WaitGroup
		readers.Go(func() { assert.Panics(t, func() { get(t, h, "/lag?name=job0") }) })
		synctest.Wait()
		assert.Equal(t, http.StatusServiceUnavailable, get(t, h, "/lag?name=job0").Code)
		readers.Wait()
		assert.Empty(t, h.lags.places)
	})
}

// What the manager refuses is said, with what is known in spite of it.
func TestLagIsRefused(t *testing.T) {
	known := []kafka.PartitionLag{{Topic: "orders", Lag: 3}}
	for _, tt := range []struct {
		parts []kafka.PartitionLag
		err   error
		code  int
		says  string
	}{
		{nil, fmt.Errorf("lag: %w", kafka.ErrUnsupported), http.StatusNotImplemented, "The lag is not known."},
		{known, kafka.ErrClosed, http.StatusServiceUnavailable, "Not all of it is known."},
		{nil, errors.New("no brokers"), http.StatusServiceUnavailable, "The lag is not known."},
	} {
		s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "x"}}, lags: tt.parts, lagErr: tt.err}
		for _, h := range []*handler{newTest(t, s), newTest(t, s, WithoutErrors())} {
			why := tt.err.Error()
			if h.hideErrors {
				why = errHidden.Error()
			}
			for _, path := range []string{"/lag?name=x", "/consumers/x/lag"} {
				w := get(t, h, path)
				assert.Equal(t, tt.code, w.Code, path)
				assert.Contains(t, w.Body.String(), why, path)
				assert.Equal(t, h.hideErrors, !strings.Contains(w.Body.String(), tt.err.Error()), path)
			}
			page := get(t, h, "/lag?name=x").Body.String()
			assert.Contains(t, page, tt.says)
			assert.Equal(t, tt.parts != nil, strings.Contains(page, `<th scope="row">orders/0`))
		}
	}
}

// The page has the rows with errors first, then those with the most lag, and not all of many.
func TestLagRows(t *testing.T) {
	s := &fakeSource{consumers: []kafka.ConsumerStatus{{JobName: "x"}}}
	for i := range int32(maxParts + 5) {
		s.lags = append(s.lags, kafka.PartitionLag{Topic: "orders", Partition: i, Lag: int64(i)})
	}
	s.lags[2].Err, s.lags[2].Lag = errors.New("no leader"), -1
	h := newTest(t, s)
	w := get(t, h, "/lag?name=x")
	page := w.Body.String()
	assert.Less(t, strings.Index(page, "orders/2 "), strings.Index(page, "orders/1004<"))
	assert.Less(t, strings.Index(page, "orders/1004<"), strings.Index(page, "orders/1003<"))
	assert.Contains(t, page, "5 more partitions, whose lag is no larger")
	assert.Contains(t, page, "and 1 row without a known lag")
	assert.Less(t, len(page), 500_000)
	var all groupJSON
	body := get(t, h, "/consumers/x/lag").Body.Bytes()
	assert.Equal(t, maxParts+5, strings.Count(string(body), `"Topic":"orders"`))
	require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(body), `"Err":"no leader"`, `"Err":null`)), &all))
	assert.Equal(t, 1, all.Unknown)
}
