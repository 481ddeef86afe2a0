// Package fetchwire reads fetches and their answers as they go over a connection, so that
// records are examined before a client decodes them.
package fetchwire

import "encoding/binary"

// The first versions of a fetch in which something is different.
const (
	flexible    = 12 // lengths are compact, and tags follow
	withIDs     = 13 // a topic is named by its ID
	withoutSelf = 15 // a consumer names no replica
)

// A cursor reads the fields of a fetch. When bytes are missing it is bad from then on, and
// reads zeros.
type cursor struct {
	b        []byte
	at       int
	flexible bool
	bad      bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b)-c.at {
		c.bad = true
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at : c.at]
}

func (c *cursor) int16() int16 {
	if b := c.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) int64() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (c *cursor) uvarint() int {
	v, n := binary.Uvarint(c.b[min(c.at, len(c.b)):])
	if c.bad || n <= 0 || v > uint64(len(c.b)) {
		c.bad = true
		return 0
	}
	c.at += n
	return int(v)
}

// count reads the length of an array, or of records. Null is 0.
func (c *cursor) count() int {
	if c.flexible {
		return max(0, c.uvarint()-1)
	}
	return max(0, int(c.int32()))
}

func (c *cursor) name() []byte {
	if c.flexible {
		return c.take(c.uvarint() - 1)
	}
	return c.take(int(c.int16()))
}

// topic reads the name of a topic, or the 16 bytes of its ID.
func (c *cursor) topic(version int16) []byte {
	if version >= withIDs {
		return c.take(16)
	}
	return c.name()
}

// tags passes over the fields that later versions have added.
func (c *cursor) tags() {
	if !c.flexible {
		return
	}
	for n := c.uvarint(); n > 0 && !c.bad; n-- {
		c.uvarint()
		c.take(c.uvarint())
	}
}

// An Asked is one partition in a fetch request.
type Asked struct {
	Topic  []byte // its name, or its ID in a version that has IDs
	ID     int32
	Offset int64
}

// EachAsked calls visit for each partition in a fetch request, which begins with its length.
func EachAsked(request []byte, visit func(Asked)) {
	c := cursor{b: request, at: lengthOfRequest + 2}
	version := c.int16()
	c.int32() // the correlation ID
	c.take(max(0, int(c.int16())))
	c.flexible = version >= flexible
	c.tags()
	if version < withoutSelf {
		c.take(4)
	}
	c.take(8) // longest wait, least bytes
	if version >= 3 {
		c.int32()
	}
	if version >= 4 {
		c.take(1)
	}
	if version >= 7 {
		c.take(8)
	}
	for topics := c.count(); topics > 0 && !c.bad; topics-- {
		topic := c.topic(version)
		for n := c.count(); n > 0 && !c.bad; n-- {
			p := c.asked(version)
			if p.Topic = topic; !c.bad {
				visit(p)
			}
		}
		c.tags()
	}
}

func (c *cursor) asked(version int16) Asked {
	p := Asked{ID: c.int32()}
	if version >= 9 {
		c.int32()
	}
	p.Offset = c.int64()
	if version >= flexible {
		c.int32()
	}
	if version >= 5 {
		c.int64()
	}
	c.int32()
	c.tags()
	return p
}

// An Answered is one partition in the answer to a fetch.
type Answered struct {
	Topic   []byte // as in Asked
	ID      int32
	Code    int16
	End     int64 // the high watermark
	Stable  int64 // the last stable offset; the high watermark in old versions
	Records []byte
}

// EachAnswered calls visit for each partition in the answer to a fetch, which
// begins after its head.
func EachAnswered(answer []byte, version int16, visit func(Answered)) {
	if version >= flexible && len(answer) == 0 {
		return
	}
	c := cursor{b: answer, flexible: version >= flexible}
	if version >= 1 {
		c.int32()
	}
	if version >= 7 {
		c.take(6)
	}
	for topics := c.count(); topics > 0 && !c.bad; topics-- {
		topic := c.topic(version)
		for n := c.count(); n > 0 && !c.bad; n-- {
			p := c.answered(version)
			if p.Topic = topic; !c.bad {
				visit(p)
			}
		}
		c.tags()
	}
}

func (c *cursor) answered(version int16) Answered {
	p := Answered{ID: c.int32(), Code: c.int16(), End: c.int64()}
	p.Stable = p.End
	if version >= 4 {
		p.Stable = c.int64()
		if version >= 5 {
			c.int64()
		}
		for n := c.count(); n > 0 && !c.bad; n-- {
			c.take(16)
			c.tags()
		}
	}
	if version >= 11 {
		c.int32()
	}
	p.Records = c.take(c.count())
	c.tags()
	return p
}
