package kafka

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// failure fills in and checks what happens to records whose handler fails. The
// consumer's other fields have been.
func (p *problems) failure(c *ConsumerConfig) {
	f := &c.Failure
	if c.AutoCommit && !f.isZero() {
		p.add("Failure", "needs AutoCommit to be false: with it the position moves before the handler runs")
	}
	if oneOf(p, "Failure.Then", f.Then, "FailureKeep, FailureDeadLetter, FailureSkip, FailureStop") {
		p.attempts(f)
	}
	p.deadLetter(c)
	p.retryTopics(c)
}

// isZero reports whether nothing of the policy is set.
func (f *FailurePolicy) isZero() bool {
	d := &f.DeadLetter
	return f.Then == FailureKeep && f.MaxAttempts == 0 && f.Classify == nil && len(f.RetryTopics) == 0 &&
		!d.configured() && d.Producer == nil && d.MaxInARow == 0 && !d.NoErrorText
}

// copies reports whether records are copied to other topics.
func (f *FailurePolicy) copies() bool { return f.DeadLetter.configured() || len(f.RetryTopics) > 0 }

// copyName names what the copies are for.
func (f *FailurePolicy) copyName() string {
	if f.DeadLetter.configured() {
		return "dead letters"
	}
	return "retry topics"
}

// attempts checks MaxAttempts against Then.
func (p *problems) attempts(f *FailurePolicy) {
	const field = "Failure.MaxAttempts"
	switch {
	case f.Then == FailureHold:
		p.add("Failure.Then", "FailureHold counts no attempts; ask for it by Hold or Classify")
	case f.Then == FailureRetryTopic:
		p.add("Failure.Then", "FailureRetryTopic is what comes before it; RetryTopics ask for that")
	case f.MaxAttempts < 0:
		p.add(field, "%d is negative", f.MaxAttempts)
	case f.Then == FailureKeep && len(f.RetryTopics) > 0: // refused
	case f.Then == FailureKeep && f.MaxAttempts > 0:
		p.add(field, "%d has no effect where Failure.Then is FailureKeep", f.MaxAttempts)
	case f.Then != FailureKeep && f.MaxAttempts == 0:
		p.add(field, "is missing, and Failure.Then is not FailureKeep")
	}
	if f.Then == FailureDeadLetter && !f.DeadLetter.configured() {
		p.add("Failure.DeadLetter.Topic", "is empty, so is TopicFor, and Failure.Then is FailureDeadLetter")
	}
}

// deadLetter checks where dead letters go and what sends them.
func (p *problems) deadLetter(c *ConsumerConfig) {
	d := &c.Failure.DeadLetter
	if d.Topic != "" && d.TopicFor != nil {
		p.add("Failure.DeadLetter.TopicFor", "is set, and so is Topic")
	}
	if d.Topic != "" {
		p.deadLetterTopic(d, c)
	}
	inARow := 0
	if d.configured() {
		inARow = 100
	}
	p.limit("Failure.DeadLetter.MaxInARow", &d.MaxInARow, inARow)
	p.deadLetterProducer(d, c)
}

// deadLetterTopic checks the name of the topic for each topic that is read.
func (p *problems) deadLetterTopic(d *DeadLetterConfig, c *ConsumerConfig) {
	const field = "Failure.DeadLetter.Topic"
	for _, topic := range c.Topics {
		name := d.topic(topic, c.ConsumerGroup)
		if err := validTopicToRead(name); err != nil {
			p.add(field, "for %s: %v", quote(topic), err)
			return
		}
		if slices.Contains(c.Topics, name) {
			p.add(field, "%s is a topic that the consumer reads", quote(name))
			return
		}
	}
}

// topic returns the name of the dead-letter topic for records of a topic, as Topic says.
func (d *DeadLetterConfig) topic(source, group string) string {
	return strings.NewReplacer("{topic}", source, "{group}", group).Replace(d.Topic)
}

// deadLetterProducer fills in and checks the producer of dead letters. In the copy it
// is set where dead letters are configured, with every default filled in.
func (p *problems) deadLetterProducer(d *DeadLetterConfig, c *ConsumerConfig) {
	const field = "Failure.DeadLetter.Producer"
	given := d.Producer
	if given == nil && !c.Failure.copies() {
		return
	}
	if given == nil && len(p.errs) > 0 {
		return // it would repeat what is wrong with the consumer
	}
	cfg := deadLetterProducer(given, c)
	if given != nil {
		p.deadLetterFields(field, given)
	}
	resolved, _, err := resolveProducer(cfg, p.name+"-dead-letters", slog.New(slog.DiscardHandler))
	for _, err := range split(err) {
		if f, ok := errors.AsType[*FieldError](err); ok {
			p.wrap(field+"."+f.Field, f.Err, "%s", f.Problem)
		}
	}
	d.Producer = &resolved
}

// deadLetterFields refuses what a producer of dead letters must not say.
func (p *problems) deadLetterFields(field string, given *ProducerConfig) {
	if given.Name != "" {
		p.add(field+".Name", "%s is set; the producer is named after the consumer", quote(given.Name))
	}
	if given.EnableSyncProducer != nil {
		p.add(field+".EnableSyncProducer", "is set; no program sends with this producer")
	}
	if given.EnableAsyncProducer != nil {
		p.add(field+".EnableAsyncProducer", "is set; no program sends with this producer")
	}
	if given.RequiredAcks != WaitForAll {
		p.add(field+".RequiredAcks", "acks=%v is less than WaitForAll: a dead letter must not be lost", given.RequiredAcks)
	}
}

// deadLetterProducer returns given, or the default, with what it takes from the
// consumer.
func deadLetterProducer(given *ProducerConfig, c *ConsumerConfig) ProducerConfig {
	cfg := ProducerConfig{
		Compression:     CompressionZSTD,
		MaxMessageBytes: maxMessage,
		DeliveryTimeout: 2 * time.Hour,
	}
	if given != nil {
		cfg = *given
	}
	if cfg.BootstrapServers == "" && cfg.TLS == nil && cfg.SASL == nil {
		cfg.BootstrapServers, cfg.TLS, cfg.SASL = c.BootstrapServers, c.TLS, c.SASL
	}
	cfg.Name, cfg.EnableSyncProducer, cfg.EnableAsyncProducer = "", nil, nil
	return cfg
}

// split returns the errors that were joined into err.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}
