// Package position decides where the claims of a consumer group start: which positions
// are made durable before a group is joined, and where a position moves that is no
// longer in the log. It holds the decisions; a driver makes the requests.
package position

import (
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// A Partition is one partition of a topic.
type Partition struct {
	Topic string
	ID    int32
}

// Committed are the positions of a group, as its coordinator has answered.
type Committed struct {
	At     map[Partition]int64  // without the partitions that have none
	Beside map[Partition]string // the metadata of those in At
	Failed map[Partition]error  // why the position of a partition is not known
}

// Fresh returns those of partitions whose topic certainly has no position in any
// partition. A topic with a position that is not known may have one.
func (c Committed) Fresh(partitions []Partition) (fresh []Partition) {
	known := map[string]bool{}
	for p := range c.At {
		known[p.Topic] = true
	}
	for p := range c.Failed {
		known[p.Topic] = true
	}
	for _, p := range partitions {
		if !known[p.Topic] {
			fresh = append(fresh, p)
		}
	}
	return fresh
}

// Answered returns why a leader's answer, which comes without an error, holds no offset. It was
// asked for an end of the log, which a negative number stands for, or for a time. Of a time the
// answer -1 says that no record is as late.
func Answered(offset, asked int64) error {
	if offset >= 0 || offset == -1 && asked >= 0 {
		return nil
	}
	return &driver.Error{Code: "INVALID_RESPONSE", Err: fmt.Errorf("a leader answered the offset %d", offset)}
}

// A Verdict is what happens to a position that was found out of range.
type Verdict int

const (
	Inside Verdict = iota // it is in the log after all
	Moved                 // an earlier attempt has moved it, though that seemed to fail
	Move                  // it has to be moved
)

// Judge decides about a position that was found out of range of p's log [begin, end). The
// group's position is now at, if it has one, and earlier is the gap that an attempt
// before this one has wanted to pass, or nil. Judge returns the gap for Moved and Move.
//
// Another member may have moved the position meanwhile, or a replica that is behind may
// have been asked: then it is inside.
func Judge(p Partition, at int64, has bool, begin, end int64, policy driver.OutOfRange, earlier *driver.DataLossError) (Verdict, *driver.DataLossError) {
	switch {
	case has && earlier != nil && at == earlier.To:
		return Moved, earlier
	case !has || at >= begin && at <= end:
		return Inside, nil
	}
	gap := &driver.DataLossError{
		Topic: p.Topic, Partition: p.ID, From: at, To: begin, Begin: begin, End: end,
	}
	if policy == driver.OutOfRangeNewest {
		gap.To = end
	}
	return Move, gap
}

// Parted returns the gap of a position that a cut of p's log has overtaken: the log
// [begin, end) parts at an offset from the one in which the position was earned (KIP-320).
// The oldest record that was never handled is the one at which the logs part.
func Parted(p Partition, at, parted, begin, end int64, policy driver.OutOfRange) *driver.DataLossError {
	gap := &driver.DataLossError{
		Topic: p.Topic, Partition: p.ID, From: at, To: max(begin, min(parted, end)), Begin: begin, End: end,
	}
	if policy == driver.OutOfRangeNewest {
		gap.To = end
	}
	return gap
}
