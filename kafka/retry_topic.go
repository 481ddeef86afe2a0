package kafka

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// A RetryTopic is a topic in which records wait that their handler has failed, each for
// Delay. Then the same consumer hands them out once more. A record that waits there holds
// up no other one, and its wait survives the process.
type RetryTopic struct {
	// Delay is how long a record waits, from 100ms to 24h in whole milliseconds. It is
	// measured from the record's timestamp, which is when it was sent to the topic. A
	// record that is dated ahead, or not dated, waits for Delay from when this process has
	// fetched it first, and one that is dated ahead never longer than its timestamp says.
	// A clock of its sender that is behind shortens the wait by as much.
	Delay time.Duration

	// Topic is the name of the topic. In it {topic} is replaced by the topic in which
	// the record first lay, {group} by the consumer's group, and {delay} by Delay in the
	// largest unit that divides it: 500ms, 5s, 10m, 24h. {group} is required: no two
	// groups share a retry topic. Default "{topic}.{group}.retry.{delay}". The topic must
	// exist when the consumer starts.
	Topic string

	// Drain says that the topic is read and no longer written: for one that is to be
	// removed or renamed, until its lag is 0.
	Drain bool
}

// Bounds of FailurePolicy.RetryTopics.
const (
	defaultRetryTopic = "{topic}.{group}.retry.{delay}"
	leastRetryDelay   = 100 * time.Millisecond
	mostRetryDelay    = 24 * time.Hour
	mostRetryTopics   = 8
)

// name returns the name of the topic for records that first lay in source.
func (t *RetryTopic) name(source, group string) string {
	return strings.NewReplacer("{topic}", source, "{group}", group, "{delay}", delayText(t.Delay)).Replace(t.Topic)
}

// delayText returns a delay in the largest unit that divides it.
func delayText(d time.Duration) string {
	for _, unit := range []struct {
		is   time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= unit.is && d%unit.is == 0 {
			return strconv.FormatInt(int64(d/unit.is), 10) + unit.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// Retries are the retry topics of a consumer. A nil retries has none.
type retries struct {
	group   string
	sources []string // the topics that are read without them
	tiers   []RetryTopic
	places  map[string]retryPlace // by topic
}

// A retryPlace says which tier a retry topic is, for records of which topic, and how long
// they wait there.
type retryPlace struct {
	tier   int
	source string // one whose records come here
	delay  time.Duration
}

// newRetries returns the retry topics of a configuration that has been checked.
func newRetries(c *ConsumerConfig) *retries {
	tiers := c.Failure.RetryTopics
	if len(tiers) == 0 {
		return nil
	}
	r := &retries{group: c.ConsumerGroup, sources: c.Topics, tiers: tiers, places: make(map[string]retryPlace)}
	for i := range tiers {
		for _, source := range c.Topics {
			name := tiers[i].name(source, r.group)
			if _, known := r.places[name]; !known {
				r.places[name] = retryPlace{i, source, tiers[i].Delay}
			}
		}
	}
	return r
}

// topics returns the names of the retry topics, in the order of the tiers. With written
// it leaves out those that are only drained.
func (r *retries) topics(written bool) (all []string) {
	if r == nil {
		return nil
	}
	for i := range r.tiers {
		if written && r.tiers[i].Drain {
			continue
		}
		for _, source := range r.sources {
			if name := r.tiers[i].name(source, r.group); !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

// place returns what a topic is, if it is a retry topic.
func (r *retries) place(topic string) (p retryPlace, is bool) {
	if r == nil {
		return retryPlace{}, false
	}
	p, is = r.places[topic]
	return p, is
}

// home returns the topic that {topic} stands for, of a record that first lay in topic.
func (r *retries) home(topic string) string {
	if p, is := r.place(topic); is { // of a record that came there by another way
		return p.source
	}
	return topic
}

// next returns the retry topic for a record that lies in topic at and first lay in the
// topic source. It is never a topic before at. ok is false if none is left.
func (r *retries) next(at, source string) (topic string, ok bool) {
	if r == nil {
		return "", false
	}
	from := 0
	if p, is := r.place(at); is {
		from = p.tier + 1
	}
	for i := from; i < len(r.tiers); i++ {
		if t := &r.tiers[i]; !t.Drain {
			return t.name(r.home(source), r.group), true
		}
	}
	return "", false
}

// reads reports whether the consumer reads a topic.
func (r *retries) reads(topic string) bool {
	_, is := r.place(topic)
	return is || slices.Contains(r.sources, topic)
}
