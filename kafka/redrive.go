package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// ToSource, as RedriveConfig.To, sends each dead letter to the topic in which its record
// first lay. Every group that reads this topic gets the record again.
const ToSource = "{source}"

// A RedriveConfig says which dead letters are sent again, and where to.
type RedriveConfig struct {
	// JobName is the consumer whose dead letters are meant. It is one of the manager's,
	// and has FailurePolicy.DeadLetter.Topic. It may be off.
	JobName string

	// To is the topic to which dead letters are sent. Default: the consumer's first retry
	// topic that it still writes, which only its group reads. Without one To must be set:
	// ToSource, or the name of a topic.
	To string

	// Match chooses: a dead letter for which it returns false is not sent. It gets the
	// record as it lies in the dead-letter topic: its headers say why it failed, and
	// Message.Source where it first lay. It is called on the goroutine of Redrive, and more
	// than once if a send fails. Nil chooses all.
	Match func(*Message) bool `json:"-"`

	// PassUnmatched passes what Match leaves: only FromStart and Since offer that again.
	// Without it a run with a Match commits nothing, and the next run offers everything
	// again, what this one has sent as well. It is refused without Match.
	PassUnmatched bool

	// MaxRedrives is how often one record may be put back. One that was, by its header
	// HeaderRedrives, is not sent. Default 3; Unlimited is no bound.
	MaxRedrives int

	// Limit is how many dead letters are sent. 0 is no limit.
	Limit int

	// Rate is how many dead letters are sent per second. 0 is no limit.
	Rate float64

	// FromStart begins with the oldest dead letter, wherever the last redrive ended.
	FromStart bool

	// Since begins, in each partition, with the first dead letter that was written then or
	// later, wherever the last redrive ended. Not with FromStart.
	Since time.Time

	// DryRun sends nothing and commits nothing. The report says what a run would do.
	DryRun bool
}

// A RedriveReport counts what a redrive has done with dead letters. Each is counted once,
// when it is sent or is not to be sent: Read is the sum of the others.
type RedriveReport struct {
	Read      int
	Sent      int // and acknowledged; in a dry run those that would be sent
	Unmatched int // Match has left them
	Worn      int // were put back MaxRedrives times already
	Foreign   int // have no readable headers of a dead letter, or those of another group or topic

	// Again says that the run has committed nothing: the next one offers the same dead
	// letters again.
	Again bool
}

// ErrNoPosition refuses a Redrive that does not say where to begin, of a consumer whose
// dead letters were never redriven or not for so long that the brokers have forgotten it.
var ErrNoPosition = errors.New("no committed position: set FromStart or Since")

// ErrRedriving refuses a Redrive while another one of the same consumer runs.
var ErrRedriving = errors.New("another redrive of the consumer runs")

// redriveRound bounds how many dead letters are under way at once, and so how many are
// sent a second time when the process is killed.
const redriveRound = 100

// Redrive sends the dead letters of a consumer to its group again: from where the last
// redrive ended to the end of the dead-letter topic as it is now. It returns when that is
// done, and is for an operator's command; the consumer need not be running.
//
// A dead letter is sent as the record was: its key, its value and its own headers, dated
// now. HeaderRedrives counts how often it was put back. In a retry topic Message.Source
// still is the record's first place, and Message.Attempt begins again at 1. The producer
// is what FailurePolicy.DeadLetter.Producer says.
//
// The positions are those of the group with the name of the consumer's group and
// ".redrive". The first redrive of a consumer sets them, and has to say where to begin, by
// FromStart or Since, or it returns ErrNoPosition; so does one after seven days, when the
// brokers have forgotten them. A dead letter is counted when a broker has acknowledged it,
// and only then is its position committed. If the process is killed, the next run sends
// again what was under way: at most 100 dead letters, and of a second with Rate, at most a
// tenth. A send that fails for a passing reason is repeated, as ConsumerConfig.Backoff
// says; if it has an unknown outcome the record may be in the topic twice.
//
// The error says why a run has ended early; the report is then what was done by then. It
// is ctx's own if that has ended, and wraps ErrClosed if a shutdown has begun: both wait
// for the answers to what was sent, for a few seconds. It wraps ErrRedriving if another
// redrive of the consumer runs in this manager, or in another process if FromStart or
// Since is set. Without these, runs in several processes share the partitions. Other
// errors wrap ErrUnknownConsumer, ErrNoDriver, a *FieldError for each problem of cfg, or
// ErrUnsupported if the driver cannot read groups from outside.
func (m *Manager) Redrive(ctx context.Context, cfg RedriveConfig) (RedriveReport, error) {
	j, err := m.job(cfg.JobName)
	if err != nil {
		return RedriveReport{}, err
	}
	if ctx == nil {
		return RedriveReport{}, errors.New("kafka: redrive: ctx is nil")
	}
	r, err := newRedrive(j, cfg)
	if err != nil {
		return RedriveReport{}, err
	}
	if err = m.beginRedrive(r); err == nil {
		defer m.endRedrive(r)
		err = r.run(ctx)
	}
	if err != nil {
		err = fmt.Errorf("kafka: redrive of consumer %q: %w", j.name(), err)
	}
	return r.report, err
}

// beginRedrive counts a redrive, so that a shutdown waits for it, and refuses a second one
// of the same consumer. Dry runs disturb none.
func (m *Manager) beginRedrive(r *redrive) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.driver == nil:
		return ErrNoDriver
	}
	if !r.cfg.DryRun && slices.ContainsFunc(m.redrives, func(o *redrive) bool { return o.j == r.j && !o.cfg.DryRun }) {
		return ErrRedriving
	}
	m.redrives = append(m.redrives, r)
	m.asking.Add(1)
	return nil
}

func (m *Manager) endRedrive(r *redrive) {
	m.mu.Lock()
	m.redrives = slices.DeleteFunc(m.redrives, func(o *redrive) bool { return o == r })
	m.mu.Unlock()
	m.asking.Done()
}

// A redrive is one call of Redrive. Its goroutine is the caller's.
type redrive struct {
	m       *Manager
	j       *job
	log     *slog.Logger
	owner   string   // the consumer's group
	sources []string // what the consumer reads, without its retry topics
	letters []string // the dead-letter topics
	retries *retries
	backoff Backoff
	most    int // bytes that wait to be sent
	cfg     RedriveConfig
	report  RedriveReport

	producer *Producer
	next     time.Time // before which nothing is sent
	failures int       // rounds in a row in which a send has failed
}

// newRedrive checks cfg.
func newRedrive(j *job, cfg RedriveConfig) (*redrive, error) {
	p := &problems{kind: "redrive", name: j.name()}
	d := letterConfig(&j.cfg)
	switch {
	case d.TopicFor != nil:
		p.add("JobName", "the consumer has DeadLetter.TopicFor, so that its dead-letter topics are not known")
	case d.Topic == "":
		p.add("JobName", "the consumer has no DeadLetter.Topic")
	}
	r := &redrive{
		m: j.m, j: j, log: j.log, owner: j.cfg.ConsumerGroup, sources: j.cfg.Topics, retries: j.retries, backoff: j.cfg.Backoff, most: j.cfg.MaxBufferedBytes, cfg: cfg,
	}
	for _, source := range r.sources {
		if name := d.topic(source, r.owner); !slices.Contains(r.letters, name) {
			r.letters = append(r.letters, name)
		}
	}
	r.checkTo(p)
	p.redrive(&r.cfg)
	r.report.Again = !r.commits()
	return r, errors.Join(p.errs...)
}

// redrive fills in and checks what needs no consumer.
func (p *problems) redrive(c *RedriveConfig) {
	if c.PassUnmatched && c.Match == nil {
		p.add("PassUnmatched", "has no effect without Match")
	}
	p.limit("MaxRedrives", &c.MaxRedrives, 3)
	if c.Limit < 0 {
		p.add("Limit", "%d is negative", c.Limit)
	}
	if c.Rate < 0 || math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) {
		p.add("Rate", "%v is not a number of records per second", c.Rate)
	}
	if c.FromStart && !c.Since.IsZero() {
		p.add("Since", "is set, and so is FromStart")
	}
}

// checkTo checks where dead letters go.
func (r *redrive) checkTo(p *problems) {
	switch to := r.cfg.To; {
	case to == ToSource:
	case to == "":
		if _, ok := r.retries.next("", r.sources[0]); !ok {
			p.add("To", "is missing, and the consumer has no retry topic to which it sends")
		}
	case slices.Contains(r.letters, to):
		p.add("To", "%s is the dead-letter topic", quote(to))
	default:
		if err := validTopic(to); err != nil {
			p.add("To", "%v", err)
		}
	}
}

// commits reports whether the run moves the positions.
func (r *redrive) commits() bool {
	return !r.cfg.DryRun && (r.cfg.Match == nil || r.cfg.PassUnmatched)
}

// to returns where the dead letters of a source topic go.
func (r *redrive) to(source string) string {
	switch to := r.cfg.To; to {
	case ToSource:
		return source
	case "":
		topic, _ := r.retries.next("", source)
		return topic
	default:
		return to
	}
}

// begins reports whether the caller has said where to begin.
func (r *redrive) begins() bool { return r.cfg.FromStart || !r.cfg.Since.IsZero() }

// group is the group whose positions say where the last redrive ended.
func (r *redrive) group() string { return r.owner + ".redrive" }

// consumer returns the configuration of a reader of the dead-letter topics.
func (r *redrive) consumer(group string) driver.ConsumerConfig {
	c := r.j.dcfg
	c.Group, c.Topics, c.InstanceID = group, r.letters, ""
	c.InitialOffset, c.OldestTopics, c.OutOfRange = driver.OffsetOldest, nil, driver.OutOfRangeOldest
	return c
}

// run does all of it.
func (r *redrive) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer r.m.whenStopping(func() { cancel(ErrClosed) })()
	err := r.runUntil(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (r *redrive) runUntil(ctx context.Context) error {
	boxes, err := r.boxes(ctx)
	if err != nil {
		return err
	}
	if err := r.openProducer(ctx); err != nil {
		return err
	}
	defer r.closeProducer()
	if r.commits() {
		if err := r.moveTo(ctx, boxes); err != nil {
			return err
		}
	}
	began := time.Now()
	r.log.Info("kafka: redrive begins", "topics", r.letters, "to", r.target(), "dryRun", r.cfg.DryRun, "letters", remaining(boxes))
	r.j.event(RedriveBegan{JobName: r.j.name(), Group: r.owner, Topics: slices.Clone(r.letters), To: r.target(), DryRun: r.cfg.DryRun, Commits: r.commits()})
	err = r.deliver(ctx, boxes)
	took := time.Since(began)
	n := &r.report
	r.log.Info("kafka: redrive ended", "took", took, "read", n.Read, "sent", n.Sent, "unmatched", n.Unmatched, "worn", n.Worn, "foreign", n.Foreign, "dryRun", r.cfg.DryRun, "error", loggable(err))
	r.j.event(RedriveEnded{JobName: r.j.name(), Group: r.owner, Report: *n, DryRun: r.cfg.DryRun, Took: took, Err: err})
	return err
}

// target names where dead letters go, for a line.
func (r *redrive) target() string {
	if r.cfg.To != "" || len(r.sources) != 1 {
		return r.cfg.To
	}
	return r.to(r.sources[0])
}

// deliver reads the boxes to their ends, and sends what is to be sent.
func (r *redrive) deliver(ctx context.Context, boxes []*letterbox) error {
	if r.commits() {
		return r.read(ctx, r.group(), boxes, r)
	}
	return r.read(ctx, r.lookGroup(), boxes, r)
}
