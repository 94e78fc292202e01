package smtp

import "bytes"

// stuffer turns the text of a message into what is sent of it: every CRLF, LF and CR becomes CRLF, and with dots one more
// dot stands before each that begins a line (RFC 5321 section 4.5.2). It holds nothing back: however the text is cut, what
// comes out is the same. The zero value is at the beginning of a message.
type stuffer struct {
	dots   bool // for DATA; BDAT counts octets instead
	inLine bool // something of a line was sent, and not its end
	wasCR  bool // the last octet was a CR, for which CRLF was sent already
	bare   bool // a CR or LF stood by itself
}

// Text of n octets becomes at most stuffGrowth*n, and stuffEnd for its end.
const (
	stuffGrowth = 2
	stuffEnd    = len("\r\n.\r\n")
)

// append appends what is sent for text.
func (d *stuffer) append(to, text []byte) []byte {
	if d.wasCR && len(text) > 0 {
		d.wasCR = false
		if text[0] == '\n' {
			text = text[1:]
		} else {
			d.bare = true
		}
	}
	for len(text) > 0 {
		if !d.inLine {
			if d.dots && text[0] == '.' {
				to = append(to, '.')
			}
			d.inLine = true
		}
		n := bytes.IndexByte(text, '\n')
		end := n
		if n < 0 {
			end = len(text)
		}
		if cr := bytes.IndexByte(text[:end], '\r'); cr >= 0 {
			end = cr
		}
		to = append(to, text[:end]...)
		if end == len(text) {
			return to
		}
		to = append(to, '\r', '\n')
		d.inLine = false
		switch cr := text[end] == '\r'; {
		case !cr:
			d.bare = true
			end++
		case end+1 == n:
			end += 2
		case end+1 == len(text):
			d.wasCR = true
			end++
		default:
			d.bare = true
			end++
		}
		text = text[end:]
	}
	return to
}

// end appends the end of the last line, if it has none, and for DATA the end of the message.
func (d *stuffer) end(to []byte) []byte {
	if d.wasCR {
		d.bare = true
	}
	if d.inLine {
		to = append(to, '\r', '\n')
	}
	if d.dots {
		to = append(to, '.', '\r', '\n')
	}
	return to
}
