package kafkahttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeSource is what a test says of a manager. It records what is done to it.
type fakeSource struct {
	consumers  []kafka.ConsumerStatus
	producers  []kafka.ProducerStatus
	lags       []kafka.PartitionLag
	lagErr     error
	previews   []kafka.SeekPreview
	previewErr error
	report     kafka.RedriveReport
	ready      error
	healthy    error

	mu    sync.Mutex
	did   []string
	err   error // of what is done
	block bool  // Resolve waits for the end of its context
}

func (s *fakeSource) Consumers() []kafka.ConsumerStatus {
	return append([]kafka.ConsumerStatus(nil), s.consumers...)
}

func (s *fakeSource) Consumer(name string) (kafka.ConsumerStatus, error) {
	for _, c := range s.consumers {
		if strings.EqualFold(c.JobName, name) {
			return c, nil
		}
	}
	return kafka.ConsumerStatus{}, fmt.Errorf("kafka: consumer %q: %w", name, kafka.ErrUnknownConsumer)
}

func (s *fakeSource) Producers() []kafka.ProducerStatus { return s.producers }
func (s *fakeSource) Ready() error                      { return s.ready }
func (s *fakeSource) Healthy() error                    { return s.healthy }

func (s *fakeSource) Lag(_ context.Context, name string) ([]kafka.PartitionLag, error) {
	return s.lags, s.lagErr
}

func (s *fakeSource) Subscribe(func(kafka.Event)) (stop func()) { return func() {} }

func (s *fakeSource) do(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, fmt.Sprintf(format, args...))
	return s.err
}

func (s *fakeSource) SetConsumerSwitch(name string, on bool) error {
	return s.do("switch %s %v", name, on)
}

func (s *fakeSource) Resolve(ctx context.Context, name string, p kafka.TopicPartition, offset int64, do kafka.Failure) error {
	if s.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.do("resolve %s %v %d %v", name, p, offset, do)
}

func (s *fakeSource) EndHold(name string) error { return s.do("end-hold %s", name) }

func (s *fakeSource) Pause(name string, ps ...kafka.TopicPartition) error {
	return s.do("pause %s %v", name, ps)
}

func (s *fakeSource) Resume(name string, ps ...kafka.TopicPartition) error {
	return s.do("resume %s %v", name, ps)
}

func (s *fakeSource) SetRate(name string, perSecond float64) error {
	return s.do("rate %s %v", name, perSecond)
}

func (s *fakeSource) PreviewSeek(_ context.Context, name string, to kafka.Position, ps ...kafka.TopicPartition) ([]kafka.SeekPreview, error) {
	if s.previewErr != nil {
		return nil, s.previewErr
	}
	return s.previews, nil
}

func (s *fakeSource) Redrive(ctx context.Context, cfg kafka.RedriveConfig) (kafka.RedriveReport, error) {
	if s.block {
		<-ctx.Done()
		return s.report, fmt.Errorf("kafka: redrive: %w", ctx.Err())
	}
	return s.report, s.do("redrive %s to %q limit %d rate %v start %v since %v dry %v", cfg.JobName, cfg.To, cfg.Limit, cfg.Rate, cfg.FromStart, cfg.Since, cfg.DryRun)
}

func (s *fakeSource) Seek(ctx context.Context, name string, to kafka.Position, ps ...kafka.TopicPartition) error {
	if s.block {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.do("seek %s %v %v", name, to, ps)
}

func (s *fakeSource) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.did...)
}

// newTest returns a handler of s that ends with the test.
func newTest(t testing.TB, s *fakeSource, opts ...Option) *handler {
	h := newHandler(s, opts...)
	t.Cleanup(h.history.end)
	return h
}

// everything is a source in which all is set that can be, each text with word in it.
func everything(word string) *fakeSource {
	now := time.Now()
	fails := func(what string) error { return fmt.Errorf("%s: %s", what, word) }
	name := "job " + word
	status := kafka.ConsumerStatus{
		JobName: name, Topics: []string{"topic-" + word}, Group: "group " + word, ClientID: "client " + word,
		Switch: true, State: kafka.StateRunning, Reason: fails("reason"), Since: now.Add(-time.Minute),
		Errors: 3, NextRetry: now.Add(time.Minute), DriverError: fails("driver"), DriverErrorAt: now,
		Held:        &kafka.HeldStatus{Since: now, Until: now.Add(time.Minute), Err: fails("held")},
		PolicyError: fails("policy"), CommitError: fails("commit"), DeadLetters: 1234, Skipped: 5, Retried: 6, PassedOver: 7, Unmarked: 8, RetryTopics: []string{"retry-" + word}, Forwards: true, MaxRate: 12.5,
		PausedPartitions: []kafka.TopicPartition{{Topic: "topic-" + word, Partition: 9}},
		TopicErrors:      []kafka.TopicError{{Topic: "topic-" + word, Partition: -1, Err: fails("topic"), At: now}},
		Partitions: []kafka.PartitionStatus{{
			Topic: "topic-" + word, Partition: 0, Position: 42, Committed: 41, HighWatermark: 1242, Lag: 1200,
			Buffered: 10, BufferedBytes: 1000, Paused: true, RateLimited: true, InFlight: 1, StandsSince: now.Add(-time.Hour), Oldest: now.Add(-2 * time.Hour),
			FetchError: fails("fetch"), FetchErrorAt: now, Failing: 42, Errors: 7, LastError: fails("handler"), NextRetry: now.Add(30 * time.Second),
			ForwardError: fails("forward"), StuckSince: now.Add(-time.Minute),
		}, {Topic: "retry-" + word, Failing: -1, Delay: time.Minute, Due: now.Add(time.Second), Oldest: now.Add(time.Second), Buffered: 1}},
		Stragglers: []kafka.TopicPartition{{Topic: "topic-" + word, Partition: 1}},
	}
	others := []kafka.ConsumerStatus{status}
	for state := kafka.StateOff; state <= kafka.StateStopped; state++ {
		others = append(others, kafka.ConsumerStatus{JobName: fmt.Sprintf("%v %s", state, word), State: state, Switch: state != kafka.StateOff, Reason: fails(state.String()), Since: now})
	}
	return &fakeSource{
		consumers: others,
		producers: []kafka.ProducerStatus{{ID: "producer " + word, ClientID: "client " + word, Unacknowledged: 2, UnacknowledgedBytes: 300}},
		lags: []kafka.PartitionLag{
			{Topic: "topic-" + word, Partition: 0, Committed: 41, Start: 41, End: 1242, Lag: 1201},
			{Topic: "topic-" + word, Partition: -1, Committed: -1, Start: -1, Begin: -1, End: -1, Lag: -1, Err: fails("lag")},
		},
		ready: fails("ready"), healthy: fails("healthy"),
	}
}

// allEvents are one of each kind, and the last one.
func allEvents(word string) []kafka.Event {
	err := errors.New(word)
	tp := kafka.TopicPartition{Topic: "topic-" + word, Partition: 3}
	tps := []kafka.TopicPartition{tp}
	job := "job " + word
	return []kafka.Event{
		kafka.StateChanged{JobName: job, From: kafka.StateRunning, To: kafka.StateDisabled, Reason: err},
		kafka.PartitionsAssigned{JobName: job, Group: word, Partitions: tps},
		kafka.PartitionsRevoked{JobName: job, Group: word, Partitions: tps, Stuck: tps},
		kafka.PartitionsLost{JobName: job, Partitions: tps, Err: err},
		kafka.HandlerFailed{JobName: job, Topic: tp.Topic, Offset: 4, Err: err, NextRetry: time.Now()},
		kafka.RecordSkipped{JobName: job, TopicPartition: tp, Err: err},
		kafka.RecordForwarded{JobName: job, TopicPartition: tp, To: tp, Reason: word, Err: err},
		kafka.RecordRetried{JobName: job, TopicPartition: tp, To: tp, Delay: time.Minute, Err: err},
		kafka.RecordPassedOver{JobName: job, TopicPartition: tp, Owner: word},
		kafka.ForwardFailed{JobName: job, TopicPartition: tp, ToTopic: word, Err: err},
		kafka.ConsumerHeld{JobName: job, Until: time.Now(), Err: err},
		kafka.ConsumerHeld{JobName: job},
		kafka.PauseChanged{JobName: job, Paused: true, Partitions: tps},
		kafka.PauseChanged{JobName: job},
		kafka.PositionsMoved{JobName: job, To: kafka.AtEnd(), Partitions: []kafka.MovedPartition{{TopicPartition: tp, Offset: 4}}},
		kafka.RateChanged{JobName: job, To: 20},
		kafka.RateChanged{JobName: job, From: 20},
		kafka.RedriveBegan{JobName: job, Group: word, Topics: []string{tp.Topic}, To: word},
		kafka.RedriveEnded{JobName: job, Group: word, DryRun: true, Err: err},
		kafka.CommitFailed{JobName: job, Err: err},
		kafka.DriverError{JobName: job, Topic: tp.Topic, Err: err},
		kafka.DataLoss{JobName: job, Topic: tp.Topic, From: 1, To: 2, Recreated: true},
		kafka.NoPosition{JobName: job, Topic: tp.Topic, Start: 1},
		kafka.CallbackPanicked{ProducerID: word, Err: &kafka.PanicError{Value: word}},
		kafka.SendFailed{ProducerID: word, Topic: word, Err: err},
		kafka.ShutdownEnded{Err: err},
	}
}

// get answers a GET.
func get(t testing.TB, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// post answers a POST of the same origin.
func post(t testing.TB, h http.Handler, path, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
