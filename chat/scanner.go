package chat

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"unsafe"
)

const (
	// DefaultLimit is the longest token of a Literal, Line or Split terminator, and the longest line of a Dot block, in
	// bytes without the terminator.
	DefaultLimit = 64 << 10

	// DefaultBlockLimit is the largest Dot block, in bytes as handed on.
	DefaultBlockLimit = 32 << 20

	splitSlack  = 1 << 10 // a Split's delimiter may be that long
	maxNoInput  = 1000    // tokens in a row that use up no input
	smallNeedle = 16
)

// scanner cuts a stream into tokens: bytes in, events out. It holds no data: what it keeps back is always a prefix of
// the terminator, so that a number says which. The zero value scans for None.
type scanner struct {
	term  Terminator
	count int64 // Count: bytes still missing; otherwise bytes of the token that were handed on
	block int64 // the limit of a Dot block, 0: DefaultBlockLimit
	line  int32 // Dot: bytes of the line so far, its CR included
	held  int32 // Literal, Line: bytes of the terminator that have come
	limit int32 // of a token, or of a line of a Dot block; 0: DefaultLimit
	kind  kind
	dot   dotState
	skip  bool // the rest of the token is dropped
	idle  bool // no byte of the token has come
}

// scanEvent is what a step found.
type scanEvent uint8

const (
	scanMore    scanEvent = iota // the data alone; if nothing was used up either, more input is needed
	scanFound                    // the token ends here
	scanTooLong                  // the next byte would be one too many
)

// set begins a new token.
func (s *scanner) set(t Terminator) {
	s.term = t
	s.kind = t.kind()
	if s.kind == kindLiteral && len(t.lit) == 1 {
		s.kind = kindByte
	}
	s.restart()
}

// restart begins a new token with the same terminator.
func (s *scanner) restart() {
	s.count = 0
	if s.kind == kindCount {
		s.count = max(s.term.n, 0)
	}
	s.line, s.held, s.dot, s.skip, s.idle = 0, 0, dotStart, false, true
}

// finish is called when a token was found: a Count is one-shot.
func (s *scanner) finish() {
	if s.kind == kindCount {
		s.set(None)
		return
	}
	s.restart()
}

// pending returns what is held back: it came, was not handed on, and would be data if no more came. after is how many
// of these bytes were handed on all the same.
func (s *scanner) pending(after int) string {
	switch s.kind {
	case kindLiteral:
		return s.term.lit[min(after, int(s.held)):s.held]
	case kindLine:
		return "\r"[min(after, int(s.held)):s.held]
	case kindDot:
		switch s.dot { // un-stuffed: the dot itself is not data, unless nothing follows it
		case dotDot:
			return "."
		case dotDotCR:
			return ".\r"
		}
	}
	return ""
}

// midToken tells whether a token has begun and not ended.
func (s *scanner) midToken() bool { return !s.idle && s.kind != kindNone }

// step scans p from its beginning. It returns data to hand on (p[:len(data)], or bytes that were held back, and then used
// is 0), how many bytes of p are used up, and what it found. With scanMore, nothing used and no data, it needs more input.
// Split is not for it: see Conn.stepSplit.
func (s *scanner) step(p []byte) (data []byte, used int, ev scanEvent) {
	if len(p) > 0 {
		s.idle = false
	}
	switch s.kind {
	case kindByte:
		i := bytes.IndexByte(p, s.term.lit[0])
		if i < 0 {
			return s.bounded(p, len(p), scanMore)
		}
		return s.bounded(p[:i], i+1, scanFound)
	case kindLiteral:
		return s.stepLiteral(p)
	case kindLine:
		return s.stepLine(p)
	case kindCount:
		if int64(len(p)) < s.count {
			s.count -= int64(len(p))
			return p, len(p), scanMore
		}
		n := int(s.count)
		s.count = 0
		return p[:n], n, scanFound
	case kindDot:
		return s.stepDot(p)
	}
	return p, len(p), scanMore
}

// find returns where in p a delimited token ends and where the next one begins, for a token that begins with p; i is
// negative if it does not end in p.
func (s *scanner) find(p []byte) (i, end int) {
	if lit := s.term.lit; len(lit) > 1 {
		i = strings.Index(view(p), lit)
		return i, i + len(lit)
	}
	return s.findShort(p)
}

// findShort is find for kindByte and kindLine.
func (s *scanner) findShort(p []byte) (i, end int) {
	if s.kind == kindByte {
		i = bytes.IndexByte(p, s.term.lit[0])
		return i, i + 1
	}
	i = bytes.IndexByte(p, '\n')
	if i > 0 && p[i-1] == '\r' {
		return i - 1, i + 1
	}
	return i, i + 1
}

// view is p as a string, without a copy; for searching.
func view(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// bounded holds a token to its limit: what is handed on, and when it is too much, do not depend on where the input was
// cut.
func (s *scanner) bounded(data []byte, used int, ev scanEvent) ([]byte, int, scanEvent) {
	if s.skip {
		return nil, used, ev
	}
	s.count += int64(len(data))
	if over := s.count - int64(s.tokenLimit()); over > 0 {
		s.count -= over
		return data[:len(data)-int(over)], len(data) - int(over), scanTooLong
	}
	return data, used, ev
}

func (s *scanner) tokenLimit() int {
	if s.limit == 0 {
		return DefaultLimit
	}
	return int(s.limit)
}

func (s *scanner) blockLimit() int64 {
	if s.block == 0 {
		return DefaultBlockLimit
	}
	return s.block
}

func (s *scanner) stepLiteral(p []byte) (data []byte, used int, ev scanEvent) {
	lit := s.term.lit
	if s.held > 0 {
		return s.resume(p)
	}
	i := strings.Index(view(p), lit)
	if i >= 0 {
		return s.bounded(p[:i], i+len(lit), scanFound)
	}
	k := prefixAtEnd(p, lit)
	data, used, ev = s.bounded(p[:len(p)-k], len(p), scanMore)
	if ev == scanMore {
		s.held = int32(k)
	}
	return data, used, ev
}

// resume goes on with a partial match of an earlier read. The stream is lit[:held] and then p; the match that is tried
// begins at start in it.
func (s *scanner) resume(p []byte) (data []byte, used int, ev scanEvent) {
	lit, held := s.term.lit, int(s.held)
	start, i, j := 0, 0, held // j bytes match, up to p[i]
	for i < len(p) && start < held {
		switch {
		case p[i] == lit[j]:
			i++
			if j++; j == len(lit) {
				if start == 0 {
					s.held = 0
					return nil, i, scanFound
				}
				return s.release(p, start, held-start) // found at the next step
			}
		case j == 0:
			start, i = start+1, i+1
		default:
			b := border(lit[:j])
			start += j - b
			j = b
		}
	}
	if start >= held {
		return s.release(p, held, 0)
	}
	if start == 0 {
		s.held = int32(j)
		return nil, len(p), scanMore
	}
	return s.release(p, start, held-start)
}

// release hands on the first n of the bytes held back and keeps the last ones, which are a shorter prefix of the
// terminator.
func (s *scanner) release(p []byte, n, keep int) (data []byte, used int, ev scanEvent) {
	if s.skip {
		s.held = int32(keep)
		return s.step(p)
	}
	data, _, ev = s.bounded([]byte(s.pending(0)[:n]), 0, scanMore)
	if ev == scanMore {
		s.held = int32(keep)
	}
	return data, 0, ev
}

// border returns the length of the longest proper prefix of s that also ends it.
func border(s string) int {
	if len(s) <= smallNeedle {
		for k := len(s) - 1; k > 0; k-- {
			if s[:k] == s[len(s)-k:] {
				return k
			}
		}
		return 0
	}
	// Knuth, Morris and Pratt's failure function.
	fail := make([]int, len(s))
	for i, k := 1, 0; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = fail[k-1]
		}
		if s[i] == s[k] {
			k++
		}
		fail[i] = k
	}
	return fail[len(s)-1]
}

// prefixAtEnd returns the length of the longest proper prefix of lit that ends p. [asynchat.find_prefix_at_end]
func prefixAtEnd(p []byte, lit string) int {
	k := min(len(lit)-1, len(p))
	if k <= smallNeedle {
		for ; k > 0; k-- {
			if string(p[len(p)-k:]) == lit[:k] {
				return k
			}
		}
		return 0
	}
	for ; k > 0; k-- { // long: look for its first byte instead of comparing at every place
		i := bytes.IndexByte(p[len(p)-k:], lit[0])
		if i < 0 {
			return 0
		}
		k -= i
		if string(p[len(p)-k:]) == lit[:k] {
			return k
		}
	}
	return 0
}

func (s *scanner) stepLine(p []byte) (data []byte, used int, ev scanEvent) {
	if len(p) == 0 {
		return nil, 0, scanMore
	}
	if s.held > 0 { // a CR
		if p[0] == '\n' {
			s.held = 0
			return nil, 1, scanFound
		}
		return s.release(p, 1, 0)
	}
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		n := len(p)
		if p[n-1] == '\r' {
			n--
		}
		data, used, ev = s.bounded(p[:n], len(p), scanMore)
		if ev == scanMore {
			s.held = int32(len(p) - n)
		}
		return data, used, ev
	}
	n := end
	if n > 0 && p[n-1] == '\r' {
		n--
	}
	return s.bounded(p[:n], end+1, scanFound)
}

// dotState is where in a dot block the scanner stands.
type dotState uint8

const (
	dotStart dotState = iota // at the beginning of a line
	dotText                  // in a line
	dotCR                    // in a line, behind a CR
	dotDot                   // behind a dot that began a line: held back
	dotDotCR                 // behind that and a CR: held back
)

// stepDot scans a dot block (RFC 5321 section 4.5.2): a dot that begins a line is dropped, unless the line is that dot
// alone, which ends the block. Lines end in CRLF only; a CR or LF by itself is text. The CRLF before the last line is part
// of the text.
func (s *scanner) stepDot(p []byte) (data []byte, used int, ev scanEvent) {
	if len(p) == 0 {
		return nil, 0, scanMore
	}
	switch s.dot {
	case dotDot:
		if p[0] == '\r' {
			s.dot = dotDotCR
			return nil, 1, scanMore
		}
		s.dot = dotText
	case dotDotCR:
		if p[0] == '\n' {
			return nil, 1, scanFound
		}
		if s.count >= s.blockLimit() && !s.skip {
			return nil, 0, scanTooLong
		}
		s.dot, s.line = dotCR, 1
		if s.skip {
			return s.stepDot(p)
		}
		s.count++
		return []byte("\r"), 0, scanMore
	}
	i := 0
	for i < len(p) {
		if s.dot == dotStart {
			if p[i] == '.' {
				if i > 0 {
					break
				}
				s.dot = dotDot
				return nil, 1, scanMore
			}
			s.dot = dotText
		}
		text := p[i:]
		if n := bytes.IndexByte(text, '\n'); n >= 0 {
			text = text[:n+1]
		}
		if room := s.dotRoom(text, i); room < len(text) {
			if room == 0 && i == 0 {
				return nil, 0, scanTooLong
			}
			if room == 0 {
				break
			}
			text = text[:room]
		}
		s.note(text)
		i += len(text)
	}
	if s.skip {
		return nil, i, scanMore
	}
	s.count += int64(i)
	return p[:i], i, scanMore
}

// dotRoom returns how much of text fits the limits of line and block; i bytes of this step are taken already.
func (s *scanner) dotRoom(text []byte, i int) int {
	if s.skip {
		return len(text)
	}
	room := int64(len(text))
	if over := s.overlong(text); over >= 0 {
		room = int64(over)
	}
	return int(min(room, s.blockLimit()-s.count-int64(i)))
}

// note moves the state behind text, which holds no LF but at its end.
func (s *scanner) note(text []byte) {
	n := len(text)
	if n == 0 {
		return
	}
	wasCR := s.dot == dotCR
	if n > 1 {
		wasCR = text[n-2] == '\r'
	}
	switch {
	case text[n-1] == '\n' && wasCR:
		s.dot, s.line = dotStart, 0
		return
	case text[n-1] == '\r':
		s.dot = dotCR
	default:
		s.dot = dotText
	}
	s.line = int32(min(int64(s.line)+int64(n), 1<<30))
}

// overlong returns where in text, which goes on with the line, the line gets longer than its limit, or -1. The CR and LF
// that end it do not count.
func (s *scanner) overlong(text []byte) int {
	limit, line := s.tokenLimit(), int(s.line)
	if line+len(text) <= limit {
		return -1
	}
	at := limit - line
	behindCR := s.dot == dotCR
	if at > 0 {
		behindCR = text[at-1] == '\r'
	}
	switch {
	case at < -1:
		return 0
	case at == -1: // a CR stands where the limit is
		if text[0] == '\n' && behindCR {
			return -1
		}
		return 0
	case text[at] == '\n' && behindCR:
		return -1
	case text[at] == '\r': // right if it ends the line
		at++
		if at == len(text) || text[at] == '\n' {
			return -1
		}
	}
	return at
}

var errNoProgress = errors.New("chat: no progress: tokens in a row that use up no input")

// split asks the function, and checks its answer.
func (s *scanner) split(p []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = s.term.split.f(p, atEOF)
	switch {
	case err != nil && err != bufio.ErrFinalToken:
	case advance < 0:
		err = bufio.ErrNegativeAdvance
	case advance > len(p):
		err = bufio.ErrAdvanceTooFar
	}
	return advance, token, err
}
