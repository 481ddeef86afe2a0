package kafkahttp

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// A line is an event for people.
type line struct {
	ID    int64
	At    time.Time
	Level level
	Job   string
	Text  string
	Err   string
}

func lines(all []entry) []line {
	var ls []line
	for _, e := range all {
		l := describe(e.Event)
		l.ID, l.At, l.Job = e.ID, e.At, e.job
		l.Text, l.Err = printable(l.Text), printable(l.Err)
		ls = append(ls, l)
	}
	return ls
}

// jobOf returns the consumer that an event is about, or "".
func jobOf(e kafka.Event) string {
	if f := reflect.ValueOf(e).FieldByName("JobName"); f.IsValid() && f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}

// describe returns an event as a line of the page.
func describe(e kafka.Event) line {
	unknown := line{Text: reflect.TypeOf(e).Name() + "."}
	return cmp.Or(consumerLine(e), partitionLine(e), recordLine(e), producerLine(e), unknown)
}

// consumerLine describes an event of a consumer or of the manager. For any other event it
// returns the zero line.
func consumerLine(e kafka.Event) line {
	switch e := e.(type) {
	case kafka.StateChanged:
		return line{Level: levelOf(e.To), Text: fmt.Sprintf("Is %v, was %v.", e.To, e.From), Err: text(e.Reason)}
	case kafka.ConsumerHeld:
		if e.Until.IsZero() {
			return line{Text: "No longer held."}
		}
		return line{Level: levelWarn, Text: "Held until " + clock(e.Until) + ".", Err: text(e.Err)}
	case kafka.PauseChanged:
		return line{Text: describePause(e)}
	case kafka.PositionsMoved:
		return line{Text: describeMoved(e)}
	case kafka.RateChanged:
		if e.To == 0 {
			return line{Text: "No longer slowed by a rate."}
		}
		return line{Text: "Slowed to " + perSecond(e.To) + "."}
	case kafka.RedriveBegan, kafka.RedriveEnded:
		return redriveLine(e)
	case kafka.CommitFailed:
		return line{Level: levelWarn, Text: "Commit failed.", Err: text(e.Err)}
	case kafka.DriverError:
		at := ""
		if e.Topic != "" {
			at = " with " + e.Topic
		}
		return line{Level: levelWarn, Text: "The driver has had an error" + at + ".", Err: text(e.Err)}
	case kafka.ShutdownEnded:
		return line{Text: fmt.Sprintf("Shut down in %v.", e.Took.Round(time.Millisecond)), Err: text(e.Err)}
	}
	return line{}
}

// redriveLine describes the beginning or the end of a redrive.
func redriveLine(e kafka.Event) line {
	switch e := e.(type) {
	case kafka.RedriveBegan:
		to := ""
		if e.To != "" {
			to = " to " + e.To
		}
		return line{Text: redriveKind(e.DryRun) + " of " + strings.Join(e.Topics, ", ") + to + " begins."}
	case kafka.RedriveEnded:
		r := e.Report
		l := line{Text: fmt.Sprintf("%s ended after %v: read %d, sent %d, unmatched %d, worn %d, foreign %d.",
			redriveKind(e.DryRun), e.Took.Round(time.Millisecond), r.Read, r.Sent, r.Unmatched, r.Worn, r.Foreign), Err: text(e.Err)}
		if e.Err != nil {
			l.Level = levelWarn
		}
		return l
	}
	return line{}
}

func redriveKind(dry bool) string {
	if dry {
		return "Dry redrive"
	}
	return "Redrive"
}

// levelOf returns how urgent it is that a consumer has come into a state.
func levelOf(s kafka.State) level {
	switch s {
	case kafka.StateDisabled:
		return levelBad
	case kafka.StateBackingOff:
		return levelWarn
	}
	return levelWell
}

// partitionLine describes an event of partitions, as consumerLine does.
func partitionLine(e kafka.Event) line {
	switch e := e.(type) {
	case kafka.PartitionsAssigned:
		return line{Text: "Assigned " + partitions(e.Partitions) + "."}
	case kafka.PartitionsRevoked:
		l := line{Text: fmt.Sprintf("Gave up %s in %v.", partitions(e.Partitions), e.Took.Round(time.Millisecond))}
		if len(e.Stuck) > 0 {
			l.Level, l.Text = levelBad, l.Text+" Handlers did not return: "+partitions(e.Stuck)+"."
		}
		return l
	case kafka.PartitionsLost:
		return line{Level: levelWarn, Text: "Lost " + partitions(e.Partitions) + ".", Err: text(e.Err)}
	case kafka.DataLoss:
		how := "are gone"
		if e.Recreated {
			how = "are gone: the topic was created again"
		}
		return line{Level: levelBad, Text: fmt.Sprintf("Records of %v from offset %d %s; it goes on at %d.", kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.From, how, e.To)}
	case kafka.NoPosition:
		return line{Level: levelWarn, Text: fmt.Sprintf("%v had no committed position; it starts at %d, its log at %d.", kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.Start, e.Begin)}
	}
	return line{}
}

// recordLine describes an event of one record, as consumerLine does.
func recordLine(e kafka.Event) line {
	switch e := e.(type) {
	case kafka.HandlerFailed:
		next := ""
		if !e.NextRetry.IsZero() {
			next = " Next try at " + clock(e.NextRetry) + "."
		}
		return line{Level: levelWarn, Text: fmt.Sprintf("Handler failed %s (%d in a row).%s", record(kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.Offset), e.Failures, next), Err: text(e.Err)}
	case kafka.RecordSkipped:
		return line{Level: levelWarn, Text: "Skipped " + record(e.TopicPartition, e.Offset) + ".", Err: text(e.Err)}
	case kafka.RecordForwarded:
		return line{Level: levelWarn, Text: fmt.Sprintf("Dead letter of %s in %s (%s).", record(e.TopicPartition, e.Offset), e.To.Topic, e.Reason), Err: text(e.Err)}
	case kafka.RecordRetried:
		return line{Level: levelWarn, Text: fmt.Sprintf("Sent %s to %s, to be tried again after %v.", record(e.TopicPartition, e.Offset), e.To.Topic, e.Delay), Err: text(e.Err)}
	case kafka.RecordPassedOver:
		return line{Level: levelWarn, Text: fmt.Sprintf("Passed over %s, which group %s has sent there.", record(e.TopicPartition, e.Offset), e.Owner)}
	case kafka.ForwardFailed:
		return line{Level: levelBad, Text: fmt.Sprintf("Copy of %s not sent to %s.", record(e.TopicPartition, e.Offset), e.ToTopic), Err: text(e.Err)}
	}
	return line{}
}

// record names a record.
func record(p kafka.TopicPartition, offset int64) string {
	return fmt.Sprintf("%v at offset %d", p, offset)
}

// producerLine describes an event of a producer, as consumerLine does.
func producerLine(e kafka.Event) line {
	switch e := e.(type) {
	case kafka.CallbackPanicked:
		return line{Level: levelBad, Text: "A callback of producer " + e.ProducerID + " has panicked.", Err: text(e.Err)}
	case kafka.SendFailed:
		return line{Level: levelBad, Text: "Producer " + e.ProducerID + " has not sent a message to " + e.Topic + ".", Err: text(e.Err)}
	}
	return line{}
}

func describePause(e kafka.PauseChanged) string {
	did := "Resumed"
	if e.Paused {
		did = "Paused"
	}
	if len(e.Partitions) == 0 {
		return did + " by an operator."
	}
	return did + " by an operator: " + partitions(e.Partitions) + "."
}

func describeMoved(e kafka.PositionsMoved) string {
	var ps []kafka.TopicPartition
	for _, p := range e.Partitions {
		ps = append(ps, p.TopicPartition)
	}
	return "Moved to " + e.To.String() + " by an operator: " + partitions(ps) + "."
}

// partitions names the first ones.
func partitions(ps []kafka.TopicPartition) string {
	var names []string
	for _, p := range ps[:min(len(ps), 8)] {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ") + more(len(ps)-8)
}
