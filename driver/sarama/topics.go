package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
)

const (
	// lookEvery is the time between two looks at the topics.
	lookEvery = 5 * time.Second

	// newPartitionLook is how often Sarama looks for new partitions, as the leader of the
	// group. The metadata that it looks at may be as old again.
	newPartitionLook = 20 * time.Second

	// reportEvery is how often a topic that cannot be read is reported, and how long a
	// topic is left alone whose leader has refused a fetch.
	reportEvery = time.Minute

	// positionWait is how long a topic is left alone whose positions cannot be read or
	// made durable, for a reason that passes by itself.
	positionWait = 3 * lookEvery

	// surveyTimeout bounds the wait for the survey before a join.
	surveyTimeout = 2 * time.Second
)

// errNoTopic is why a join is not attempted. The reason of each topic has been reported.
var errNoTopic = errors.New("no topic can be read")

// errTopicsChanged ends a session that does not subscribe to a topic that has become
// readable.
var errTopicsChanged = errors.New("another topic can be read")

// topics are the topics of a consumer: which of them can be read, and which topic each
// name stands for.
type topics struct {
	names       []string
	coordinator *coordinator
	membership  *membership
	core        *core.Calls
	known       *incarnation.Topics
	soon        chan struct{} // the topics have to be looked at

	// restart is called with topics that were created again. It ends their claims.
	restart func(changed map[string]bool)

	asking sync.WaitGroup // requests to single brokers

	mu         sync.Mutex          // guards what follows
	subscribed []string            // the topics that the group is joined for
	refusals   int                 // errors of single topics since a session lasted
	denied     map[string]denial   // topics that are left alone for a while
	reports    map[string]reported // the latest report, by topic
}

func newTopics(names []string, m *membership, core *core.Calls) *topics {
	return &topics{
		names: names, membership: m, core: core,
		known: incarnation.New(), soon: make(chan struct{}, 1),
		denied: map[string]denial{}, reports: map[string]reported{},
	}
}

// choose returns the topics to subscribe to: those that can be read. A topic that is
// missing, or that this member may not read, is reported and keeps the member from no
// other. Without an answer the member subscribes to all, and Sarama waits for the
// coordinator.
func (t *topics) choose(ctx context.Context) ([]string, error) {
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	s, err := t.coordinator.survey(asking)
	if isPermanent(t.coordinator.wrap(err)) {
		return nil, err
	}
	if err != nil {
		return t.subscribe(t.names), nil
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
		return t.subscribe(readable), nil
	}
	if slices.IndexFunc(reasons, func(err error) bool { return !isPermanent(err) }) < 0 {
		return nil, errors.Join(reasons...) // a missing topic may appear; these reasons stay
	}
	return nil, errNoTopic
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
		return ibm.ErrUnknownTopicOrPartition
	case denied && time.Now().Before(d.until):
		return d.reason
	}
	return nil
}

// A denial is why a topic is left alone for a while.
type denial struct {
	reason   error
	until    time.Time
	position bool // it is about a position of the group
}

// deny leaves a topic alone for a while.
func (t *topics) deny(topic string, reason error, wait time.Duration) {
	t.note(topic, denial{reason: reason, until: time.Now().Add(wait)})
}

// denyPosition leaves a topic alone for a while, and reports that, as a position in it
// cannot be read or made durable.
func (t *topics) denyPosition(topic string, reason error) {
	wait := positionWait
	if isPermanent(wrap(reason)) {
		wait = reportEvery
	}
	t.note(topic, denial{reason: reason, until: time.Now().Add(wait), position: true})
	t.report(topic, reason)
}

func (t *topics) note(topic string, d denial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.denied[topic] = d
}

// recovered reports whether the positions in a topic can be read that was left alone because
// of one. If not, the topic is left alone again: to join for it would disturb the whole
// group without success.
func (t *topics) recovered(ctx context.Context, topic string, ids []int32) bool {
	t.mu.Lock()
	d := t.denied[topic]
	t.mu.Unlock()
	if !d.position {
		return true
	}
	var partitions []partition
	for _, id := range ids {
		partitions = append(partitions, partition{Topic: topic, ID: id})
	}
	at, err := t.coordinator.committed(ctx, partitions)
	if err != nil {
		return false // the next look asks again
	}
	reason := positionReasons(at.Failed)[topic]
	if reason != nil {
		t.denyPosition(topic, reason)
	}
	return reason == nil
}

// positionReasons returns, by topic, why a position is not known or not durable. A
// permanent reason comes first.
func positionReasons(failed map[partition]error) map[string]error {
	reasons := map[string]error{}
	for p, err := range failed {
		if reasons[p.Topic] == nil || isPermanent(wrap(err)) {
			reasons[p.Topic] = fmt.Errorf("position of partition %d: %w", p.ID, err)
		}
	}
	return reasons
}

// without subscribes to topics except those with a partition whose position cannot be
// read or made durable: Sarama, which asks for all positions at once when a session
// begins, would not begin it. Such a topic is reported and left alone for a while. If no
// topic is left, the join fails.
func (t *topics) without(topics []string, failed map[partition]error) ([]string, error) {
	reasons := positionReasons(failed)
	if len(reasons) == 0 {
		return topics, nil
	}
	left := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return reasons[topic] != nil })
	if len(left) == 0 {
		return nil, errors.Join(slices.Collect(maps.Values(reasons))...)
	}
	for topic, reason := range reasons {
		t.denyPosition(topic, reason)
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

func codeOf(err error) string {
	var known *driver.Error
	if errors.As(wrap(err), &known) {
		return known.Code
	}
	return ""
}

// lookOut looks at the topics from time to time, and whenever lookSoon asks for it, until ctx
// ends.
func (t *topics) lookOut(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-t.soon:
		case <-ctx.Done():
			return
		}
		t.look(ctx)
	}
}

// lookSoon has the topics looked at soon.
func (t *topics) lookSoon() {
	select {
	case t.soon <- struct{}{}:
	default:
	}
}

// look ends the session if a topic was created again, or if a topic can be read that the
// member has not subscribed to, with its positions.
func (t *topics) look(ctx context.Context) {
	s, err := t.coordinator.survey(ctx)
	if err != nil {
		return // heartbeats and commits go to the same broker, and report it
	}
	t.compare(ctx, s)
	joined := t.membership.current() != nil
	for _, topic := range t.names {
		if reason := t.unreadable(topic, s); reason != nil {
			t.report(topic, reason)
		} else if joined && !t.isSubscribed(topic) && t.recovered(ctx, topic, s.topics[topic].partitions) {
			t.membership.end(errTopicsChanged)
		}
	}
}

// passes reports whether err, which is permanent for one topic, leaves other topics to be
// read. The look at the topics before the next join decides which. The error does not name
// its topic, so passes returns false after some errors in a row.
func (t *topics) passes(err error) bool {
	if len(t.names) == 1 || !isCode(err, ibm.ErrTopicAuthorizationFailed, ibm.ErrInvalidTopic) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusals++
	return t.refusals < maxRefusals
}

// maxRefusals is how many refusals of single topics in a row end Run.
const maxRefusals = 5

// settled notes that a session has lasted.
func (t *topics) settled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusals = 0
}
