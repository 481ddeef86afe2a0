package kafkatest

import (
	"fmt"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// What is known when a wait has failed, a line for each thing.

// describeRecord says what a record was to do and what became of it.
func (k *Kafka) describeRecord(r *kafka.Message, todo string) string {
	lines := []string{fmt.Sprintf("%s/%d offset %d to %s", r.Topic, r.Partition, r.Offset, todo)}
	readers := k.readers(r.Topic)
	if len(readers) == 0 {
		lines = append(lines, fmt.Sprintf("no consumer reads %q", r.Topic), k.describeAll())
	}
	for _, s := range readers {
		lines = append(lines, k.describe(s), k.describeHistory(s, r))
	}
	return strings.Join(lines, "\n")
}

func (k *Kafka) describeHistory(s kafka.ConsumerStatus, r *kafka.Message) string {
	h := k.history(s, r)
	var what string
	switch {
	case h.attempts == 0 && k.Broker.Committed(s.Group, r.Topic, r.Partition) > r.Offset:
		what = fmt.Sprintf("never handed out: group %q has committed a later position; did it start at the newest offset, after the record was sent?", s.Group)
	case h.attempts == 0:
		what = "never handed out"
	case h.dead != nil:
		what = fmt.Sprintf("a dead letter at %v offset %d, after %s: %v", h.dead.To, h.dead.ToOffset, counted(h.attempts, "attempt"), h.dead.Err)
	case h.skipped != nil:
		what = fmt.Sprintf("skipped, after %s: %v", counted(h.attempts, "attempt"), h.skipped.Err)
	case h.handled:
		what = fmt.Sprintf("handled, after %s", counted(h.attempts, "attempt"))
	case h.err != nil:
		what = fmt.Sprintf("%s, %s, the latest: %v", counted(h.attempts, "attempt"), counted(h.failures, "failure"), h.err)
	default:
		what = fmt.Sprintf("%s, the latest has not ended", counted(h.attempts, "attempt"))
	}
	return "  the record: " + what
}

func (k *Kafka) describeAll() string {
	var lines []string
	for _, s := range k.Consumers() {
		lines = append(lines, k.describe(s))
	}
	if lines == nil {
		return "there are no consumers"
	}
	return strings.Join(lines, "\n")
}

// describe says how a consumer is.
func (k *Kafka) describe(s kafka.ConsumerStatus) string {
	lines := []string{fmt.Sprintf("consumer %q: %v", s.JobName, s.State)}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("  "+format, args...)) }
	if s.Reason != nil {
		add("the reason: %v", s.Reason)
	}
	if s.DriverError != nil {
		add("the latest error of the driver: %v", s.DriverError)
	}
	if s.CommitError != nil {
		add("the latest commit failed: %v", s.CommitError)
	}
	for _, p := range s.Partitions {
		add("%s", k.describePartition(s.Group, p))
	}
	return strings.Join(lines, "\n")
}

func (k *Kafka) describePartition(group string, p kafka.PartitionStatus) string {
	_, end, _ := k.Broker.Offsets(p.Topic, p.Partition)
	s := fmt.Sprintf("%s/%d: at %d of %d, committed %d", p.Topic, p.Partition,
		p.Position, end, k.Broker.Committed(group, p.Topic, p.Partition))
	if p.Errors == 0 {
		return s
	}
	s += fmt.Sprintf(", %s in a row", counted(p.Errors, "failure"))
	if !p.NextRetry.IsZero() {
		s += fmt.Sprintf(", the next attempt in %v", rounded(max(0, time.Until(p.NextRetry))))
	}
	return s + fmt.Sprintf(", the latest: %v", p.LastError)
}

// rounded drops what is of no use to a reader: fractions of a second of a long time.
func rounded(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
