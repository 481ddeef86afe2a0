package response

const (
	maxDepth   = 4     // of arrays within arrays
	maxDigits  = 5     // of a varint: it holds 32 bits
	maxString  = 32767 // bytes, in Kafka
	maxBrokers = 10_000

	// namedBytes is the least that a topic or a partition takes in a request.
	namedBytes = 4
)

// A reader follows one answer along its layout, in whatever pieces it comes. It passes
// over fields that it does not need, so records cost nothing.
type reader struct {
	request Request
	fields  []field // of its answer; what comes after them is not looked at
	at      int     // the field that comes
	rest    int     // bytes of the answer that are to come

	skip   int    // bytes to pass over
	value  uint64 // the part of a number that has come
	digits int    // the bytes that it had

	loops  [maxDepth]loop
	depth  int
	named  int   // elements that the request must have named
	tags   int   // numbers to come of tagged fields, two for each
	tagged bool  // such numbers are coming
	failed bool  // the answer has an error code
	coded  bool  // the error code has come
	code   int16 // the error code
	pause  int32 // the throttle time, in milliseconds
}

// A loop is an array that is being followed.
type loop struct{ first, left int }

// start begins with the answer to a request, of which rest bytes come after its head.
func (r *reader) start(of Request, rest int) {
	*r = reader{request: of, rest: rest, pause: r.pause}
	if formats := layouts[of.Key]; of.Version >= 0 && int(of.Version) < len(formats) {
		f := formats[of.Version]
		r.fields = f.fields
		if f.flexible {
			r.skip = 1 // the tagged fields of the head, which no client uses
		}
	}
}

func (r *reader) stop() { r.fields = nil }

// read follows b, a piece of the answer, and puts 0 in place of a throttle time.
func (r *reader) read(b []byte) error {
	for i := 0; i < len(b); {
		r.settle()
		if r.skip == 0 && r.at >= len(r.fields) {
			return nil
		}
		if r.skip > 0 {
			n := min(r.skip, len(b)-i)
			r.skip -= n
			r.rest -= n
			i += n
			continue
		}
		f := &r.fields[r.at]
		complete, ok := r.digit(f.width, b[i])
		if f.kind == 't' {
			b[i] = 0
		}
		i++
		r.rest--
		if !ok {
			return r.broken("a length of more than 32 bits")
		}
		if complete {
			value := r.value
			r.value, r.digits = 0, 0
			if err := r.act(f, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle goes on to the next field that has to be read.
func (r *reader) settle() {
	for r.skip == 0 && r.at < len(r.fields) {
		switch f := &r.fields[r.at]; f.kind {
		case 'n':
			r.skip = f.width
			r.at++
		case ']':
			l := &r.loops[r.depth-1]
			if l.left--; l.left > 0 {
				r.at = f.next
			} else {
				r.depth--
				r.at++
			}
		default:
			return
		}
	}
}

// digit takes the next byte of a number. It reports whether that is the last one.
func (r *reader) digit(width int, b byte) (complete, ok bool) {
	if width != varint {
		r.value = r.value<<8 | uint64(b)
		r.digits++
		return r.digits == width, true
	}
	r.value |= uint64(b&0x7f) << (7 * r.digits)
	r.digits++
	return b < 0x80, b < 0x80 || r.digits < maxDigits
}

// act takes a number that has come as a whole.
func (r *reader) act(f *field, value uint64) error {
	switch f.kind {
	case 'T':
		return r.tag(value)
	case 's', 'b':
		return r.pass(f, length(f.width, value))
	case '[':
		return r.enter(f, length(f.width, value))
	case 't':
		r.pause = max(r.pause, int32(value))
	case 'e':
		r.code, r.coded, r.failed = int16(value), true, value != 0
	case 'p':
		if sign := uint64(1) << (8*f.width - 1); value&sign != 0 && !r.failed {
			return r.broken("a negative identity, and no error")
		}
	}
	r.at++
	return nil
}

// length returns a length or a count, which is -1 for null.
func length(width int, value uint64) int {
	switch width {
	case 1: // of a structure that may be null
		return min(int(int8(value)), 1)
	case 2:
		return int(int16(value))
	case 4:
		return int(int32(value))
	}
	return int(value) - 1
}

// pass passes over a string or bytes.
func (r *reader) pass(f *field, n int) error {
	if n > r.rest {
		return r.broken("a text of %d bytes where %d are left", n, r.rest)
	}
	if f.kind == 's' && n > maxString {
		return r.broken("a string of %d bytes, more than Kafka allows", n)
	}
	r.skip = max(0, n)
	r.at++
	return nil
}

// enter begins an array of n elements, if there can be so many.
func (r *reader) enter(f *field, n int) error {
	switch {
	case n <= 0:
		r.at = f.next
		return nil
	case n > r.rest/max(1, f.min), f.mode == '<' && n > maxBrokers:
		return r.broken("%d elements in %d bytes", n, r.rest)
	}
	if f.mode == '=' {
		if r.named += n; r.named > r.request.Bytes/namedBytes {
			return r.broken("%d elements, where the request of %d bytes cannot have named so many", r.named, r.request.Bytes)
		}
	}
	r.loops[r.depth] = loop{r.at + 1, n}
	r.depth++
	r.at++
	return nil
}

// tag takes a number of tagged fields: how many there are, and then for each of
// them which it is and how long.
func (r *reader) tag(value uint64) error {
	if int(value) > r.rest && (!r.tagged || r.tags%2 == 1) {
		return r.broken("%d bytes or tagged fields where %d are left", value, r.rest)
	}
	if !r.tagged {
		r.tagged, r.tags = true, 2*int(value)
	} else if r.tags--; r.tags%2 == 0 {
		r.skip = int(value)
	}
	if r.tags == 0 {
		r.tagged = false
		r.at++
	}
	return nil
}

func (r *reader) broken(format string, args ...any) error {
	return broken("the answer to a request with API key %d, version %d, is broken: "+format,
		append([]any{r.request.Key, r.request.Version}, args...)...)
}
