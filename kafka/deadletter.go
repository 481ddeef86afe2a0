package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// An outbox sends the copies of a consumer's records that were given up, or that wait in
// a retry topic. It is opened with a session, before its consumer, and closed after its handlers have
// drained.
type outbox struct {
	cfg      *DeadLetterConfig
	group    string
	retries  *retries          // nil without retry topics
	sources  []string          // topics that the consumer reads
	topics   map[string]string // by source, as DeadLetterConfig.Topic says
	producer *Producer
}

// mostBatchBytes bounds the batches of dead letters. A single one may be as large as
// MaxMessageBytes.
const mostBatchBytes = 1 << 20

// openLetters connects the producer of the job's copies and looks their topics up. It
// returns nil if no copies are configured. It ends at once when the job is switched
// off or stopped. offs is as in open.
func (j *job) openLetters(ctx context.Context, offs int) (*outbox, error) {
	cfg := letterConfig(&j.cfg)
	if !j.cfg.Failure.copies() || j.forwarder != nil {
		return nil, nil
	}
	d := &outbox{cfg: cfg, group: j.cfg.ConsumerGroup, retries: j.retries, sources: j.dcfg.Topics, topics: map[string]string{}}
	for _, source := range j.cfg.Topics {
		d.topics[source] = cfg.topic(source, d.group)
	}
	err := j.whileWanted(ctx, offs, func(ctx context.Context) (err error) {
		if d.producer, err = j.openCopyProducer(ctx, "/dead-letters"); err != nil {
			return err
		}
		return d.lookUp(ctx)
	})
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func letterConfig(c *ConsumerConfig) *DeadLetterConfig { return &c.Failure.DeadLetter }

// openCopyProducer connects. The producer is not one of the manager's: its name has
// a '/', which no other may have, and only the caller closes it.
func (j *job) openCopyProducer(ctx context.Context, suffix string) (*Producer, error) {
	cfg, dcfg, err := letterProducer(&j.cfg)
	if err != nil {
		return nil, err
	}
	dcfg.Logger = j.log
	d, err := j.m.openProducer(ctx, dcfg)
	if err != nil {
		return nil, fmt.Errorf("%s: connect: %w", j.cfg.Failure.copyName(), err)
	}
	return j.m.newProducer(j.name()+suffix, cfg, dcfg.Brokers, d), nil
}

// letterProducer returns the configuration of the producer of a consumer's dead
// letters, which has been checked, and what the driver gets of it.
func letterProducer(c *ConsumerConfig) (ProducerConfig, driver.ProducerConfig, error) {
	given := *letterConfig(c).Producer
	cfg, dcfg, err := resolveProducer(given, given.Name, slog.New(slog.DiscardHandler))
	*cfg.EnableSyncProducer, *cfg.EnableAsyncProducer = true, true
	dcfg.MaxBatchBytes = min(mostBatchBytes, cfg.MaxMessageBytes)
	return cfg, dcfg, err
}

// checkLetters asks the driver whether it can honour the configuration of a consumer's
// dead letters.
func checkLetters(d driver.Driver, c *ConsumerConfig) error {
	if !c.Failure.copies() {
		return nil
	}
	_, dcfg, err := letterProducer(c)
	if err == nil {
		err = checkProducer(d, dcfg)
	}
	if err != nil {
		return fmt.Errorf("kafka: consumer %q: %s: %w", c.JobName, c.Failure.copyName(), err)
	}
	return nil
}

// lookUp asks whether the topics of the copies exist, as far as they are known
// beforehand. It never creates one. A retry topic that is only drained may be gone.
func (d *outbox) lookUp(ctx context.Context) error {
	if d.cfg.Topic != "" {
		if err := findAll(ctx, d.producer.driver, slices.Sorted(maps.Values(d.topics))); err != nil {
			return fmt.Errorf("dead letters: %w", err)
		}
	}
	if err := findAll(ctx, d.producer.driver, d.retries.topics(true)); err != nil {
		return fmt.Errorf("retry topics: %w", err)
	}
	return nil
}

// findAll looks topics up, which are in order.
func findAll(ctx context.Context, p driver.Producer, topics []string) error {
	for _, topic := range slices.Compact(topics) {
		err := findTopic(ctx, p, topic)
		switch {
		case err == nil:
		case hasCode(err, "UNKNOWN_TOPIC_OR_PARTITION") && !errors.Is(err, ErrPermanent):
			return &missingTopicError{topic, err}
		default:
			return fmt.Errorf("look up topic %s: %w", quote(topic), err)
		}
	}
	return nil
}

// A missingTopicError is why a consumer waits: a topic that it needs does not exist.
// That is no failed start, because another party has to act.
type missingTopicError struct {
	topic string
	err   error
}

func (e *missingTopicError) Error() string {
	return fmt.Sprintf("topic %s does not exist: %v", quote(e.topic), e.err)
}

func (e *missingTopicError) Unwrap() error { return e.err }

func isMissingTopic(err error) bool {
	_, missing := errors.AsType[*missingTopicError](err)
	return missing
}

// close closes the producer. What is not acknowledged soon has an unknown outcome: no
// lane waits for it any longer.
func (d *outbox) close() {
	if d == nil || d.producer == nil {
		return
	}
	d.producer.beginClose(leaveTimeout)
	<-d.producer.done
}

// forward implements forwarder.
func (d *outbox) forward(ctx context.Context, fs []forwarding) []forwarded {
	answers := make([]forwarded, len(fs))
	letters := make([]*letter, 0, len(fs))
	for i := range fs {
		answers[i] = forwarded{to: TopicPartition{Partition: -1}, offset: -1}
		l, err := d.letter(&fs[i])
		if err != nil {
			answers[i].err = err
			continue
		}
		l.answer = &answers[i]
		l.answer.to = TopicPartition{Topic: l.message.Topic, Partition: -1}
		letters = append(letters, l)
	}
	d.send(ctx, letters)
	letters = slices.DeleteFunc(letters, func(l *letter) bool { return l.retry || !tooLarge(l.answer.err) })
	for _, l := range letters {
		l.shrink()
	}
	d.send(ctx, letters)
	return answers
}

// A letter is the copy of one record.
type letter struct {
	origin  Message
	why     death
	message *ProducerMessage // first is the first one
	first   ProducerMessage
	answer  *forwarded
	retry   bool // it goes to a retry topic: nothing of it can be left out
}

// letter makes the copy of a record.
func (d *outbox) letter(f *forwarding) (*letter, error) {
	l := new(letter)
	m := &l.origin
	f.fill(m)
	d.retries.dress(m)
	m.Attempt = f.attempts
	if f.retry != "" {
		l.retry = true
		o := origin{f.origin.source, f.attempts}
		l.first = ProducerMessage{Topic: f.retry, Key: m.Key, Value: m.Value, Headers: o.headers(withoutRetry(m.Headers), d.group)}
		l.message = &l.first
		return l, nil
	}
	topic, err := d.topicFor(m, f)
	if err != nil {
		return nil, err
	}
	l.why = death{
		source:   f.origin.source,
		group:    d.group,
		attempts: f.attempts,
		err:      f.err,
		reason:   f.reason,
		failed:   f.decided,
		noText:   d.cfg.NoErrorText,
	}
	l.first = ProducerMessage{Topic: topic, Key: m.Key, Value: m.Value, Headers: l.why.headers(m.Headers)}
	l.message = &l.first
	return l, nil
}

// shrink leaves only the first headers, in a message of its own: the driver may still
// read the one that was refused.
func (l *letter) shrink() {
	m := &l.origin
	l.message = &ProducerMessage{Topic: l.message.Topic, Key: m.Key, Value: m.Value, Headers: l.why.fewHeaders(m.Headers)}
}

// send sends letters in their order, and waits until each has its answer or ctx ends.
func (d *outbox) send(ctx context.Context, letters []*letter) {
	if len(letters) == 1 { // nearly always, and without a way over the callbacks
		l := letters[0]
		l.answered(d.producer.SendMessage(l.context(ctx), l.message))
		return
	}
	type outcome struct {
		l   *letter
		err error
	}
	outcomes := make(chan outcome, len(letters))
	for _, l := range letters {
		l.answer.err = errUnanswered
		d.producer.SendMessageAsync(l.context(ctx), l.message, func(_ *ProducerMessage, err error) {
			outcomes <- outcome{l, err}
		})
	}
	for range letters {
		select {
		case o := <-outcomes:
			o.l.answered(o.err)
		case <-ctx.Done():
			select {
			case o := <-outcomes: // it has arrived, and is acknowledged perhaps
				o.l.answered(o.err)
			default:
				return
			}
		}
	}
}

// context returns ctx for the send of l, whose trace leads back to the record.
func (l *letter) context(ctx context.Context) context.Context { return WithOrigin(ctx, &l.origin) }

func (l *letter) answered(err error) {
	if l.answer.err = err; err == nil {
		l.answer.to, l.answer.offset = TopicPartition{l.message.Topic, l.message.Partition}, l.message.Offset
	}
}

// errUnanswered is the answer to a copy for which no caller waits any longer.
var errUnanswered = fmt.Errorf("no broker has answered in time: %w", ErrUnknownOutcome)

// tooLarge reports whether a message was certainly refused for its size.
func tooLarge(err error) bool {
	return err != nil && !errors.Is(err, ErrUnknownOutcome) &&
		(hasCode(err, "MESSAGE_TOO_LARGE") || hasCode(err, "RECORD_LIST_TOO_LARGE"))
}

// topicFor returns the topic for the copy of a record. Its error wraps errNoTarget.
func (d *outbox) topicFor(m *Message, f *forwarding) (string, error) {
	if d.cfg.TopicFor == nil {
		return d.topics[d.retries.home(f.origin.topic())], nil
	}
	topic, perr := d.askTopicFor(m, f)
	if perr == nil {
		if perr = validTopicToRead(topic); perr == nil && slices.Contains(d.sources, topic) {
			perr = fmt.Errorf("%s is a topic that the consumer reads", quote(topic))
		}
		if perr != nil {
			perr = fmt.Errorf("the answer of TopicFor: %w", perr)
		}
	}
	if perr != nil {
		return "", fmt.Errorf("%w: %w", errNoTarget, perr)
	}
	return topic, nil
}

func (d *outbox) askTopicFor(m *Message, f *forwarding) (topic string, perr error) {
	f.exited = true // unless it returns or panics
	defer func() {
		if v := recover(); v != nil {
			f.exited = false
			perr = &PanicError{What: "TopicFor", Value: v, Stack: debug.Stack()}
		}
	}()
	topic = d.cfg.TopicFor(m, f.err)
	f.exited = false
	return topic, nil
}

// fill makes m the record as handlers get it.
func (f *forwarding) fill(m *Message) {
	r := &f.record
	*m = Message{
		Topic: f.partition.Topic, Partition: f.partition.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: r.Headers, Attempt: f.attempts,
	}
}
