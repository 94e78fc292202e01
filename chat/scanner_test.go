package chat

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// C13 test_find_prefix_at_end; the values of P-find_prefix_values.
func TestC13FindPrefixAtEnd(t *testing.T) {
	for _, x := range []struct {
		haystack, needle string
		want             int
	}{
		{"qwerty\r", "\r\n", 1},
		{"qwertydkjf", "\r\n", 0},
		{"xaa", "aab", 2},
		{"xaaa", "aab", 2},
		{"ab\r\n.\r", "\r\n.\r\n", 4},
		{"", "ab", 0},
		{"a", "ab", 1},
		{"boundary=" + strings.Repeat("-", 30), strings.Repeat("-", 40) + "x", 30},
		{strings.Repeat("ab", 20) + "a", strings.Repeat("ab", 15) + "c", 29},
	} {
		require.Equal(t, x.want, prefixAtEnd([]byte(x.haystack), x.needle), "%q %q", x.haystack, x.needle)
	}
}

func TestBorderAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		b := make([]byte, rng.IntN(60))
		for i := range b {
			b[i] = "ab"[rng.IntN(2)]
		}
		s := string(b)
		want := 0
		for k := 1; k < len(s); k++ {
			if s[:k] == s[len(s)-k:] {
				want = k
			}
		}
		require.Equal(t, want, border(s), "%q", s)
	}
}

// stream is a script of terminators, one after the other and then round again, over a stream of bytes.
type stream struct {
	script []Terminator
	limit  int
	block  int64
	data   string
}

// scan runs the scanner over the pieces. A token that is too long is skipped, as SkipToken does.
func (x *stream) scan(pieces [][]byte) string {
	var log eventLog
	sc := scanner{limit: int32(x.limit), block: x.block}
	n := 0
	sc.set(x.script[0])
	for _, p := range pieces {
		for empty := 0; len(p) > 0 || sc.kind == kindCount && sc.count == 0; {
			data, used, ev := sc.step(p)
			if len(data) > 0 {
				log.collect(data)
			}
			p = p[used:]
			switch ev {
			case scanTooLong:
				log.add("too long")
				sc.skip = true
			case scanFound:
				log.add("found")
				sc.finish()
				n++
				sc.set(x.script[n%len(x.script)])
				empty++
			default:
				if used == 0 && len(data) == 0 && len(p) > 0 {
					panic("no progress")
				}
			}
			if empty > 3 && len(p) == 0 {
				break
			}
		}
	}
	if back := sc.pending(0); back != "" && !sc.skip {
		log.collect([]byte(back))
	}
	return log.String()
}

// model says what scan must say, from the whole stream at once and without any cleverness.
func (x *stream) model() string {
	var log eventLog
	rest := x.data
	emit := func(s string) {
		if s != "" {
			log.collect([]byte(s))
		}
	}
	// bounded emits a token and tells whether it was too long.
	bounded := func(s string) {
		if len(s) > x.limit {
			emit(s[:x.limit])
			log.add("too long")
			return
		}
		emit(s)
	}
	for n := 0; rest != ""; n++ {
		term := x.script[n%len(x.script)]
		end, next := -1, -1
		switch term.kind() {
		case kindNone:
			emit(rest)
			return log.String()
		case kindCount:
			if int64(len(rest)) < term.n {
				emit(rest)
				return log.String()
			}
			emit(rest[:term.n])
			rest = rest[term.n:]
			log.add("found")
			continue
		case kindDot:
			used := x.modelDot(rest, &log)
			if used < 0 {
				return log.String()
			}
			rest = rest[used:]
			log.add("found")
			continue
		case kindLiteral:
			if end = strings.Index(rest, term.lit); end >= 0 {
				next = end + len(term.lit)
			}
		case kindLine:
			if end = strings.IndexByte(rest, '\n'); end >= 0 {
				next = end + 1
				if end > 0 && rest[end-1] == '\r' {
					end--
				}
			}
		}
		if end < 0 { // the end of the input; what could be a terminator's beginning does not count as too long
			held := 0
			if term.kind() == kindLine {
				if strings.HasSuffix(rest, "\r") {
					held = 1
				}
			} else {
				for k := 1; k < len(term.lit) && k <= len(rest); k++ {
					if strings.HasSuffix(rest, term.lit[:k]) {
						held = k
					}
				}
			}
			if len(rest)-held > x.limit {
				bounded(rest[:len(rest)-held])
			} else {
				emit(rest)
			}
			return log.String()
		}
		bounded(rest[:end])
		log.add("found")
		rest = rest[next:]
	}
	return log.String()
}

// modelDot reads one dot block, octet by octet; it returns how many it took, -1 if the block does not end.
func (x *stream) modelDot(s string, log *eventLog) int {
	start, line, block := true, 0, int64(0)
	over := false
	put := func(c byte) {
		switch {
		case over:
		case line > x.limit, line == x.limit && c != '\r', block >= x.block: // a CR there may be the end of the line
			log.add("too long")
			over = true
		default:
			log.collect([]byte{c})
			line++
			block++
		}
	}
	for i := 0; i < len(s); {
		switch rest := s[i:]; {
		case start && strings.HasPrefix(rest, ".\r\n"):
			return i + 3
		case start && (rest == "." || rest == ".\r"): // the end of the input: held back
			if !over {
				log.collect([]byte(rest))
			}
			return -1
		case start && rest[0] == '.':
			i++
			start = false
		case strings.HasPrefix(rest, "\r\n"):
			put('\r')
			line = 0 // the LF ends the line and is not of it
			put('\n')
			line = 0
			start = true
			i += 2
		default:
			start = false
			put(rest[0])
			i++
		}
	}
	return -1
}

// cut cuts the stream at random places.
func (x *stream) cut(rng *rand.Rand) (pieces [][]byte) {
	rest := []byte(x.data)
	biggest := 1 + rng.IntN(8)
	for len(rest) > 0 {
		n := min(1+rng.IntN(biggest), len(rest))
		pieces = append(pieces, bytes.Clone(rest[:n])) // a copy: reading beyond the cut would be a fault
		rest = rest[n:]
	}
	return pieces
}

func randomStream(rng *rand.Rand) *stream {
	alphabet := []string{"ab", "a\r\n", "\r\n.", "\r\n.x", "ab\r\n."}[rng.IntN(5)]
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	x := &stream{limit: 1 + rng.IntN(12), block: int64(1 + rng.IntN(30))}
	if rng.IntN(3) == 0 {
		x.limit, x.block = 1000, 1000
	}
	for range 1 + rng.IntN(3) {
		switch rng.IntN(8) {
		case 0:
			x.script = append(x.script, Count(int64(1+rng.IntN(6))))
		case 1, 2:
			x.script = append(x.script, Line)
		case 3, 4:
			x.script = append(x.script, Dot)
		case 5:
			x.script = append(x.script, CRLF)
		default:
			x.script = append(x.script, Literal(word(1+rng.IntN(6))))
		}
	}
	x.data = word(rng.IntN(60))
	for range rng.IntN(4) {
		x.data += []string{"\r\n.\r\n", "\r\n..\r\n", ".\r\n", "\r\n", "..", "\n.\n"}[rng.IntN(6)] + word(rng.IntN(6))
	}
	return x
}

// Rule 10: the result does not depend on how the bytes were cut. 200,000 random cuts.
func TestSplitInvariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	const streams, cuts = 20_000, 10
	for range streams {
		x := randomStream(rng)
		want := x.model()
		if got := x.scan([][]byte{[]byte(x.data)}); got != want {
			t.Fatalf("script %v limit %d block %d\ndata %q\nwant %s\n got %s", x.script, x.limit, x.block, x.data, want, got)
		}
		for range cuts {
			pieces := x.cut(rng)
			if got := x.scan(pieces); got != want {
				t.Fatalf("script %v limit %d block %d\ncut into %q\nwant %s\n got %s", x.script, x.limit, x.block, pieces, want, got)
			}
		}
	}
}

// FuzzScanner: any stream, any cuts, any of a set of scripts gives the same events, and those of the model.
func FuzzScanner(f *testing.F) {
	f.Add("one\r\ntwo\r\n.\r\n", uint64(1), uint8(0), 5, 20)
	f.Add(".\r\n..\r\n.\r\n", uint64(2), uint8(1), 100, 100)
	f.Add("aabaabaab", uint64(3), uint8(2), 2, 9)
	f.Add("a\rb\nc\r\r\n", uint64(4), uint8(3), 1, 1)
	scripts := [][]Terminator{
		{CRLF}, {Dot}, {Literal("aab"), Count(2)}, {Line}, {CRLF, Dot}, {Literal("a")}, {Literal("abab")}, {Line, Count(3), Dot},
	}
	f.Fuzz(func(t *testing.T, data string, seed uint64, script uint8, limit, block int) {
		x := &stream{script: scripts[int(script)%len(scripts)], data: data,
			limit: 1 + abs(limit)%1000, block: int64(1 + abs(block)%1000)}
		want := x.model()
		rng := rand.New(rand.NewPCG(seed, 0))
		for _, pieces := range [][][]byte{{[]byte(data)}, x.cut(rng), x.cut(rng)} {
			if got := x.scan(pieces); got != want {
				t.Fatalf("script %v limit %d block %d\npieces %q\nwant %s\n got %s", x.script, x.limit, x.block, pieces, want, got)
			}
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }

// The limit is exact: a token of the limit passes, one octet more does not, wherever the cuts are.
func TestTokenLimitIsExact(t *testing.T) {
	for _, term := range []Terminator{Literal("\n"), CRLF, Line, Literal("aab")} {
		end := term.lit
		if term == Line {
			end = "\r\n"
		}
		for n := range 8 {
			x := &stream{script: []Terminator{term}, limit: 5, block: 100, data: strings.Repeat("x", n) + end}
			for cut := 1; cut < len(x.data); cut++ {
				got := x.scan([][]byte{[]byte(x.data[:cut]), []byte(x.data[cut:])})
				require.Equal(t, n > 5, strings.Contains(got, "too long"), "%v, %d octets, cut at %d: %s", term, n, cut, got)
				require.Contains(t, got, "found")
			}
		}
	}
}

func TestTerminatorIsComparable(t *testing.T) {
	require.True(t, Literal("\r\n") == CRLF)
	require.True(t, Literal("") == None)
	three := Count(3)
	require.True(t, Count(3) == three)
	require.False(t, Count(0) == None)
	require.False(t, Line == Dot)
	f := func(data []byte, atEOF bool) (int, []byte, error) { return 0, nil, nil }
	s := Split(f)
	again := s
	require.True(t, s == again)
	require.False(t, s == Split(f))
}

// C14 test_disallow_negative_terminator.
func TestC14NegativeTerminator(t *testing.T) {
	require.PanicsWithValue(t, "chat: negative count", func() { Count(-1) })
}

func TestTerminatorString(t *testing.T) {
	for _, x := range []struct {
		term Terminator
		want string
	}{
		{None, "None"}, {CRLF, `"\r\n"`}, {Count(7), "Count(7)"}, {Count(0), "Count(0)"}, {Line, "Line"}, {Dot, "Dot"},
		{Split(nil), "Split"},
	} {
		require.Equal(t, x.want, fmt.Sprint(x.term))
	}
}

// A long terminator against input made to mismatch late costs no more than a small multiple of its length per octet.
func TestLongLiteralDoesNotExplode(t *testing.T) {
	lit := strings.Repeat("a", 2000) + "b"
	x := &stream{script: []Terminator{Literal(lit)}, limit: 1 << 20, block: 1, data: strings.Repeat("a", 20_000) + "b"}
	var pieces [][]byte
	for i := 0; i < len(x.data); i += 7 {
		pieces = append(pieces, []byte(x.data[i:min(i+7, len(x.data))]))
	}
	require.Equal(t, x.model(), x.scan(pieces))
}

func BenchmarkScanner(b *testing.B) {
	line := strings.Repeat("x", 30)
	for _, x := range []struct {
		name string
		term Terminator
		end  string
	}{
		{"literal1", Literal("\n"), "\n"},
		{"literal2", CRLF, "\r\n"},
		{"literal5", Literal("\r\n.\r\n"), "\r\n.\r\n"},
		{"line", Line, "\r\n"},
		{"count", Count(32), "xx"},
		{"dot", Dot, "\r\n.\r\n"},
	} {
		b.Run(x.name, func(b *testing.B) {
			data := []byte(strings.Repeat(line+x.end, 1000))
			var sc scanner
			sc.set(x.term)
			b.SetBytes(int64(len(data) / 1000))
			b.ReportAllocs()
			for n := 0; n < b.N; {
				for p := data; len(p) > 0; {
					_, used, ev := sc.step(p)
					p = p[used:]
					if ev == scanFound {
						sc.finish()
						sc.set(x.term)
						n++
					}
				}
			}
		})
	}
}
