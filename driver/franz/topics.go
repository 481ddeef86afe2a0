package franz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

const (
	// lookEvery is the time between two looks at the topics.
	lookEvery = 5 * time.Second

	// reportEvery is how often a topic that cannot be read is reported, and how long a
	// topic is left alone whose leader has refused a fetch.
	reportEvery = time.Minute

	// surveyTimeout bounds a question to brokers for which a join or a claim waits.
	surveyTimeout = 2 * time.Second
)

// errNoTopic is why a join is not attempted. The reason of each topic has been reported.
var errNoTopic = errors.New("no topic can be read")

// errTopicsChanged ends a session in which a partition could not be started, for a reason
// that may have passed.
var errTopicsChanged = errors.New("a partition is to be started once more")

// topics are the topics of a consumer: which of them can be read, and which topic each
// name stands for.
type topics struct {
	names       []string
	coordinator *coordinator
	membership  *membership
	core        *core.Calls
	known       *incarnation.Topics
	doubts      chan struct{} // the topics have to be looked at

	// restart is called with topics that were created again. It ends their claims.
	restart func(changed map[string]bool)

	// extend is called with topics that can be read and that the group is not joined for.
	extend func(ctx context.Context, s survey, topics []string)

	asking sync.WaitGroup // requests to single brokers

	mu         sync.Mutex          // guards what follows
	subscribed []string            // the topics that the group is joined for
	denied     map[string]denial   // topics that are left alone for a while
	reports    map[string]reported // the latest report, by topic
}

func newTopics(names []string, m *membership, core *core.Calls) *topics {
	return &topics{
		names: names, membership: m, core: core,
		known: incarnation.New(), doubts: make(chan struct{}, 1),
		denied: map[string]denial{}, reports: map[string]reported{},
	}
}

// choose returns the topics to subscribe to, those that can be read, and the survey that
// shows this. A topic that is missing, or that this member may not read, is reported and
// keeps the member from no other.
func (t *topics) choose(ctx context.Context) ([]string, survey, error) {
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	s, err := t.coordinator.survey(asking)
	if err != nil {
		return nil, s, err
	}
	t.compare(ctx, s)
	var readable []string
	var reasons []error
	for _, topic := range t.names {
		if reason := t.unreadable(topic, s); reason != nil {
			reasons = append(reasons, wrap(reason))
			t.report(topic, reason)
		} else {
			readable = append(readable, topic)
		}
	}
	if len(readable) > 0 {
		return t.subscribe(readable), s, nil
	}
	if slices.IndexFunc(reasons, func(err error) bool { return !isPermanent(err) }) < 0 {
		return nil, s, errors.Join(reasons...) // a missing topic may appear; these reasons stay
	}
	return nil, s, errNoTopic
}

// unreadable returns why a topic cannot be read, according to s and to the leaders.
func (t *topics) unreadable(topic string, s survey) error {
	t.mu.Lock()
	d, denied := t.denied[topic]
	t.mu.Unlock()
	state, known := s.topics[topic]
	switch {
	case state.err != nil:
		return state.err
	case !known:
		return kerr.UnknownTopicOrPartition
	case denied && time.Now().Before(d.until):
		return d.reason
	}
	return nil
}

// A denial is why a topic is left alone for a while.
type denial struct {
	reason error
	until  time.Time
}

// deny leaves a topic alone for a while.
func (t *topics) deny(topic string, reason error, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.denied[topic] = denial{reason, time.Now().Add(wait)}
}

// without subscribes to topics except those with a partition whose position cannot be
// read: kgo, which asks for all positions at once, would begin no claim. Such a topic is
// reported and left alone for a while. If no topic is left, the join fails.
func (t *topics) without(topics []string, failed map[partition]error) ([]string, error) {
	reasons := map[string]error{}
	for p, err := range failed {
		if reasons[p.Topic] == nil || isPermanent(wrap(err)) {
			reasons[p.Topic] = fmt.Errorf("position of partition %d: %w", p.ID, err)
		}
	}
	if len(reasons) == 0 {
		return topics, nil
	}
	left := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return reasons[topic] != nil })
	for topic, reason := range reasons {
		wait := positionWait
		if isPermanent(wrap(reason)) {
			wait = reportEvery
		}
		t.deny(topic, reason, wait)
		t.report(topic, reason)
	}
	if len(left) == 0 {
		return nil, errors.Join(slices.Collect(maps.Values(reasons))...)
	}
	return t.subscribe(left), nil
}

func (t *topics) subscribe(topics []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribed = topics
	return topics
}

// isSubscribed reports whether the group is joined for a topic.
func (t *topics) isSubscribed(topic string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.subscribed, topic)
}

// A reported error of a topic is reported again when it changes, or after a time.
type reported struct {
	code string
	at   time.Time
}

// report reports that a topic cannot be read, unless it has done so lately.
func (t *topics) report(topic string, reason error) {
	now := reported{codeOf(reason), time.Now()}
	t.mu.Lock()
	last := t.reports[topic]
	due := last.code != now.code || now.at.Sub(last.at) >= reportEvery
	if due {
		t.reports[topic] = now
	}
	t.mu.Unlock()
	if due {
		t.core.Report(&driver.PartitionError{Topic: topic, Partition: -1, Offset: -1, Err: wrap(reason)})
	}
}

// codeOf returns the code of the driver's error in err, or "".
func codeOf(err error) string {
	var known *driver.Error
	if errors.As(wrap(err), &known) {
		return known.Code
	}
	return ""
}

// lookOut looks at the topics from time to time, and whenever there is a doubt, until ctx
// ends.
func (t *topics) lookOut(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-t.doubts:
		case <-ctx.Done():
			return
		}
		t.look(ctx)
	}
}

// doubt has the topics looked at soon.
func (t *topics) doubt() {
	select {
	case t.doubts <- struct{}{}:
	default:
	}
}

// look restarts the topics that were created again, and subscribes to topics that can be
// read since a while.
func (t *topics) look(ctx context.Context) {
	s, err := t.coordinator.survey(ctx)
	if err != nil {
		return // heartbeats and commits go to the same broker, and report it
	}
	t.compare(ctx, s)
	var appeared []string
	for _, topic := range t.names {
		if reason := t.unreadable(topic, s); reason != nil {
			t.report(topic, reason)
		} else if !t.isSubscribed(topic) {
			appeared = append(appeared, topic)
		}
	}
	if len(appeared) > 0 {
		t.extend(ctx, s, appeared)
	}
}

// subscription returns the topics that the group is joined for.
func (t *topics) subscription() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.subscribed)
}
