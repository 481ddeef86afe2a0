package response

import (
	"iter"
	"strconv"
	"strings"
)

// A layout describes the answers of one API by the fields in their order, in the
// versions up to newest. A Follower passes over an answer in a later version.
//
//	1 2 4 8 u   a field of so many bytes; u is 16
//	s b         a string, and bytes, after their length
//	[ ... ]     an array: a count, and as many elements
//	[=          an array whose elements the request has named
//	[<          an array that is short in every cluster
//	[?          a structure that may be null: an array of one element at most
//	t           the throttle time
//	e           the error code of the answer, which Heard gets; without an error, fields p
//	            must not be negative
//	p2 p8       such a field, of so many bytes
//	T           tagged fields, in flexible versions
//
// A field may be followed by the first version that has it, after @, and by the last
// one, after a hyphen; for an array they hold for all of it. A Follower passes over
// what comes after the last field.
type layout struct {
	flexible int16 // from this version on lengths and counts are varints
	newest   int16
	fields   string
}

// API keys of Kafka's protocol.
const (
	Produce          = 0
	Fetch            = 1
	ListOffsets      = 2
	Metadata         = 3
	OffsetCommit     = 8
	OffsetFetch      = 9
	FindCoordinator  = 10
	JoinGroup        = 11
	Heartbeat        = 12
	LeaveGroup       = 13
	SyncGroup        = 14
	SASLHandshake    = 17
	APIVersions      = 18
	InitProducerID   = 22
	LeaderEpoch      = 23 // OffsetForLeaderEpoch
	SASLAuthenticate = 36
	GroupHeartbeat   = 68 // ConsumerGroupHeartbeat (KIP-848)
)

// Newest yields the APIs whose answers a Follower follows, each with the newest version.
func Newest() iter.Seq2[int16, int16] {
	return func(yield func(key, version int16) bool) {
		for key, formats := range layouts {
			if !yield(key, int16(len(formats))-1) {
				return
			}
		}
	}
}

// layouts has no APIVersions: its answer may have an older version than the request. It
// is short.
var layouts = compileAll(map[int16]layout{
	Produce:          {9, 12, "[= s [= 4 2 8 8@2 8@5 [@8 4 s T ] s@8 T ] T ] t@1 T"},
	Fetch:            {12, 18, "t@1 2@7 4@7 [= s@0-12 u@13 [= 4 2 8 8@4 8@5 [@4 8 8 T ] 4@11 b T ] T ] T"},
	ListOffsets:      {6, 11, "t@2 [= s [= 4 2 [@0-0 8 ] 8@1 8@1 4@4 T ] T ] T"},
	Metadata:         {9, 13, "t@3 [< 4 s 4 s@1 T ] s@2 4@1 [ 2 s u@10 1@1 [ 2 4 4 4@7 [ 4 ] [ 4 ] [@5 4 ] T ] 4@8 T ] 4@8-10 2@13 T"},
	OffsetCommit:     {8, 10, "t@3 [= s@0-9 u@10 [= 4 2 T ] T ] T"},
	OffsetFetch:      {6, 10, "t@3 [@8 s [ s@0-9 u@10 [ 4 8 4 s 2 T ] T ] 2 T ] [@0-7 s [ 4 8 4@5 s 2 T ] T ] 2@2-7 T"},
	FindCoordinator:  {3, 6, "t@1 2@0-3 s@1-3 4@0-3 s@0-3 4@0-3 [@4 s 4 s 4 2 s T ] T"},
	JoinGroup:        {6, 9, "t@2 e 4 s@7 s s 1@9 s [ s s@5 b T ] T"},
	Heartbeat:        {4, 4, "t@1 e T"},
	LeaveGroup:       {4, 5, "t@1 2 [@3 s s 2 T ] T"},
	SyncGroup:        {4, 5, "t@1 e s@5 s@5 b T"},
	SASLHandshake:    {99, 1, "2 [ s ]"},
	InitProducerID:   {2, 6, "t e p8 p2 T"},
	LeaderEpoch:      {4, 4, "t@2 [= s [= 2 4 4@1 8 T ] T ] T"},
	SASLAuthenticate: {2, 2, "2 s b 8@1 T"},
	GroupHeartbeat:   {0, 1, "t e s s 4 4 [? [ u [ 4 ] T ] T ] T"},
})

// A field is one step of a compiled layout.
type field struct {
	kind  byte
	width int // bytes of the field, or of its length or count; 0 is a varint

	mode byte // of an array: '=', '<', '?' or 0
	min  int  // the least bytes of one of its elements
	next int  // where its description goes on: after its end, or from the end to its beginning
}

// varint is the width of a length or count in a flexible version.
const varint = 0

// A format is a layout in one version.
type format struct {
	flexible bool
	fields   []field
}

func compileAll(all map[int16]layout) map[int16][]format {
	compiled := map[int16][]format{}
	for key, l := range all {
		for v := range l.newest + 1 {
			compiled[key] = append(compiled[key], l.compile(v))
		}
	}
	return compiled
}

// compile returns the format of version v.
func (l layout) compile(v int16) format {
	f := format{flexible: v >= l.flexible}
	var open []int // the arrays around
	absent := 0    // the arrays around that this version does not have
	for word := range strings.FieldsSeq(l.fields) {
		word, versions, _ := strings.Cut(word, "@")
		end := word == "]"
		switch {
		case end && absent > 0:
			absent--
			continue
		case absent > 0 && word[0] == '[', word[0] == '[' && !has(versions, v):
			absent++
			continue
		case absent > 0, !has(versions, v), word == "T" && !f.flexible:
			continue
		}
		if end {
			start := open[len(open)-1]
			open = open[:len(open)-1]
			f.fields = append(f.fields, field{kind: ']', next: start + 1})
			f.fields[start].next = len(f.fields)
			f.fields[start].min = f.least(start+1, len(f.fields)-1)
			continue
		}
		if word[0] == '[' {
			open = append(open, len(f.fields))
		}
		f.fields = append(f.fields, f.field(word))
	}
	return f
}

// has reports whether versions, as in "3" or "8-10", include v.
func has(versions string, v int16) bool {
	if versions == "" {
		return true
	}
	first, last, bounded := strings.Cut(versions, "-")
	return int(v) >= number(first) && (!bounded || int(v) <= number(last))
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // a mistake in the table
	}
	return n
}

func (f format) field(word string) field {
	size := func(fixed int) int {
		if f.flexible {
			return varint
		}
		return fixed
	}
	switch kind := word[0]; kind {
	case 's':
		return field{kind: kind, width: size(2)}
	case 'b':
		return field{kind: kind, width: size(4)}
	case '[':
		fd := field{kind: kind, width: size(4)}
		if len(word) > 1 {
			fd.mode = word[1]
		}
		if fd.mode == '?' {
			fd.width = 1
		}
		return fd
	case 't':
		return field{kind: kind, width: 4}
	case 'e':
		return field{kind: kind, width: 2}
	case 'p':
		return field{kind: kind, width: number(word[1:])}
	case 'T':
		return field{kind: kind, width: varint}
	case 'u':
		return field{kind: 'n', width: 16}
	}
	return field{kind: 'n', width: number(word)}
}

// least returns how many bytes the fields from one to another take if all of them are
// empty.
func (f format) least(from, to int) int {
	n := 0
	for from < to {
		fd := f.fields[from]
		n += max(fd.width, 1)
		if from++; fd.kind == '[' {
			from = fd.next
		}
	}
	return n
}
