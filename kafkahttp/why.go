package kafkahttp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// A level says how urgent something is. Its text is a class of the style sheet. A label on
// the page says the same in words, so that no colour alone says it.
type level int

const (
	levelWell level = iota
	levelOff        // on purpose
	levelBusy       // it passes by itself
	levelWarn       // it may not
	levelBad        // it does not
)

func (l level) String() string { return [...]string{"well", "off", "busy", "warn", "bad"}[l] }

// A why is a reason why something stands still or is not as it should be, and what helps.
type why struct {
	Level level
	Text  string
	Err   string
	Help  string
	Since time.Time // zero if it is not known
	Next  time.Time // when it is tried again by itself; zero if it is not
}

// longCall is how long a call may run before the page names it as the reason.
const longCall = 30 * time.Second

// whyConsumer returns the reasons why a consumer stands still or has trouble, the most urgent
// first, except for those of its partitions.
func whyConsumer(s *kafka.ConsumerStatus) []why {
	all := slices.Concat(whyState(s), whyTrouble(s), whyTopics(s))
	slices.SortStableFunc(all, func(a, b why) int { return cmp.Compare(b.Level, a.Level) })
	return all
}

// whyState returns what a consumer's state says.
func whyState(s *kafka.ConsumerStatus) (all []why) {
	add := func(w why) { all = append(all, w) }
	switch s.State {
	case kafka.StateOff:
		if s.Switch {
			add(why{Level: levelWarn, Text: "Switched on, but the manager has not been started.", Help: "The program has to call Run or StartAllConsumers."})
		} else {
			add(why{Level: levelOff, Text: "Switched off in this process.", Since: s.Since, Help: "Switch it on to consume here. Other instances are not affected, and a restart forgets it."})
		}
	case kafka.StateStarting:
		w := why{Level: levelBusy, Text: "Waits to be let into its group.", Since: s.Since, Err: text(s.Reason)}
		if s.Reason != nil {
			w.Level, w.Text, w.Help = levelWarn, "Not a member of its group.", "It goes on trying. Look at the brokers and the network."
		}
		add(w)
	case kafka.StateBackingOff:
		failed := "The start has failed."
		if s.Errors > 1 {
			failed = fmt.Sprintf("%d starts in a row have failed.", s.Errors)
		}
		add(why{Level: levelWarn, Text: failed, Err: text(s.Reason), Since: s.Since, Next: s.NextRetry, Help: "Look at the brokers, the credentials and the topic. Switching it on tries at once."})
	case kafka.StateDisabled:
		add(why{Level: levelBad, Text: "Given up.", Err: text(s.Reason), Since: s.Since, Next: s.NextRetry, Help: "Mend the cause, then switch it on."})
	case kafka.StateStopping:
		add(why{Level: levelBusy, Text: "Waits for its handlers, then leaves its group.", Err: text(s.Reason), Since: s.Since})
	case kafka.StateStopped:
		add(why{Level: levelOff, Text: "The manager has shut down.", Since: s.Since})
	}
	if s.State == kafka.StateRunning && len(s.Partitions) == 0 && len(s.TopicErrors) == 0 {
		add(why{Level: levelOff, Text: "On standby: it has no partitions here.", Help: "The other members of its group have them all. It takes over when one leaves."})
	}
	return all
}

// whyTrouble returns what does not work in a consumer as a whole.
func whyTrouble(s *kafka.ConsumerStatus) (all []why) {
	add := func(w why) { all = append(all, w) }
	if s.Held != nil {
		add(why{Level: levelWarn, Text: "Held: nothing is handed out.", Err: text(s.Held.Err), Since: s.Held.Since, Next: s.Held.Until,
			Help: "The handler blames an outage. One record is tried then; end the hold when the outage is over."})
	}
	if s.Paused {
		add(why{Level: levelOff, Text: "Paused by an operator: nothing is handed out.", Help: "Resume it to go on. Other instances are not affected, and a restart forgets it."})
	} else if len(s.PausedPartitions) > 0 {
		add(why{Level: levelOff, Text: "Paused by an operator: " + partitions(s.PausedPartitions) + ".", Help: "Their records are not handed out here, whether they are owned or not."})
	}
	if slices.ContainsFunc(s.Partitions, func(p kafka.PartitionStatus) bool { return p.RateLimited }) {
		add(why{Level: levelBusy, Text: "Slowed by its rate: at most " + perSecond(s.MaxRate) + ".", Help: "An operator or the configuration asks for that."})
	}
	if s.CommitError != nil {
		add(why{Level: levelWarn, Text: "Positions cannot be committed.", Err: text(s.CommitError), Help: "Handled records come again after a restart. It goes on trying."})
	}
	if s.PolicyError != nil {
		add(why{Level: levelWarn, Text: "The failure policy does not work; such records are kept.", Err: text(s.PolicyError), Help: "Correct ConsumerConfig.Failure."})
	}
	if s.DriverError != nil && (s.Reason == nil || text(s.Reason) != text(s.DriverError)) {
		add(why{Level: levelWarn, Text: "The connection to the brokers has had an error.", Err: text(s.DriverError), Since: s.DriverErrorAt})
	}
	return all
}

// maxTopics is how many topics that cannot be read a page names.
const maxTopics = 20

// whyTopics returns which topics cannot be read, and which handlers have outlived their claim.
func whyTopics(s *kafka.ConsumerStatus) (all []why) {
	add := func(w why) { all = append(all, w) }
	for _, e := range s.TopicErrors[:min(len(s.TopicErrors), maxTopics)] {
		at := e.Topic
		if e.Partition >= 0 {
			at = kafka.TopicPartition{Topic: e.Topic, Partition: e.Partition}.String()
		}
		add(why{Level: levelWarn, Text: at + " cannot be read.", Err: text(e.Err), Since: e.At})
	}
	if n := len(s.TopicErrors) - maxTopics; n > 0 {
		add(why{Level: levelWarn, Text: fmt.Sprintf("%d more topics or partitions cannot be read.", n), Help: "The JSON has all of them."})
	}
	if n := len(s.Stragglers); n > 0 {
		var names []string
		for _, p := range s.Stragglers[:min(n, 10)] {
			names = append(names, p.String())
		}
		add(why{Level: levelWarn, Text: "Handlers have not returned though their partitions have left: " + strings.Join(names, ", ") + more(n-10) + ".",
			Help: "They ignore their context. What they return is not committed."})
	}
	return all
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// others says what becomes of the other records of a partition in which one fails.
func others(p *kafka.PartitionStatus) string {
	if p.Undone == 0 { // it is known with OrderByKey and OrderNone
		return "Later records of this partition wait for it."
	}
	return fmt.Sprintf("Records that need not wait for it go on. Of this partition, failed and waiting: %s; behind an earlier record of their key: %s; done above the position: %s.",
		number(int64(p.BackingOff)), number(int64(p.Waiting)), number(int64(p.DoneAbove)))
}

// whyPartition returns the reasons why a partition stands still, the most urgent first.
func whyPartition(p *kafka.PartitionStatus, held bool, now time.Time) []why {
	paused := slices.Contains(p.PausedBy, kafka.PausedByOperator)
	held = held || paused
	all := append(whyRecord(p, held), whyHandler(p, held, now)...)
	if p.FetchError != nil {
		all = append(all, why{Level: levelBad, Text: "Nothing more can be read.", Err: text(p.FetchError), Since: p.FetchErrorAt, Help: "Look at the topic's batch at that offset, and at the broker that leads the partition."})
	}
	if p.RateLimited && !fails(p) {
		all = append(all, why{Level: levelBusy, Text: "Slowed by the rate of the consumer.", Help: "Raise the rate, or lift it with 0."})
	}
	switch {
	case paused:
		all = append(all, why{Level: levelOff, Text: "Paused by an operator."})
	case len(all) == 0 && slices.Contains(p.PausedBy, kafka.PausedByDone):
		all = append(all, why{Level: levelBusy, Text: "Fetching waits: too many records are done above one that is not."})
	case len(all) == 0 && p.Paused:
		all = append(all, why{Level: levelBusy, Text: "Fetching waits for the handler, whose queue is full."})
	}
	return all
}

// fails reports whether a record of p has failed.
func fails(p *kafka.PartitionStatus) bool { return p.LastError != nil || p.Errors > 0 }

// whyRecord returns why the failing record of p is not done, if p has one.
func whyRecord(p *kafka.PartitionStatus, held bool) []why {
	switch {
	case !fails(p):
		return nil
	case p.ForwardError != nil:
		return []why{{Level: levelBad, Text: fmt.Sprintf("The copy of offset %d to another topic fails.", p.Failing), Err: text(p.ForwardError), Since: p.StandsSince, Next: p.NextRetry,
			Help: "The handler failed it with: " + text(p.LastError)}}
	}
	times := "has failed"
	if p.Errors > 1 {
		times = fmt.Sprintf("has failed %d times", p.Errors)
	}
	w := why{Level: levelBad, Text: fmt.Sprintf("The record at offset %d %s.", p.Failing, times), Err: text(p.LastError), Since: p.StandsSince, Next: p.NextRetry, Help: others(p)}
	switch {
	case held:
		w.Level, w.Next = levelWarn, time.Time{}
	case w.Next.IsZero():
		w.Help = "The handler is at it again. " + w.Help
	}
	return []why{w}
}

// whyHandler returns what is wrong with the calls of the handler, if something is.
func whyHandler(p *kafka.PartitionStatus, held bool, now time.Time) []why {
	switch {
	case !p.StuckSince.IsZero():
		w := why{Level: levelBad, Text: fmt.Sprintf("The handler does not return from offset %d, though its time is up.", p.Position), Since: p.StuckSince, Help: "Only a restart of the process helps."}
		if p.Undone > 0 { // it may be at any of them
			w.Text = "A handler does not return, though its time is up."
		}
		return []why{w}
	case fails(p) || !standsLong(p, now):
		return nil
	case p.InFlight > 0:
		return []why{{Level: levelWarn, Text: fmt.Sprintf("The handler has been at offset %d for a long time.", p.Position), Since: p.StandsSince, Help: "Look at what it waits for. Healthy reports it when it is stuck."}}
	case !held && !p.RateLimited && p.Buffered > 0:
		return []why{{Level: levelWarn, Text: fmt.Sprintf("Offset %d is ready and is not handed out.", p.Position), Since: p.StandsSince, Help: "An earlier handler of this partition may still run, or others have all places of MaxConcurrency."}}
	}
	return nil
}

func standsLong(p *kafka.PartitionStatus, now time.Time) bool {
	return !p.StandsSince.IsZero() && now.Sub(p.StandsSince) > longCall
}
