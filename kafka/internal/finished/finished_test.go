package finished

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var orders = Place{Topic: "orders", TopicID: [16]byte{1, 2, 3, 15: 16}, Partition: 3}

// The texts are written out, because another version of this library has to read them.
// They were computed from the description of the text by a program in another language.
func TestText(t *testing.T) {
	for _, test := range []struct {
		name     string
		place    Place
		position int64
		runs     []Run
		text     string
		back     []Run
	}{
		{"no runs", orders, 42, nil, "", nil},
		{"no position", orders, -1, []Run{{5, 6}}, "", nil},
		{"one offset", orders, 42, []Run{{43, 44}}, "gk1.AQF8u5wU", []Run{{43, 44}}},
		{"two runs", orders, 42, []Run{{43, 44}, {50, 350}}, "gk1.AQEGrALVQDcH", []Run{{43, 44}, {50, 350}}},
		{"no topic ID", Place{Topic: "orders", Partition: 3}, 42, []Run{{43, 44}}, "gk1.AQFnfiG2", []Run{{43, 44}}},
		{"runs that touch are one", orders, 42, []Run{{43, 44}, {44, 50}, {50, 51}}, "gk1.AQgECUfY", []Run{{43, 51}}},
		{"runs that overlap are one", orders, 42, []Run{{43, 50}, {45, 47}, {48, 51}}, "gk1.AQgECUfY", []Run{{43, 51}}},
		{"below the position", orders, 42, []Run{{3, 5}, {40, 42}}, "", nil},
		{"the position is never named", orders, 42, []Run{{42, 43}}, "", nil},
		{"a run over the position", orders, 42, []Run{{30, 51}}, "gk1.AQgECUfY", []Run{{43, 51}}},
		{"empty and turned runs", orders, 42, []Run{{45, 45}, {60, 50}, {61, 62}}, "gk1.EwFkO117", []Run{{61, 62}}},
		{"runs that fall", orders, 42, []Run{{60, 70}, {43, 50}}, "gk1.EgruEG43", []Run{{60, 70}}},
		{"the longest runs", orders, 0, []Run{{math.MaxInt32, 2 * math.MaxInt32}}, "gk1._____wf_____B9dcibA", []Run{{math.MaxInt32, 2 * math.MaxInt32}}},
		{"a gap of 2³¹", orders, 0, []Run{{1, 2}, {2 + 1<<31, 3 + 1<<31}}, "gk1.AQHqwQvI", []Run{{1, 2}}},
		{"a run of 2³¹", orders, 0, []Run{{1, 2}, {3, 3 + 1<<31}, {5 + 1<<31, 6 + 1<<31}}, "gk1.AQHqwQvI", []Run{{1, 2}}},
		{"the last offset of all", orders, math.MaxInt64 - 2, []Run{{math.MaxInt64 - 1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}}, "gk1.AQFrRr4A", []Run{{math.MaxInt64 - 1, math.MaxInt64}}},
		{"the last position of all", orders, math.MaxInt64, []Run{{math.MinInt64, math.MaxInt64}}, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := Encode(test.place, test.position, test.runs)
			assert.Equal(t, test.text, text)
			runs, err := Decode(test.place, test.position, math.MaxInt64, text)
			require.NoError(t, err)
			assert.Equal(t, test.back, runs)
		})
	}
}

// seal makes a text of lengths that Encode does not write, with the right sum.
func seal(place Place, position int64, lengths ...byte) string {
	raw := binary.BigEndian.AppendUint32(lengths, sum(place, position, lengths))
	return version + encoding.EncodeToString(raw)
}

func uvarints(lengths ...uint64) (raw []byte) {
	for _, n := range lengths {
		raw = binary.AppendUvarint(raw, n)
	}
	return raw
}

// A text that is not exactly what Encode wrote here finishes nothing, and the error
// says why.
func TestUnreadable(t *testing.T) {
	const position, end = 42, 100
	good := Encode(orders, position, []Run{{43, 44}, {50, 60}})
	last := good[len(good)-1] // two of its six bits are spare, and 0
	for _, test := range []struct {
		name, text string
		err        error
		says       string
	}{
		{"Kafka Streams", "AgAAAYxkq0b1", ErrForeign, `it begins with "AgAAAYxkq0b1"`},
		{"control characters", "\x1b[31m\n" + strings.Repeat("x", 99), ErrForeign, `it begins with "\x1b[31m\nxxxxxxxxxx"`},
		{"a long foreign text", strings.Repeat("x", 1<<20), ErrForeign, `it begins with "xxxxxxxxxxxxxxxx"`},
		{"the next version", "gk2." + good[4:], ErrForeign, `it begins with "gk2.`},
		{"half a version", "gk1", ErrForeign, `it begins with "gk1"`},
		{"too large", version + strings.Repeat("A", MaxText), ErrTooLarge, "it has 2052 bytes, and at most 2048 are written"},
		{"the version alone", version, ErrMalformed, "too short for a sum"},
		{"three bytes", version + "AQEB", ErrMalformed, "too short for a sum"},
		{"padding", good + "=", ErrMalformed, "illegal base64"},
		{"a space in front", " " + good, ErrForeign, `it begins with " gk1.`},
		{"a space behind", good + " ", ErrMalformed, "illegal base64"},
		{"a spare bit", good[:len(good)-1] + string(rune(last+1)), ErrMalformed, "illegal base64"},
		{"a line end", good[:9] + "\n" + good[9:], ErrMalformed, "a line end"},
		{"a line end behind", good + "\r\n", ErrMalformed, "a line end"},
		{"the other alphabet", version + "AQ+/AQEBAQEB", ErrMalformed, "illegal base64"},
		{"cut", good[:len(good)-3], ErrSum, "the text is damaged, or of another topic, partition or position"},
		{"a changed run", good[:4] + "AQIG" + good[8:], ErrSum, "the text is damaged, or of another topic, partition or position"},
		{"no runs", seal(orders, position), ErrMalformed, "it has 0 runs"},
		{"one run", seal(orders, position, 1), ErrMalformed, "it has 1 runs"},
		{"three runs", seal(orders, position, 1, 1, 1), ErrMalformed, "it has 3 runs"},
		{"the position as finished", seal(orders, position, 0, 1), ErrRun, "the run at 42 is empty"},
		{"an empty run", seal(orders, position, 1, 0), ErrRun, "the run at 43 is empty"},
		{"zeros in front", seal(orders, position, 0x81, 0x00, 1), ErrMalformed, "the length of the run at 42 has zeros in front"},
		{"cut off", seal(orders, position, 1, 1, 0x81), ErrMalformed, "its last run is cut off"},
		{"2³¹ that are not", seal(orders, position, uvarints(1<<31, 1)...), ErrRun, "the run at 42 has 2147483648 offsets"},
		{"2³¹ that are", seal(orders, position, uvarints(1, 1<<31)...), ErrRun, "the run at 43 has 2147483648 offsets"},
		{"2⁶³", seal(orders, position, uvarints(1, 1<<63)...), ErrRun, "the run at 43 has 9223372036854775808 offsets"},
		{"2⁶⁴-1", seal(orders, position, uvarints(1, math.MaxUint64)...), ErrRun, "the run at 43 has 18446744073709551615 offsets"},
		{"more than 64 bits", seal(orders, position, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2), ErrRun, "the run at 43 has more than 64 bits"},
		{"beyond the end", Encode(orders, position, []Run{{43, 44}, {50, 101}}), ErrBeyondEnd, "the run at 50 has 51 offsets, and the log ends at 100"},
		{"behind the end", Encode(orders, position, []Run{{102, 103}}), ErrBeyondEnd, "the run at 42 has 60 offsets, and the log ends at 100"},
	} {
		t.Run(test.name, func(t *testing.T) {
			runs, err := Decode(orders, position, end, test.text)
			assert.Empty(t, runs)
			require.ErrorIs(t, err, test.err)
			assert.ErrorContains(t, err, "finished offsets of orders/3 above 42: "+test.err.Error()+": ")
			assert.ErrorContains(t, err, test.says)
			assert.Less(t, len(err.Error()), 250, "an error quotes the beginning of a text only")
		})
	}
}

// The end of the log is the offset after its last record: a run may reach it.
func TestEnd(t *testing.T) {
	text := Encode(orders, 42, []Run{{43, 44}, {50, 60}})
	runs, err := Decode(orders, 42, 60, text)
	require.NoError(t, err)
	assert.Equal(t, []Run{{43, 44}, {50, 60}}, runs)
	for _, end := range []int64{59, 50, 49, 43, 42, 41, 0, -1, math.MinInt64} {
		runs, err := Decode(orders, 42, end, text)
		assert.ErrorIs(t, err, ErrBeyondEnd, "end %d", end)
		assert.Nil(t, runs, "end %d", end)
	}
	_, err = Decode(orders, -1, 100, seal(orders, -1, 1, 1))
	assert.ErrorIs(t, err, ErrMalformed)
	_, err = Decode(orders, math.MinInt64, math.MaxInt64, seal(orders, math.MinInt64, 1, 1))
	assert.ErrorIs(t, err, ErrMalformed)
}

// A text is of one place and position: a tool that mirrors topics copies it to others.
func TestElsewhere(t *testing.T) {
	text := Encode(orders, 42, []Run{{43, 44}})
	for _, test := range []struct {
		name     string
		place    Place
		position int64
	}{
		{"topic", Place{"order", orders.TopicID, 3}, 42},
		{"no topic", Place{"", orders.TopicID, 3}, 42},
		{"created again", Place{"orders", [16]byte{1, 2, 3, 15: 17}, 3}, 42},
		{"unknown ID", Place{"orders", [16]byte{}, 3}, 42},
		{"partition", Place{"orders", orders.TopicID, 4}, 42},
		{"position", orders, 41},
		{"position above", orders, 43},
		{"position 0", orders, 0},
	} {
		runs, err := Decode(test.place, test.position, 100, text)
		assert.ErrorIs(t, err, ErrSum, test.name)
		assert.Nil(t, runs, test.name)
	}
}

// A text that would be too large ends after the last run that fits.
func TestCut(t *testing.T) {
	for _, test := range []struct {
		name        string
		gap, length int64
		fit         int // runs
	}{
		{"one byte each", 1, 1, 764},
		{"two and one", 128, 127, 509},
		{"three and two", 1 << 14, 1 << 7, 305},
		{"five each", math.MaxInt32, math.MaxInt32, 152},
	} {
		t.Run(test.name, func(t *testing.T) {
			var runs []Run
			for at := int64(7); len(runs) < 1000; {
				runs = append(runs, Run{at + test.gap, at + test.gap + test.length})
				at = runs[len(runs)-1].To
			}
			text := Encode(orders, 7, runs)
			assert.LessOrEqual(t, len(text), MaxText)
			back, err := Decode(orders, 7, math.MaxInt64, text)
			require.NoError(t, err)
			assert.Equal(t, runs[:test.fit], back)
			assert.Equal(t, text, Encode(orders, 7, runs[:test.fit]), "what does not fit leaves no trace")
			if test.fit > 1 {
				assert.Less(t, len(Encode(orders, 7, runs[:test.fit-1])), len(text))
			}
		})
	}
}

// places are any place, those that differ in little among them.
func places() *rapid.Generator[Place] {
	return rapid.Custom(func(t *rapid.T) Place {
		return Place{
			Topic:     rapid.SampledFrom([]string{"", "a", "ab", "b", "orders", strings.Repeat("t", 249)}).Draw(t, "topic"),
			TopicID:   [16]byte{15: rapid.Byte().Draw(t, "ID")},
			Partition: rapid.Int32().Draw(t, "partition"),
		}
	})
}

// The model is a set of offsets, each finished on its own. What is read is the set
// without what lies at or below the position; a larger set is read up to an offset.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		place := places().Draw(t, "place")
		position := rapid.Int64Range(0, math.MaxInt64-5000).Draw(t, "position")
		span := rapid.SampledFrom([]int64{3, 20, 300, 5000}).Draw(t, "span")
		thick := rapid.IntRange(0, 100).Draw(t, "percent finished")
		set := make([]bool, span) // of position, position+1, …
		for i, dice := range rapid.SliceOfN(rapid.IntRange(0, 99), int(min(span, 300)), int(min(span, 300))).Draw(t, "dice") {
			for j := i; j < len(set); j += 300 {
				set[j] = (dice+j/300*37)%100 < thick
			}
		}

		text := Encode(place, position, runsOf(position, set))
		require.LessOrEqual(t, len(text), MaxText)
		back, err := Decode(place, position, position+span, text)
		require.NoError(t, err)

		set[0] = false // the position
		got := offsets(t, position, span, back)
		reach := len(set)
		if full := len(text) >= MaxText-2*binary.MaxVarintLen32; full {
			require.NotEmpty(t, back)
			reach = int(back[len(back)-1].To - position)
		}
		require.Equal(t, set[:reach], got[:reach])
		require.NotContains(t, got[reach:], true)
	})
}

// runsOf returns the runs of a set that begins at an offset.
func runsOf(first int64, set []bool) (runs []Run) {
	for i, done := range set {
		at := first + int64(i)
		switch n := len(runs); {
		case !done:
		case n > 0 && runs[n-1].To == at:
			runs[n-1].To++
		default:
			runs = append(runs, Run{at, at + 1})
		}
	}
	return runs
}

// offsets returns the set of runs, which rise, do not touch and lie above first.
func offsets(t require.TestingT, first, span int64, runs []Run) []bool {
	set := make([]bool, span)
	at := first
	for _, r := range runs {
		require.Greater(t, r.From, at)
		require.Greater(t, r.To, r.From)
		require.LessOrEqual(t, r.To, first+span)
		for o := r.From; o < r.To; o++ {
			set[o-first] = true
		}
		at = r.To
	}
	return set
}

// The costs of runs say whether a text names them all.
func TestCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		position := rapid.Int64Range(0, 1<<40).Draw(t, "position")
		long := rapid.SampledFrom([]int64{1, 127, 128, 1 << 14, 1 << 21, 1 << 28, math.MaxInt32}).Draw(t, "long")
		n := rapid.IntRange(0, 800).Draw(t, "runs")
		lengths := rapid.SliceOfN(rapid.Int64Range(1, long), 1, 8).Draw(t, "lengths")
		huge := rapid.SampledFrom([]int{-1, -1, -1, 0, 3, 4}).Draw(t, "huge")
		var runs []Run
		cost, at := 0, position
		for i := range n {
			gap, length := lengths[i%len(lengths)], lengths[i/2%len(lengths)]
			if i/2 == huge {
				gap, length = gap+int64(i%2)<<31, length+int64(1-i%2)<<31
			}
			cost += Cost(gap, length)
			runs = append(runs, Run{at + gap, at + gap + length})
			at += gap + length
		}
		back, err := Decode(orders, position, math.MaxInt64, Encode(orders, position, runs))
		require.NoError(t, err)
		require.Equal(t, len(back) == len(runs), cost <= Room, "%d of %d runs, which cost %d", len(back), len(runs), cost)
	})
}

// Whatever Encode gets, in any order, it names nothing that lies in none of the runs.
func TestNamesOnlyWhatIsFinished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]int64{0, 1000, 1 << 40, math.MaxInt64 - 60}).Draw(t, "base")
		offset := rapid.OneOf(rapid.Int64Range(base, base+60),
			rapid.SampledFrom([]int64{math.MinInt64, -1, 0, 1<<31 - 1, 1 << 31, math.MaxInt64 - 1, math.MaxInt64}))
		position := offset.Draw(t, "position")
		runs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Run {
			return Run{offset.Draw(t, "from"), offset.Draw(t, "to")}
		}), 0, 8).Draw(t, "runs")

		back, err := Decode(orders, position, math.MaxInt64, Encode(orders, position, runs))
		require.NoError(t, err)
		at := position
		for _, r := range back {
			require.Greater(t, r.From, at)
			require.Greater(t, r.To, r.From)
			require.True(t, covered(r, runs), "%v of %v", r, runs)
			at = r.To
		}
	})
}

// covered reports whether each offset of r lies in one of runs.
func covered(r Run, runs []Run) bool {
	for r.From < r.To {
		before := r.From
		for _, c := range runs {
			if c.From <= r.From && r.From < c.To {
				r.From = c.To
			}
		}
		if r.From == before {
			return false
		}
	}
	return true
}

// FuzzDecode reads any text, as it is and with a right sum. What can be read is what
// Encode writes for these runs, byte by byte; they rise above the position and end
// within the log.
func FuzzDecode(f *testing.F) {
	f.Add("orders", int32(3), int64(42), int64(100), Encode(orders, 42, []Run{{43, 44}, {50, 60}}), []byte{1, 1, 6, 10})
	f.Add("orders", int32(3), int64(0), int64(-1), "AgAAAYxkq0b1", uvarints(1, 1<<31))
	f.Add("", int32(-1), int64(math.MaxInt64-2), int64(math.MaxInt64), "gk1.\n", uvarints(1, 1))
	f.Add("t", int32(0), int64(-1), int64(5), "gk1.AAAA", uvarints(math.MaxInt32, math.MaxInt32, 1, 1<<63))
	f.Add("t", int32(0), int64(5), int64(5), "gk1.AAAAAAAA", []byte{0x81, 0x00, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2})
	f.Fuzz(func(t *testing.T, topic string, partition int32, position, end int64, text string, lengths []byte) {
		place := Place{Topic: topic, TopicID: orders.TopicID, Partition: partition}
		for _, text := range []string{text, seal(place, position, lengths[:len(lengths):len(lengths)]...)} {
			runs, err := Decode(place, position, end, text)
			if err != nil {
				require.Nil(t, runs)
				continue
			}
			require.Equal(t, text, Encode(place, position, runs))
			at := position
			for _, r := range runs {
				require.Greater(t, r.From, at)
				require.Greater(t, r.To, r.From)
				require.LessOrEqual(t, r.To, end)
				at = r.To
			}
		}
	})
}

func benchRuns(n int) (runs []Run) {
	for i := range int64(n) {
		runs = append(runs, Run{43 + 5*i, 46 + 5*i})
	}
	return runs
}

var sizes = []struct {
	name string
	n    int
}{{"1 run", 1}, {"64 runs", 64}, {"full", 2000}}

func BenchmarkEncode(b *testing.B) {
	for _, size := range sizes {
		runs := benchRuns(size.n)
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Encode(orders, 42, runs)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range sizes {
		text := Encode(orders, 42, benchRuns(size.n))
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(orders, 42, math.MaxInt64, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
