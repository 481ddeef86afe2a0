package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// wait waits until the next round may begin, as Rate and failed sends ask.
func (r *redrive) wait(ctx context.Context) error {
	if wait := time.Until(r.next); wait > 0 && !rested(ctx, wait) {
		return context.Cause(ctx)
	}
	return nil
}

// visit sends those of a round that are to be sent, and waits for the answers.
func (r *redrive) visit(ctx context.Context, round []*dead) (more bool, err error) {
	var parcels []*parcel
	room := r.room()
	for _, d := range round {
		if len(parcels) == room {
			break
		}
		if d.done {
			continue
		}
		p, jerr := r.judge(d)
		if err = jerr; err != nil {
			break
		}
		if p != nil {
			parcels = append(parcels, p)
		}
	}
	if serr := r.send(ctx, parcels); serr != nil {
		err = errors.Join(err, serr)
	}
	return err == nil && (r.cfg.Limit == 0 || r.report.Sent < r.cfg.Limit), err
}

// room returns how many dead letters the next round may send. With Rate it is a tenth of
// a second's, so that they are spread over it.
func (r *redrive) room() int {
	n := redriveRound
	if r.cfg.Rate > 0 && !r.cfg.DryRun {
		n = max(int(min(r.cfg.Rate/10, redriveRound)), 1)
	}
	if r.cfg.Limit > 0 {
		n = min(n, r.cfg.Limit-r.report.Sent)
	}
	return n
}

// A parcel is a dead letter that is to be sent.
type parcel struct {
	dead     *dead
	message  Message // as it lies in the dead-letter topic
	source   Source
	home     string // the topic of the consumer that it comes from
	redrives int    // so far
	err      error
}

// judge decides whether a dead letter is to be sent. If not it is done.
func (r *redrive) judge(d *dead) (*parcel, error) {
	rec, at := &d.record, d.at()
	p := &parcel{dead: d, message: Message{
		Topic: at.Topic, Partition: at.Partition, Offset: rec.Offset, Timestamp: rec.Timestamp,
		Key: rec.Key, Value: rec.Value, Headers: rec.Headers, Attempt: 1,
	}}
	if !r.owns(p) {
		r.count(d, &r.report.Foreign)
		return nil, nil
	}
	matches, err := r.matches(&p.message)
	switch {
	case err != nil:
		return nil, fmt.Errorf("dead letter %v at offset %d: %w", at, rec.Offset, err)
	case !matches:
		r.count(d, &r.report.Unmatched)
		return nil, nil
	case r.cfg.MaxRedrives != Unlimited && p.redrives >= r.cfg.MaxRedrives:
		r.count(d, &r.report.Worn)
		return nil, nil
	}
	return p, nil
}

// count counts a dead letter, which is done.
func (r *redrive) count(d *dead, n *int) {
	d.done = true
	r.report.Read++
	*n++
}

// owns reads the headers of a dead letter, and reports whether it is one of the group and
// of a topic of the consumer.
func (r *redrive) owns(p *parcel) bool {
	source, ok := sourceOf(p.message.Headers)
	if !ok || string(p.message.Header(HeaderErrorGroup)) != r.owner {
		return false
	}
	p.source, p.home = source, r.retries.home(source.Topic)
	p.redrives = parseRedrives(p.message.Header(HeaderRedrives))
	return slices.Contains(r.sources, p.home)
}

// matches asks Match.
func (r *redrive) matches(m *Message) (matches bool, err error) {
	if r.cfg.Match == nil {
		return true, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{What: "Match", Value: v, Stack: debug.Stack()}
		}
	}()
	return r.cfg.Match(m), nil
}

// copy returns what is sent of a dead letter.
func (r *redrive) copy(p *parcel) *ProducerMessage {
	m := &ProducerMessage{Topic: r.to(p.home), Key: p.message.Key, Value: p.message.Value}
	w, _ := writeBehind(p.message.Headers, 1)
	w.redrives(p.redrives + 1)
	m.Headers = w.headers
	if _, retry := r.retries.place(m.Topic); retry {
		o := origin{source: p.source}
		m.Headers = o.headers(withoutRetry(m.Headers), r.owner)
	}
	return m
}

// send sends parcels, and waits until each has its answer or ctx ends. What is not
// acknowledged for a passing reason comes again.
func (r *redrive) send(ctx context.Context, parcels []*parcel) error {
	if r.cfg.DryRun {
		for _, p := range parcels {
			r.count(p.dead, &r.report.Sent)
		}
		return nil
	}
	outcomes := make(chan *parcel, len(parcels))
	for _, p := range parcels {
		r.producer.SendMessageAsync(WithOrigin(ctx, &p.message), r.copy(p), func(_ *ProducerMessage, err error) {
			p.err = err
			outcomes <- p
		})
	}
	var failed *parcel
	for range parcels {
		var p *parcel
		select {
		case p = <-outcomes:
		default:
			select {
			case p = <-outcomes:
			case <-ctx.Done():
				return errUnanswered
			}
		}
		if p.err == nil {
			r.count(p.dead, &r.report.Sent)
		} else if failed == nil || isFinal(p.err) {
			failed = p
		}
	}
	return r.paced(len(parcels), failed)
}

// isFinal reports whether no repetition can cure why a message was not sent.
func isFinal(err error) bool {
	return errors.Is(err, ErrPermanent) && !errors.Is(err, ErrUnknownOutcome)
}

// paced sets when the next round may begin, after one that has sent n of which one has
// failed, perhaps.
func (r *redrive) paced(n int, failed *parcel) error {
	now := time.Now()
	if r.next.Before(now) {
		r.next = now
	}
	if r.cfg.Rate > 0 {
		r.next = r.next.Add(time.Duration(min(float64(n)/r.cfg.Rate*float64(time.Second), 1<<62)))
	}
	if failed == nil {
		r.failures = 0
		return nil
	}
	at, offset := failed.dead.at(), failed.message.Offset
	if isFinal(failed.err) {
		return fmt.Errorf("dead letter %v at offset %d: %w", at, offset, failed.err)
	}
	r.failures++
	wait := r.backoff.Wait(r.failures)
	r.log.Warn("kafka: redrive: a dead letter is not sent; it is sent again", "partition", at.String(), "offset", offset, "backoff", wait, "error", loggable(failed.err))
	if again := now.Add(wait); r.next.Before(again) {
		r.next = again
	}
	return nil
}
