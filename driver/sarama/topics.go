package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// lookEvery is the time between two looks at the topics.
	lookEvery = 5 * time.Second

	// newPartitionLook is how often Sarama looks for new partitions, as the leader
	// of the group. It looks at metadata that may be as old again.
	newPartitionLook = 20 * time.Second

	// reportEvery is how often a topic that cannot be read is reported, and how long
	// one is left alone whose leader has refused a fetch.
	reportEvery = time.Minute

	// positionWait is how long a topic is left alone whose positions cannot be had,
	// for a reason that passes by itself.
	positionWait = 3 * lookEvery

	// surveyTimeout bounds the wait for what a join has to know of the topics.
	surveyTimeout = 2 * time.Second
)

// errNoTopic is why a join is not attempted. What it is for each topic has been
// reported.
var errNoTopic = errors.New("no topic can be read")

// errTopicsChanged ends a session that does not subscribe to a topic that can be
// read by now.
var errTopicsChanged = errors.New("another topic can be read")

// A survey is what one broker says of the consumer's topics.
type survey struct {
	cluster string
	topics  map[string]topicState
}

type topicState struct {
	err        error    // why it cannot be read
	id         ibm.Uuid // noID if the broker does not say
	partitions []int32
}

// askTopics asks b for topics. A topic that cannot be read is no error.
func askTopics(b *ibm.Broker, version ibm.KafkaVersion, topics []string) (survey, error) {
	req := ibm.NewMetadataRequest(version, topics)
	req.IncludeTopicAuthorizedOperations = true
	resp, err := b.GetMetadata(req)
	if err != nil {
		return survey{}, err
	}
	s := survey{topics: map[string]topicState{}}
	if resp.ClusterID != nil {
		s.cluster = *resp.ClusterID
	}
	for _, t := range resp.Topics {
		state := topicState{id: t.Uuid}
		if t.Err != ibm.ErrLeaderNotAvailable {
			state.err = topicError(t, resp.Version)
		}
		for _, p := range t.Partitions {
			state.partitions = append(state.partitions, p.ID)
		}
		slices.Sort(state.partitions)
		s.topics[t.Name] = state
	}
	return s, nil
}

// topicError returns why t cannot be read. To describe a topic may be allowed, and
// to read it not: a broker says so only if it is asked for it (KIP-430).
func topicError(t *ibm.TopicMetadata, version int16) error {
	const describe, read = 1 << 8, 1 << 3
	switch ops := t.TopicAuthorizedOperations; {
	case t.Err != ibm.ErrNoError:
		return t.Err
	case version >= 8 && ops > 0 && ops&describe != 0 && ops&read == 0:
		return ibm.ErrTopicAuthorizationFailed
	}
	return nil
}

// survey asks the coordinator for the consumer's topics. It is the broker that
// keeps the positions, so its view is the one that matters.
func (c *consumer) survey(ctx context.Context) (survey, error) {
	return exchange(ctx, c.committer, func(coordinator *ibm.Broker) (survey, error) {
		return askTopics(coordinator, c.conf.Version, c.cfg.Topics)
	})
}

// choose returns the topics to subscribe to: those that can be read. One that is
// missing, or that this member may not read, is reported and keeps the member from
// no other. Without an answer the member subscribes to all, and Sarama waits for the
// coordinator.
func (c *consumer) choose(ctx context.Context) ([]string, error) {
	asking, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	s, err := c.survey(asking)
	if isPermanent(c.wrap(err)) {
		return nil, err
	}
	if err != nil {
		return c.subscribe(c.cfg.Topics), nil
	}
	c.compare(ctx, s)
	var readable []string
	var reasons []error
	for _, topic := range c.cfg.Topics {
		if reason := c.unreadable(topic, s); reason != nil {
			reasons = append(reasons, wrap(reason))
			c.report(topic, reason)
		} else {
			readable = append(readable, topic)
		}
	}
	if len(readable) > 0 {
		return c.subscribe(readable), nil
	}
	if slices.IndexFunc(reasons, func(err error) bool { return !isPermanent(err) }) < 0 {
		return nil, errors.Join(reasons...) // what is missing may appear; this will not
	}
	return nil, errNoTopic
}

// unreadable returns why a topic cannot be read, as s and the leaders say.
func (c *consumer) unreadable(topic string, s survey) error {
	c.mu.Lock()
	d, denied := c.denied[topic]
	c.mu.Unlock()
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
	reason error
	until  time.Time
}

// deny leaves a topic alone for a while.
func (c *consumer) deny(topic string, reason error, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied[topic] = denial{reason, time.Now().Add(wait)}
}

// without subscribes to topics but those of which the positions of a partition cannot
// be had or made durable: Sarama, which asks for all positions at once when a session
// begins, would not begin it. Such a topic is reported and left alone for a while. If
// there is no other, the join fails.
func (c *consumer) without(topics []string, failed map[partition]error) ([]string, error) {
	reasons := map[string]error{}
	for p, err := range failed {
		if reasons[p.topic] == nil || isPermanent(wrap(err)) {
			reasons[p.topic] = fmt.Errorf("position of partition %d: %w", p.id, err)
		}
	}
	if len(reasons) == 0 {
		return topics, nil
	}
	left := slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return reasons[topic] != nil })
	if len(left) == 0 {
		return nil, errors.Join(slices.Collect(maps.Values(reasons))...)
	}
	for topic, reason := range reasons {
		wait := positionWait
		if isPermanent(wrap(reason)) {
			wait = reportEvery
		}
		c.deny(topic, reason, wait)
		c.report(topic, reason)
	}
	return c.subscribe(left), nil
}

func (c *consumer) subscribe(topics []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribed = topics
	return topics
}

// isSubscribed reports whether the group is joined for a topic.
func (c *consumer) isSubscribed(topic string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.subscribed, topic)
}

// A reported error of a topic is reported again when it changes, or after a time.
type reported struct {
	code string
	at   time.Time
}

// report tells that a topic cannot be read.
func (c *consumer) report(topic string, reason error) {
	now := reported{codeOf(reason), time.Now()}
	c.mu.Lock()
	last := c.reports[topic]
	due := last.code != now.code || now.at.Sub(last.at) >= reportEvery
	if due {
		c.reports[topic] = now
	}
	c.mu.Unlock()
	if due {
		c.tell(&driver.PartitionError{Topic: topic, Partition: -1, Offset: -1, Err: wrap(reason)})
	}
}

func codeOf(err error) string {
	var known *driver.Error
	if errors.As(wrap(err), &known) {
		return known.Code
	}
	return ""
}

// lookOut looks at the topics now and then, and whenever there is a doubt, until
// ctx ends.
func (c *consumer) lookOut(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.doubts:
		case <-ctx.Done():
			return
		}
		c.look(ctx)
	}
}

// doubt has the topics looked at soon.
func (c *consumer) doubt() {
	select {
	case c.doubts <- struct{}{}:
	default:
	}
}

// look ends the session if a topic has been created again, or can be read that the
// member has not subscribed to.
func (c *consumer) look(ctx context.Context) {
	s, err := c.survey(ctx)
	if err != nil {
		return // heartbeats and commits go to the same broker, and report it
	}
	c.compare(ctx, s)
	c.mu.Lock()
	subscribed, joined := c.subscribed, c.membership.current() != nil
	c.mu.Unlock()
	for _, topic := range c.cfg.Topics {
		if reason := c.unreadable(topic, s); reason != nil {
			c.report(topic, reason)
		} else if joined && !slices.Contains(subscribed, topic) {
			c.end(errTopicsChanged)
		}
	}
}
