package kafka

import (
	"slices"
	"strings"
	"time"
)

// retryTopics fills in and checks where records wait that have failed. The consumer's
// other fields have been, but for its order.
func (p *problems) retryTopics(c *ConsumerConfig) {
	const field = "Failure.RetryTopics"
	f := &c.Failure
	if len(f.RetryTopics) == 0 {
		return
	}
	f.RetryTopics = slices.Clone(f.RetryTopics)
	if f.Then == FailureKeep {
		p.add("Failure.Then", "FailureKeep does not go with RetryTopics: a record that has failed in the last one must go somewhere")
	}
	tooMany := len(f.RetryTopics) > mostRetryTopics
	if tooMany {
		p.add(field, "%d are more than %d", len(f.RetryTopics), mostRetryTopics)
	}
	if c.Order != OrderNone {
		p.add(field, "need Order to be OrderNone: a record that waits in another topic is overtaken; OrderByKey keeps the order of a key and retries in memory")
	}
	if tooMany {
		return
	}
	wrong := few{p: p, field: field}
	for i := range f.RetryTopics {
		retryTopic(&wrong, i, &f.RetryTopics[i])
	}
	if wrong.n == 0 {
		retryNames(&wrong, c)
	}
	wrong.end()
}

// retryTopic fills in and checks a retry topic by itself.
func retryTopic(wrong *few, i int, t *RetryTopic) {
	switch d := t.Delay; {
	case d == 0:
		wrong.add(i, "Delay is missing")
	case d < leastRetryDelay || d > mostRetryDelay:
		wrong.add(i, "Delay %v is outside %v to %v", d, leastRetryDelay, mostRetryDelay)
	case d%time.Millisecond != 0:
		wrong.add(i, "Delay %v is no whole number of milliseconds", d)
	}
	if t.Topic == "" {
		t.Topic = defaultRetryTopic
	}
	if !strings.Contains(t.Topic, "{group}") {
		wrong.add(i, "Topic %s has no {group}: another group would get its records", quote(t.Topic))
	}
}

// retryNames checks the names of the retry topics for each topic that is read.
func retryNames(wrong *few, c *ConsumerConfig) {
	tiers, sources, dead := map[string]int{}, setOf(c.Topics), deadLetterNames(c)
	for i := range c.Failure.RetryTopics {
		for _, source := range c.Topics {
			name := c.Failure.RetryTopics[i].name(source, c.ConsumerGroup)
			if problem := retryName(name, i, tiers, sources, dead); problem != "" {
				wrong.add(i, "for %s: %s", quote(source), problem)
				break
			}
			tiers[name] = i
		}
	}
}

// retryName returns what is wrong with the name of a retry topic of tier i, or "".
func retryName(name string, i int, tiers map[string]int, sources, dead map[string]bool) string {
	if err := validTopicToRead(name); err != nil {
		return err.Error()
	}
	other, known := tiers[name]
	switch {
	case sources[name]:
		return quote(name) + " is a topic that the consumer reads"
	case known && other != i:
		return quote(name) + " is the topic of another retry topic, too"
	case dead[name]:
		return quote(name) + " is the dead-letter topic"
	}
	return ""
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// deadLetterNames returns the names of the dead-letter topics, as far as they are known.
func deadLetterNames(c *ConsumerConfig) map[string]bool {
	names := map[string]bool{}
	if d := &c.Failure.DeadLetter; d.Topic != "" {
		for _, source := range c.Topics {
			names[d.topic(source, c.ConsumerGroup)] = true
		}
	}
	return names
}
