package kafkahttp

import (
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

// describe says an event in a sentence.
func describe(e kafka.Event) line {
	record := func(topic string, partition int32, offset int64) string {
		return fmt.Sprintf("%s at offset %d", kafka.TopicPartition{Topic: topic, Partition: partition}, offset)
	}
	switch e := e.(type) {
	case kafka.StateChanged:
		l := levelWell
		switch e.To {
		case kafka.StateDisabled:
			l = levelBad
		case kafka.StateBackingOff:
			l = levelWarn
		}
		return line{Level: l, Text: fmt.Sprintf("Is %v, was %v.", e.To, e.From), Err: text(e.Reason)}
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
	case kafka.HandlerFailed:
		next := ""
		if !e.NextRetry.IsZero() {
			next = " Next try at " + e.NextRetry.UTC().Format("15:04:05") + "."
		}
		return line{Level: levelWarn, Text: fmt.Sprintf("Handler failed %s (%d in a row).%s", record(e.Topic, e.Partition, e.Offset), e.Failures, next), Err: text(e.Err)}
	case kafka.RecordSkipped:
		return line{Level: levelWarn, Text: "Skipped " + record(e.Topic, e.Partition, e.Offset) + ".", Err: text(e.Err)}
	case kafka.RecordForwarded:
		return line{Level: levelWarn, Text: fmt.Sprintf("Dead letter of %s in %s (%s).", record(e.Topic, e.Partition, e.Offset), e.To.Topic, e.Reason), Err: text(e.Err)}
	case kafka.ForwardFailed:
		return line{Level: levelBad, Text: fmt.Sprintf("Dead letter of %s not sent to %s.", record(e.Topic, e.Partition, e.Offset), e.ToTopic), Err: text(e.Err)}
	case kafka.ConsumerHeld:
		if e.Until.IsZero() {
			return line{Text: "No longer held."}
		}
		return line{Level: levelWarn, Text: "Held until " + e.Until.UTC().Format("15:04:05") + ".", Err: text(e.Err)}
	case kafka.CommitFailed:
		return line{Level: levelWarn, Text: "Commit failed.", Err: text(e.Err)}
	case kafka.DriverError:
		at := ""
		if e.Topic != "" {
			at = " with " + e.Topic
		}
		return line{Level: levelWarn, Text: "The driver has had an error" + at + ".", Err: text(e.Err)}
	case kafka.DataLoss:
		how := "are gone"
		if e.Recreated {
			how = "are gone: the topic was created again"
		}
		return line{Level: levelBad, Text: fmt.Sprintf("Records of %s from offset %d %s; it goes on at %d.", kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.From, how, e.To)}
	case kafka.NoPosition:
		return line{Level: levelWarn, Text: fmt.Sprintf("%s had no committed position; it starts at %d, its log at %d.", kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.Start, e.Begin)}
	case kafka.CallbackPanicked:
		return line{Level: levelBad, Text: "A callback of producer " + e.ProducerID + " has panicked.", Err: text(e.Err)}
	case kafka.SendFailed:
		return line{Level: levelBad, Text: "Producer " + e.ProducerID + " has not sent a message to " + e.Topic + ".", Err: text(e.Err)}
	case kafka.ShutdownEnded:
		return line{Text: fmt.Sprintf("Shut down in %v.", e.Took.Round(time.Millisecond)), Err: text(e.Err)}
	}
	return line{Text: reflect.TypeOf(e).Name() + "."}
}

// partitions names the first ones.
func partitions(ps []kafka.TopicPartition) string {
	var names []string
	for _, p := range ps[:min(len(ps), 8)] {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ") + more(len(ps)-8)
}
