package otelkafka

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
)

// topics says what is shown in place of a topic's name.
type topics struct {
	named func(topic string) string // the user's templates; nil: none
	shown *names                    // what metrics have shown
}

func newTopics(template func(string) string) *topics { return &topics{template, newNames(1000)} }

// template returns what stands for a topic's name, or "". A panic of the user's
// function is none of the collector's: then nothing does.
func (t *topics) template(topic string) (template string) {
	if t.named == nil || topic == "" {
		return ""
	}
	defer func() {
		if recover() != nil {
			template = ""
		}
	}()
	return text(t.named(topic))
}

// destination appends what metrics show of a topic: its template or its name,
// and nothing of what can be none, nor of the topics after the first thousand.
func (t *topics) destination(attrs []attribute.KeyValue, topic, template string) []attribute.KeyValue {
	switch {
	case template != "" && t.shown.allow(template):
		return append(attrs, semconv.MessagingDestinationTemplate(template))
	case template == "" && topic != "" && canBeTopic(topic) && t.shown.allow(topic):
		return append(attrs, semconv.MessagingDestinationName(topic))
	}
	return attrs
}

// maxTopicBytes is the brokers' limit.
const maxTopicBytes = 249

// nameOfTopic returns what spans show of a topic's name. What can be none, as a
// send is refused for, is shown as far as it is text: one attribute that is no
// UTF-8 would keep a whole batch of spans from being exported.
func nameOfTopic(name string) string {
	if canBeTopic(name) {
		return name
	}
	return text(name)
}

func canBeTopic(name string) bool {
	return len(name) <= maxTopicBytes && !strings.ContainsFunc(name, notInTopics)
}

func notInTopics(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}
