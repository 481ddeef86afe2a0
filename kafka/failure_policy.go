package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// A Failure is what happens to a record whose handler has failed.
type Failure int

// What can happen to a record whose handler has failed.
const (
	// FailureKeep tries the record again, after a backoff. With OrderByPartition no later
	// record of its partition comes before it, and with OrderByKey none of its key.
	FailureKeep Failure = iota
	// FailureDeadLetter copies the record to the dead-letter topic. It is done when a
	// broker has acknowledged the copy.
	FailureDeadLetter
	// FailureSkip goes on without the record. Hooks get RecordSkipped before its
	// position can be committed.
	FailureSkip
	// FailureStop switches the consumer off. The record comes first when it is switched
	// on again.
	FailureStop
	// FailureHold blames no record: nothing is handed out for a while, and no attempt
	// is counted.
	FailureHold
	// FailureRetryTopic copies the record to its next retry topic. It is done here when a
	// broker has acknowledged the copy. It is what HandlerFailed.Next says then; no policy
	// and no operator can ask for it.
	FailureRetryTopic

	failureCount
)

// String returns the failure's name, such as "dead letter".
func (f Failure) String() string {
	names := [...]string{"keep", "dead letter", "skip", "stop", "hold", "retry topic"}
	if f >= 0 && int(f) < len(names) {
		return names[f]
	}
	return ""
}

// MarshalText returns the failure's name, as String does; any other value is an
// error.
func (f Failure) MarshalText() ([]byte, error) {
	return marshalName("Failure", f, FailureKeep, failureCount)
}

// UnmarshalText takes a failure's name; any other text is an error.
func (f *Failure) UnmarshalText(text []byte) error {
	return unmarshalName("Failure", f, FailureKeep, failureCount, text)
}

// A FailurePolicy says what happens to a record whose handler fails. The zero value
// tries it again, with ConsumerConfig.Backoff, forever. A failing record holds up what
// ConsumerConfig.Order says, and its own partition at most, unless FailureStop or FailureHold
// is asked for, or DeadLetterConfig.MaxInARow is reached: these concern the whole consumer.
//
// A record is done only if its handler returned nil, if it was skipped and hooks have
// got RecordSkipped, or if a broker has acknowledged its copy in the dead-letter topic.
// Only then is its position committed.
//
// A handler can decide for one error by a mark: [Retry], [Skip], [DeadLetter], [Stop]
// or [Hold]. It has precedence over the policy.
type FailurePolicy struct {
	// Then is what happens after MaxAttempts. Default FailureKeep.
	Then Failure

	// MaxAttempts is how many times the handler fails a record where it first lies, before
	// RetryTopics and Then; in each of RetryTopics it is once. Required
	// unless Then is FailureKeep, with which it has no effect and is refused. Failures
	// are counted per record by the consumer, but for those that [Hold] marks and for
	// calls that a revocation, a switch-off or a shutdown interrupted. The count
	// survives a rebalance that brings the partition back to this process within the
	// hour. Another process starts again from one, and so does a consumer that is
	// switched off and on.
	MaxAttempts int

	// Classify is asked about errors that carry no mark. FailureKeep means that the
	// error is no special case: it counts as an attempt, and Then applies. It is
	// called on the goroutine of the handler. An error of a send that wraps ErrPermanent,
	// say, has no meaning of its own here: Classify can give it one by errors.Is. If it
	// panics, or returns what is no Failure, the answer counts as FailureKeep; that is
	// logged once and stays in ConsumerStatus.PolicyError.
	Classify func(err error) Failure `json:"-"`

	// RetryTopics are where a record goes after MaxAttempts and before Then: it waits in
	// the first one, is handed out there once, and goes to the next one if it fails again.
	// They need Order to be OrderNone: a record that waits elsewhere is overtaken. At most
	// eight. See [RetryTopic].
	RetryTopics []RetryTopic

	// DeadLetter says where dead letters go.
	DeadLetter DeadLetterConfig
}

// A DeadLetterConfig says where and how the copies of failed records are sent. Its Producer
// also sends to retry topics; statuses and errors name it "<job>/dead-letters" then, too.
type DeadLetterConfig struct {
	// Topic is the name of the dead-letter topic. In it {topic} is replaced by the topic in
	// which the record first lay and {group} by the consumer's group: "{topic}.{group}.dlq".
	// The topic must exist when the consumer starts, and must not be one that it reads.
	Topic string

	// TopicFor chooses the topic for one record, in place of Topic. If its answer is
	// empty, no valid name or a topic that the consumer reads, or if it panics, the
	// record is kept as FailureKeep does and the reason is reported. For a record of a retry
	// topic, Message.Source says in which topic it first lay.
	TopicFor func(m *Message, err error) string `json:"-"`

	// Producer is what sends the copies. Nil connects as the consumer does, compresses
	// with zstd, and accepts messages of up to 100 MiB. If it is set, its fields mean
	// what ProducerConfig says; BootstrapServers, TLS and SASL are taken from the
	// consumer if all three are empty. RequiredAcks must be WaitForAll. Name,
	// EnableSyncProducer and EnableAsyncProducer are refused.
	Producer *ProducerConfig

	// MaxInARow is how many records of one partition may become dead letters without
	// one in between that was handled. Then the consumer is held, as [Hold] does:
	// what fails so often is rarely the records. Default 100; Unlimited is no bound.
	MaxInARow int

	// NoErrorText leaves the text of the error out of the headers: it can quote data.
	NoErrorText bool
}

// configured reports whether dead letters have somewhere to go.
func (c *DeadLetterConfig) configured() bool { return c.Topic != "" || c.TopicFor != nil }

// A policy is a consumer's FailurePolicy, and what went wrong with it.
type policy struct {
	FailurePolicy
	log *slog.Logger

	mu  sync.Mutex
	err error // the latest; for the status
	was []error
}

// ask returns what a handler's error asks for, by its mark or else by Classify, and the
// reason if that is a dead letter. An answer that asks for nothing counts as
// FailureKeep.
func (p *policy) ask(err error) (m mark, reason string) {
	kind := errUnwrapPanicked
	defer func() {
		if v := recover(); v != nil {
			p.note(kind, ": "+panicText(v))
			m = mark{}
		}
	}()
	if m = markOf(err); m.set {
		return p.possible(m), DeadLetterReasonHandler
	}
	kind = errClassifyPanicked
	do := p.classify(err)
	kind = errUnwrapPanicked
	if do != FailureKeep {
		return p.possible(mark{do: do}), DeadLetterReasonClassify
	}
	if undecodable(err) && p.DeadLetter.configured() {
		return mark{do: FailureDeadLetter}, DeadLetterReasonDecode
	}
	return mark{}, ""
}

// exited is the answer for an error about which ask has ended the goroutine.
func (p *policy) exited() (m mark, reason string) {
	p.note(errClassifyExited, "")
	return mark{}, ""
}

// classify returns what Classify answers, if there is one.
func (p *policy) classify(err error) Failure {
	if p.Classify == nil {
		return FailureKeep
	}
	do := p.Classify(err)
	if do < FailureKeep || do > FailureHold {
		p.note(errClassifyAnswer, fmt.Sprintf(": %d", int(do)))
		return FailureKeep
	}
	return do
}

// undecodable reports whether a record has failed because it could not be decoded: a
// second attempt would fail, too.
func undecodable(err error) bool {
	for err != nil {
		switch err.(type) {
		case *DecodeError:
			return true
		case *PanicError:
			return false
		}
		err = errors.Unwrap(err)
	}
	return false
}

// after returns what follows n attempts, and whether none is left.
func (p *policy) after(n int) (then Failure, usedUp bool) {
	return p.Then, p.MaxAttempts > 0 && n >= p.MaxAttempts
}

// forwards reports whether dead letters have somewhere to go.
func (p *policy) forwards() bool { return p.DeadLetter.configured() }

// tooMany reports whether n dead letters in a row are as many as MaxInARow.
func (p *policy) tooMany(n int) bool {
	d := &p.DeadLetter
	return d.MaxInARow > 0 && n >= d.MaxInARow
}

// possible returns m, or what counts in its place where there are no dead letters.
func (p *policy) possible(m mark) mark {
	if m.do == FailureDeadLetter && !p.forwards() {
		p.note(errNoDeadLetters, "")
		m.do = FailureKeep
	}
	return m
}

var (
	errNoDeadLetters    = errors.New("a record was to become a dead letter, and FailurePolicy.DeadLetter names no topic; it is kept")
	errClassifyPanicked = errors.New("FailurePolicy.Classify panicked; the record is kept")
	errClassifyExited   = errors.New("FailurePolicy.Classify ended its goroutine (runtime.Goexit); the record is kept")
	errUnwrapPanicked   = errors.New("the Unwrap of a handler's error panicked; the record is kept")
	errClassifyAnswer   = errors.New("FailurePolicy.Classify returned what is no Failure; the record is kept")
)

// note keeps what went wrong for the status, and logs each kind of it once.
func (p *policy) note(kind error, more string) {
	err := fmt.Errorf("%w%s", kind, more)
	p.mu.Lock()
	p.err = err
	known := slices.Contains(p.was, kind)
	if !known {
		p.was = append(p.was, kind)
	}
	p.mu.Unlock()
	if !known {
		p.log.Error("kafka: failure policy", "error", loggable(err))
	}
}

// trouble returns what went wrong last.
func (p *policy) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
