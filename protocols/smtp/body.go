package smtp

import "bytes"

// bodyScanner looks at a message as it passes, and holds nothing of it: bare CR and LF, NUL, the length of lines, the size,
// and how many Received fields its header has. What it finds does not depend on how the message is cut.
type bodyScanner struct {
	size     int64 // octets so far
	line     int   // octets of this line so far
	cr       bool  // the last one was a CR
	body     bool  // the header is over
	bare     bool  // CR and LF by themselves are allowed
	received bool  // this line is so far how a Received field begins
	hops     int
}

// What is found. The rest of the message is read and dropped.
var (
	errBare     = Replyf(550, "5.5.2", "A CR or LF by itself in the message; lines end in CRLF")
	errNUL      = Replyf(550, "5.6.0", "A NUL in the message")
	errLongLine = Replyf(554, "5.6.0", "A line of the message is too long")
	errTooLarge = Replyf(552, "5.3.4", "Message too large")
	errHops     = Replyf(554, "5.4.6", "Too many hops: the message goes in a circle")
)

const receivedName = "received:"

// scan looks at the next piece. bad is what is wrong with the octet p[n], nil if nothing is; what stands before is good.
// binary allows everything but what is too large, or went in a circle.
func (b *bodyScanner) scan(p []byte, l *Limits, binary bool) (n int, bad *Reply) {
	var end *Reply
	if room := l.MessageSize - b.size; l.MessageSize >= 0 && int64(len(p)) > room {
		p, end = p[:room], errTooLarge
	}
	for n < len(p) {
		seg := p[n:]
		lf := bytes.IndexByte(seg, '\n')
		if lf >= 0 {
			seg = seg[:lf]
		}
		if !binary {
			if at, bad := b.check(seg, lf >= 0, l); bad != nil {
				b.size += int64(n + at)
				return n + at, bad
			}
		}
		b.name(seg)
		if lf < 0 {
			b.line += len(seg)
			if len(seg) > 0 {
				b.cr = seg[len(seg)-1] == '\r'
			}
			n += len(seg)
			break
		}
		if len(seg) > 0 {
			b.cr = seg[len(seg)-1] == '\r'
		}
		if bad = b.endLine(b.line+len(seg), l); bad != nil {
			b.size += int64(n + lf)
			return n + lf, bad
		}
		n += lf + 1
	}
	b.size += int64(n)
	return n, end
}

// check looks at a piece of a line, without its LF: at is the first octet, or the LF, that is wrong.
func (b *bodyScanner) check(seg []byte, lf bool, l *Limits) (at int, bad *Reply) {
	at = len(seg) + 1
	note := func(i int, why *Reply) {
		if i < at {
			at, bad = i, why
		}
	}
	cr := bytes.IndexByte(seg, '\r')
	switch {
	case b.bare:
	case b.cr && len(seg) > 0:
		note(0, errBare)
	case cr >= 0 && cr < len(seg)-1:
		note(cr+1, errBare)
	case lf && cr < 0 && !b.cr:
		note(len(seg), errBare)
	}
	if i := bytes.IndexByte(seg, 0); i >= 0 {
		note(i, errNUL)
	}
	total := b.line + len(seg)
	if lf {
		total++
	}
	if l.TextLine > 0 && total > l.TextLine {
		note(l.TextLine-b.line, errLongLine)
	}
	return at, bad
}

// name compares the beginning of a line with that of a Received field.
func (b *bodyScanner) name(seg []byte) {
	if b.body || b.line >= len(receivedName) {
		return
	}
	if b.line == 0 {
		b.received = true
	}
	for i, c := range seg[:min(len(seg), len(receivedName)-b.line)] {
		if lower(c) != receivedName[b.line+i] {
			b.received = false
			return
		}
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// endLine is the end of a line of so many octets without its LF, the last of them a CR if b.cr says so.
func (b *bodyScanner) endLine(line int, l *Limits) *Reply {
	empty := line == 0 || line == 1 && b.cr
	b.line, b.cr = 0, false
	switch {
	case b.body:
	case empty:
		b.body = true
	case b.received && line >= len(receivedName):
		if b.hops++; exceeds(b.hops, l.Hops) {
			return errHops
		}
	}
	return nil
}

// end is the end of the message.
func (b *bodyScanner) end(binary bool) *Reply {
	if b.cr && !binary && !b.bare {
		return errBare
	}
	return nil
}
