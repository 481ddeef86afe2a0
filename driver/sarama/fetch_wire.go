package sarama

import "encoding/binary"

// flexibleFetch is the first version of a fetch with compact lengths and tags.
const flexibleFetch = 12

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

// An askedPartition is one partition in a fetch request.
type askedPartition struct {
	topic  []byte
	id     int32
	offset int64
}

// eachAsked calls visit for each partition in a fetch request, which begins with its length.
func eachAsked(request []byte, visit func(askedPartition)) {
	c := cursor{b: request, at: lengthOfRequest + 2}
	version := c.int16()
	c.int32() // the correlation ID
	c.take(max(0, int(c.int16())))
	c.flexible = version >= flexibleFetch
	c.tags()
	c.take(12) // replica, longest wait, least bytes
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
		topic := c.name()
		for n := c.count(); n > 0 && !c.bad; n-- {
			p := c.askedPartition(version)
			if p.topic = topic; !c.bad {
				visit(p)
			}
		}
		c.tags()
	}
}

func (c *cursor) askedPartition(version int16) askedPartition {
	p := askedPartition{id: c.int32()}
	if version >= 9 {
		c.int32()
	}
	p.offset = c.int64()
	if version >= flexibleFetch {
		c.int32()
	}
	if version >= 5 {
		c.int64()
	}
	c.int32()
	c.tags()
	return p
}

// An answeredPartition is one partition in the answer to a fetch.
type answeredPartition struct {
	topic   []byte
	id      int32
	code    int16
	end     int64 // the high watermark
	stable  int64 // the last stable offset; the high watermark in old versions
	records []byte
}

// eachAnswered calls visit for each partition in the answer to a fetch, which
// begins after its head.
func eachAnswered(answer []byte, version int16, visit func(answeredPartition)) {
	c := cursor{b: answer, flexible: version >= flexibleFetch}
	if version >= 1 {
		c.int32()
	}
	if version >= 7 {
		c.take(6)
	}
	for topics := c.count(); topics > 0 && !c.bad; topics-- {
		topic := c.name()
		for n := c.count(); n > 0 && !c.bad; n-- {
			p := c.answeredPartition(version)
			if p.topic = topic; !c.bad {
				visit(p)
			}
		}
		c.tags()
	}
}

func (c *cursor) answeredPartition(version int16) answeredPartition {
	p := answeredPartition{id: c.int32(), code: c.int16(), end: c.int64()}
	p.stable = p.end
	if version >= 4 {
		p.stable = c.int64()
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
	p.records = c.take(c.count())
	c.tags()
	return p
}
